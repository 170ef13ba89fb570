"""The support encoding: everything that the query path needs from the support set, stored with the model."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .examples import SupportRecord
from .probabilities import LIMIT
from .region_of_interest import RegionOfInterest

Encoding = dict[str, Tensor]


VERSION = 6
"""Of what an encoding holds; checkpoints with another one are refused: their support has to be encoded anew."""


CONTRAST = "contrast."
"""Before the names of the tensors of :attr:`SupportEncoding.contrast`."""
NORMAL_LIMITS = ("pixel_limit", "score_limit")
"""Names in an encoding of normality of the distances that become 0.5."""


class SupportEncoding(nn.Module):
    """Encoded support classes, as buffers: they follow the model to devices, checkpoints and exports.

    They stay float32 whatever the model's own precision is: closed forms are computed with them.

    Args:
        classes: One encoding per defect class, by name. Empty until a support set was encoded.
        normal: Whether every support mask is empty (few-shot anomaly detection).
        whole: Whether queries are resized whole to the crop instead of being cut in windows (large defects).
        preview: Thumbnail of the first support image ``(3, h, w)`` uint8, its mask outlined, for the pictures.
        record: Which support set it is.
    """

    preview: Tensor | None
    anchor: Tensor
    contrast: "SupportEncoding | None"
    """What good parts look like, see :mod:`.contrast`; ``None`` where no good images were at hand."""

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
        # an empty encoding has no other tensor that tells which device the model is on
        known = [value for encoding in (classes or {}).values() for value in encoding.values()]
        self.register_buffer("anchor", torch.empty(0, device=known[0].device if known else None), persistent=False)
        self.normal = normal
        self.whole = whole
        self.contrast = None
        self.roi: RegionOfInterest | None = None
        self.least_area = 1
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

    @property
    def limits(self) -> Tensor | None:
        """The highest logit of each class in good images ``(K,)``, ``None`` where none have told it."""
        told = [encoding[LIMIT] for encoding in self.encodings if LIMIT in encoding]
        return torch.stack(told) if told else None

    def limit(self, values: Tensor) -> None:
        """Set what good images tell: a logit of each class ``(K,)``, or the two :data:`NORMAL_LIMITS`."""
        if self.normal:
            for name, value in zip(NORMAL_LIMITS, values, strict=True):
                self.get_submodule("0").register_buffer(name, value.clone())
            self.record["limits"] = {name: float(value) for name, value in zip(NORMAL_LIMITS, values, strict=True)}
            return
        for index, value in enumerate(values):
            self.get_submodule(str(index)).register_buffer(LIMIT, value.clone())
        self.record["limits"] = {
            name: float(value.double().sigmoid()) for name, value in zip(self.names, values, strict=True)
        }

    def contrasting(self, contrast: "SupportEncoding", usual: Sequence[str]) -> "SupportEncoding":
        """Return the same encoding with another contrast, which these images show; tensors are shared."""
        other = copy.copy(self)
        vars(other)["_modules"] = dict(vars(self)["_modules"])
        other.contrast = contrast
        other.record = {**self.record, "usual": list(usual)}
        return other

    def restrict(self, roi: RegionOfInterest | None = None, least_area: int | None = None) -> bool:
        """Set where defects count, and from how many pixels on; ``None`` leaves it as it is.

        Returns:
            Whether this changed anything.
        """
        before = dict(self.record)
        if roi is not None:
            self.roi = roi
            self.record["roi"] = roi.source
        if least_area is not None:
            self.least_area = least_area
            self.record["least_area"] = least_area
        return before != self.record

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SupportEncoding":  # noqa: FBT001, FBT002
        """Move to a device, as torch does for ``to``, ``cuda`` and the like; never to another precision."""

        def moved(tensor: Tensor) -> Tensor:
            # decided on an empty tensor: casting the values down and up again would lose digits
            return tensor.to(fn(tensor.new_empty(0)).device)

        return super()._apply(moved, recurse)  # type: ignore[no-untyped-call]

    def get_extra_state(self) -> dict[str, Any]:
        """Return the plain data that belongs to the tensors."""
        return {
            "version": VERSION,
            "names": self.names,
            "normal": self.normal,
            "whole": self.whole,
            "record": dict(self.record),
            "roi": None if self.roi is None else _tensors(self.roi),
            "least_area": self.least_area,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_extra_state` returned.

        Raises:
            ValueError: If it is of another version.
        """
        if state.get("version") != VERSION:
            msg = (
                f"The checkpoint's support encoding is of version {state.get('version', 1)}, this package reads "
                f"version {VERSION}. Encode the support again: pass support=FOLDER without the checkpoint, or train "
                "anew."
            )
            raise ValueError(msg)
        self.names = list(state["names"])
        self.normal = state["normal"]
        self.whole = state["whole"]
        self.record = state["record"]
        self.roi = _roi(**state["roi"]) if state.get("roi") else None
        self.least_area = state.get("least_area", 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over classes and tensors of any number and shape from a checkpoint, on the device that this one is on.

        A state dict that knows nothing of a support (weights of a head only) leaves the stored one as it is.
        """
        names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
        if "_extra_state" not in names:
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        device = self.anchor.device
        thumbnail = state_dict.get(f"{prefix}preview")
        self.register_buffer("preview", None if thumbnail is None else thumbnail.to(device, copy=True))
        self._modules.clear()
        self.contrast = SupportEncoding().to(device) if any(name.startswith(CONTRAST) for name in names) else None
        own = (name for name in names if "." in name and not name.startswith(CONTRAST))
        for index, name in (name.split(".") for name in own):
            if index not in self._modules:
                self.add_module(index, nn.Module())
            values = state_dict[f"{prefix}{index}.{name}"].to(device, copy=True)
            self.get_submodule(index).register_buffer(name, values)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _tensors(roi: RegionOfInterest) -> dict[str, Any]:
    """Return a region of interest as plain data that a checkpoint may hold."""
    masks = {stem: (height, width, torch.tensor(bits)) for stem, (height, width, bits) in roi.masks.items()}
    return {"source": roi.source, "masks": masks}


def _roi(source: str, masks: dict[str, tuple[int, int, Tensor]]) -> RegionOfInterest:
    return RegionOfInterest(source, {stem: (h, w, bits.numpy()) for stem, (h, w, bits) in masks.items()})


def encoding_bytes(encoding: SupportEncoding) -> int:
    """Return the memory of an encoding's tensors in bytes."""
    return sum(tensor.nbytes for tensor in encoding.buffers())
