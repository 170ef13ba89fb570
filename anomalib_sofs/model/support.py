"""Support sets: annotated example images, from memory or from a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from anomalib_sofs.annotations.labels import DEFECT, NORMAL
from anomalib_sofs.images import image_files, read_image, read_mask

T = TypeVar("T")


def rows_by_class(masks: Sequence[Tensor], labels: Sequence[str]) -> dict[str, list[int]]:
    """List the examples of each defect class, in name order, together with all normal ones."""
    marked = [bool(mask.any()) for mask in masks]
    names = sorted({label for label, hit in zip(labels, marked, strict=True) if hit})
    return {name: [i for i, hit in enumerate(marked) if labels[i] == name or not hit] for name in names}


@dataclass
class SupportSet:
    """Annotated examples of any sizes.

    Args:
        images: RGB images ``(3, H, W)`` in [0, 1], each of its own size.
        masks: Masks ``(H, W)``; non-zero marks the target defect, all zero a normal example.
        labels: Defect class of each image; normal images take part in every class.
        paths: Where the images came from, for messages and caching.
    """

    images: Sequence[Tensor]
    masks: Sequence[Tensor]
    labels: Sequence[str] = field(default_factory=list)
    paths: Sequence[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check that the parts belong together.

        Raises:
            ValueError: If there is no image, or an image and its mask differ in size.
        """
        self.labels = list(self.labels) or [DEFECT] * len(self.images)
        self.paths = list(self.paths) or [f"support image {i}" for i in range(len(self.images))]
        if not self.images:
            msg = "A support set needs at least one image."
            raise ValueError(msg)
        for image, mask, path in zip(self.images, self.masks, self.paths, strict=True):
            if image.shape[-2:] != mask.shape[-2:]:
                msg = (
                    f"The mask of {path} is {mask.shape[-1]} x {mask.shape[-2]} pixels, its image "
                    f"{image.shape[-1]} x {image.shape[-2]}. Save the mask at the size of the image."
                )
                raise ValueError(msg)
            if not bool(torch.isfinite(image).all()):
                msg = f"{path} holds values that are not numbers (NaN or infinity). Replace or leave out this image."
                raise ValueError(msg)

    @property
    def normal(self) -> bool:
        """Whether every mask is empty: few-shot anomaly detection."""
        return not any(bool(mask.any()) for mask in self.masks)

    @property
    def marked(self) -> "SupportSet":
        """The examples that show a defect."""
        rows = [i for i, mask in enumerate(self.masks) if mask.any()]

        def chosen(values: Sequence[T]) -> list[T]:
            return [values[i] for i in rows]

        return SupportSet(chosen(self.images), chosen(self.masks), chosen(self.labels), chosen(self.paths))

    @property
    def classes(self) -> list[str]:
        """Defect classes in name order; one nameless class if all masks are empty."""
        return list(rows_by_class(self.masks, self.labels)) or [DEFECT]

    @classmethod
    def from_files(cls, images: Sequence[str], masks: Sequence[str]) -> "SupportSet":
        """Read images and their masks of one defect class; an empty mask path means a normal image."""
        pairs: list[Pair] = [(Path(i), Path(m) if m else None, DEFECT) for i, m in zip(images, masks, strict=True)]
        return cls._read(pairs)

    @classmethod
    def _read(cls, pairs: "Sequence[Pair]") -> "SupportSet":
        images = [read_image(image) for image, _, _ in pairs]
        masks = [
            torch.zeros(image.shape[-2:], dtype=torch.uint8) if mask is None else read_mask(mask)
            for image, (_, mask, _) in zip(images, pairs, strict=True)
        ]
        return cls(images, masks, [label for _, _, label in pairs], [str(image) for image, _, _ in pairs])

    @classmethod
    def from_folder(cls, path: str | Path) -> "SupportSet":
        """Read a support set from disk.

        Layouts: ``image/`` and ``mask/`` (masks matched by stem, ``name.png`` or ``name_mask.png``); the same in one
        sub-folder per defect class, where a sub-folder ``good`` holds normal images; or MVTec's ``test/CLASS`` beside
        ``ground_truth/CLASS``. Without any ``mask/`` folder all images are normal (few-shot anomaly detection).

        Args:
            path: The folder.

        Raises:
            FileNotFoundError: If the folder, its images or the mask of an image are missing.
            ValueError: If a file cannot be read, sizes differ, or a mask leaves no background.
        """
        root = Path(path)
        if not root.is_dir():
            msg = f"The support folder {root} does not exist. It should hold image/ and mask/."
            raise FileNotFoundError(msg)
        pairs = _mvtec_pairs(root) if (root / "ground_truth").is_dir() else _class_pairs(root)
        support = cls._read(pairs)
        for (_, file, _), mask in zip(pairs, support.masks, strict=True):
            if bool(mask.all()):
                msg = (
                    f"{file} marks the whole image: no background to compare with. Mark the defect only, with 0 for "
                    "everything else, or use an image that shows more than the defect."
                )
                raise ValueError(msg)
        return support


Pair = tuple[Path, Path | None, str]  # image, mask or None for a normal image, class


def _class_pairs(root: Path) -> list[Pair]:
    """List ``image/`` + ``mask/``, of the folder itself or of one sub-folder per class."""
    if (root / "image").is_dir():
        return _folder_pairs(root / "image", root / "mask", DEFECT)
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        return _folder_pairs(root, root / "mask", DEFECT)
    return [pair for folder in folders for pair in _class_folder_pairs(folder)]


def _class_folder_pairs(folder: Path) -> list[Pair]:
    images = folder / "image" if (folder / "image").is_dir() else folder
    if folder.name != NORMAL and not (folder / "mask").is_dir():
        msg = (
            f"The class folder {folder} has no mask/ folder. Add the masks, or name the folder {NORMAL!r} if its parts "
            "are."
        )
        raise FileNotFoundError(msg)
    return _folder_pairs(images, folder / "mask", folder.name)


def _mvtec_pairs(root: Path) -> list[Pair]:
    """List MVTec's ``ground_truth/CLASS`` masks with their images in ``test/CLASS`` (or ``CLASS``)."""
    source = root / "test" if (root / "test").is_dir() else root
    folders = (folder for folder in (root / "ground_truth").iterdir() if folder.is_dir() and folder.name != NORMAL)
    masks = sorted(folders)
    pairs = [pair for mask in masks for pair in _folder_pairs(source / mask.name, mask, mask.name)]
    good = source / NORMAL
    return pairs + (_folder_pairs(good, root / "ground_truth" / NORMAL, NORMAL) if good.is_dir() else [])


def _folder_pairs(images: Path, masks: Path, label: str) -> list[Pair]:
    """Match the images of a folder with masks by stem; no mask folder at all means normal images."""
    files = image_files(images)
    if not files:
        msg = f"No image in the support folder {images}. Put at least one there, or remove the folder."
        raise FileNotFoundError(msg)
    if not masks.is_dir():
        return [(file, None, label) for file in files]
    by_stem = {file.stem: file for file in image_files(masks)}
    pairs: list[Pair] = []
    for file in files:
        mask = by_stem.get(file.stem) or by_stem.get(f"{file.stem}_mask")
        if mask is None:
            msg = (
                f"No mask for the support image {file}: expected {masks / file.stem}.png or {file.stem}_mask.png. "
                "Add it (all black for a normal image), or remove the image."
            )
            raise FileNotFoundError(msg)
        pairs.append((file, mask, label))
    return pairs
