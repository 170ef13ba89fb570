"""The support encoding: everything that the query path needs from the support set, stored with the model."""

from typing import Any, TypedDict

from torch import Tensor, nn

Encoding = dict[str, Tensor]


class SupportRecord(TypedDict):
    """Which support set made a result, as plain data: it goes into checkpoints and into the results' JSON."""

    images: list[str]
    """Files of the support images, or what stands for them."""
    labels: list[str]
    """Class of each of them, ``good`` where it is normal."""
    normal: bool
    """Whether every support image is normal (few-shot anomaly detection)."""


class SupportEncoding(nn.Module):
    """Encoded support classes, as buffers: they follow the model to devices, checkpoints and exports.

    Args:
        classes: One encoding per defect class, by name. Empty until a support set was encoded.
        normal: Whether every support mask is empty (few-shot anomaly detection).
        whole: Whether queries are resized whole to the crop instead of being cut in windows (large defects).
        preview: Thumbnail of the first support image ``(3, h, w)`` uint8, its mask outlined, for the pictures.
        record: Which support set it is.
    """

    preview: Tensor | None

    def __init__(
        self,
        classes: dict[str, Encoding] | None = None,
        *,
        normal: bool = False,
        whole: bool = False,
        preview: Tensor | None = None,
        record: SupportRecord | None = None,
    ) -> None:
        super().__init__()
        self.record: SupportRecord = record or {"images": [], "labels": [], "normal": normal}
        self.register_buffer("preview", preview)
        self.normal = normal
        self.whole = whole
        self.names: list[str] = []
        for name, encoding in (classes or {}).items():
            self._add(name, encoding)

    def _add(self, name: str, encoding: Encoding) -> None:
        holder = nn.Module()
        for key, value in encoding.items():
            holder.register_buffer(key, value)
        # class names may hold dots, module names may not
        self.add_module(str(len(self.names)), holder)
        self.names.append(name)

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.names)

    @property
    def encodings(self) -> list[Encoding]:
        """The tensors of each class, in the order of :attr:`names`."""
        return [dict(self.get_submodule(str(i)).named_buffers()) for i in range(len(self))]

    def get_extra_state(self) -> dict[str, Any]:
        """Return the plain data that belongs to the tensors."""
        return {"names": self.names, "normal": self.normal, "whole": self.whole, "record": dict(self.record)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_extra_state` returned."""
        self.names = list(state["names"])
        self.normal = state["normal"]
        self.whole = state["whole"]
        self.record = state["record"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over classes and tensors of any number and shape from a checkpoint."""
        names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
        self.register_buffer("preview", state_dict.get(f"{prefix}preview"))
        self._modules.clear()
        for index, name in (name.split(".") for name in names if "." in name):
            if index not in self._modules:
                self.add_module(index, nn.Module())
            self.get_submodule(index).register_buffer(name, state_dict[f"{prefix}{index}.{name}"].clone())
        super()._load_from_state_dict(state_dict, prefix, *args)


def encoding_bytes(encoding: SupportEncoding) -> int:
    """Return the memory of an encoding's tensors in bytes."""
    return sum(tensor.nbytes for tensor in encoding.buffers())
