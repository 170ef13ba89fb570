"""Decisions of people, on disk as they are made: a support folder that :meth:`SupportSet.from_folder` reads.

    classes.txt                names of the classes 1, 2, ...
    image/NAME.png             marked images (links to the originals, or copies)
    mask/NAME_mask.png         their marks: class numbers
    good/NAME.png              parts that are good as a whole
    not/image/, not/mask/      regions that are no defect; the rest of these images says nothing

Every file is written aside and moved, and every order of steps leaves a folder that can be read, or that is put right
at the next start. Whoever writes says which revision of the image he has seen; somebody else's is never overwritten.
"""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_sofs.annotations.class_index import NAMES, names_of
from anomalib_sofs.annotations.labels import DEFECT, IGNORE, is_normal_name
from anomalib_sofs.annotations.mask_folders import REJECTED, SUFFIX
from anomalib_sofs.annotations.masks import MOST_CLASSES, read_marks
from anomalib_sofs.annotations.places import image_folder
from anomalib_sofs.annotations.reader import recognise
from anomalib_sofs.images import image_files, open_image, sub_folders
from anomalib_sofs.results.files import place_file, write_png, written_whole
from anomalib_sofs.results.folder import is_results_folder
from anomalib_sofs.visualization.panels import CLASS_COLOURS

Mask = NDArray[np.uint8]  # (H, W)

OWN = ".page"
"""Folder of what the page keeps for itself; readers of support folders pass over it."""
FOLDERS = ("image", "mask", "good", REJECTED)
PALETTE = [0, 0, 0, *(value for colour in CLASS_COLOURS for value in colour)]
"""Colours of class numbers in masks, red, green and blue one after the other: viewers show them."""
LONGEST_NAME = 60


class StaleError(Exception):
    """Somebody else has changed an image meanwhile."""


@dataclass(frozen=True)
class Decision:
    """What was decided on an image."""

    marks: Mask
    """Class number of each pixel ``(H, W)``, 0 where nothing is marked, 255 where it counts for nothing."""
    rejected: NDArray[np.bool_]
    """Which pixels somebody called no defect ``(H, W)``."""
    good: bool = False
    """Whether all of the image is good."""

    @classmethod
    def none(cls, size: tuple[int, int]) -> "Decision":
        """Return the decision on an image that nobody has looked at."""
        return cls(np.zeros(size, np.uint8), np.zeros(size, np.bool_))


class Decisions:
    """The support folder of a page.

    Args:
        root: The folder; it is made if it does not exist.

    Raises:
        ValueError: If it holds marks in another form than the page's.
        OSError: If it cannot be written.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.lock = threading.RLock()
        self._good: tuple[object, set[str]] = (None, set())
        self.notices: list[str] = []
        """What was put right, for people."""
        _check_form(self.root)
        self.classes = self._adopt()
        self._put_right()
        self._write_classes(self.classes)

    # -- classes -----------------------------------------------------------------------------------------------------

    def number(self, label: str) -> int:
        """Return the number of a class; a new one is added.

        Raises:
            ValueError: If the name cannot be one, or there are too many.
        """
        label = label.strip()
        with self.lock:
            if label in self.classes:
                return self.classes.index(label) + 1
            if not label or not label.isprintable() or len(label) > LONGEST_NAME or is_normal_name(label):
                msg = (
                    f"{label!r} cannot be the name of a class: it has 1 to {LONGEST_NAME} letters on one line, and "
                    "good, normal and ok mean good parts."
                )
                raise ValueError(msg)
            if len(self.classes) == MOST_CLASSES:
                msg = f"There are {MOST_CLASSES} classes already, the most that masks can hold."
                raise ValueError(msg)
            self._write_classes([*self.classes, label])
            return len(self.classes)

    def _write_classes(self, classes: list[str]) -> None:
        with written_whole(self.root / NAMES) as file:
            file.write("".join(f"{name}\n" for name in classes).encode())
        self.classes = classes

    # -- images ------------------------------------------------------------------------------------------------------

    def read(self, stem: Path, size: tuple[int, int]) -> Decision:
        """Read what was decided on an image.

        Args:
            stem: What its files are called.
            size: Its height and width.

        Raises:
            ValueError: If a mask has another size.
        """
        marks = _read(self._mask(stem), size)
        rejected = _read(self._rejected(stem), size)
        return Decision(marks, rejected > 0, good=self._image("good", stem) is not None)

    def revision(self, stem: Path) -> str:
        """Return what stands for the decision on an image: it is another one as soon as anybody changes it."""
        with self.lock:
            found = hashlib.blake2b(digest_size=8)
            for file in (self._mask(stem), self._rejected(stem)):
                found.update(file.read_bytes() if file.is_file() else b"-")
            found.update(bytes([self._image("good", stem) is not None]))
            return found.hexdigest()

    def touched(self, stem: Path) -> object:
        """Return what tells, without reading them, whether the files of a decision are still those that were read."""
        written = _written(self.root / "good")
        if written != self._good[0]:
            self._good = (written, {file.stem for file in image_files(self._place("good"))})
        masks = (self.root / "mask", self.root / REJECTED / "mask")
        return (*(_written(folder / f"{stem}{SUFFIX}.png") for folder in masks), str(stem) in self._good[1])

    def write(self, stem: Path, image: Path, decision: Decision, seen: str | None = None) -> None:
        """Save a decision.

        Args:
            stem: What the files of the image are called.
            image: The image.
            decision: The decision; one that says nothing takes the image out of the support.
            seen: The revision that it was made on; ``None`` overwrites whatever there is.

        Raises:
            StaleError: If there is another revision by now; nothing is changed.
            ValueError: If everything is marked: there would be no background.
            OSError: If it cannot be written.
        """
        marked = (decision.marks > 0) & (decision.marks != IGNORE)
        if marked.any() and not (decision.marks == 0).any():
            msg = "The whole image would be marked, with no background to compare with. Mark the defect only."
            raise ValueError(msg)
        with self.lock:
            if seen is not None and seen != self.revision(stem):
                msg = (
                    f"{image.name} was changed meanwhile, in another window or by another program. It was loaded "
                    "again, without your last change: make it once more."
                )
                raise StaleError(msg)
            if decision.rejected.any():
                self._put(image, stem, REJECTED, "image")
                _write(decision.rejected.astype(np.uint8) * np.uint8(255), self._rejected(stem))
            else:
                _remove(self._image(f"{REJECTED}/image", stem), self._rejected(stem))
            if decision.good and not marked.any():
                self._put(image, stem, "good")
            else:
                _remove(self._image("good", stem))
            if marked.any():
                self._put(image, stem, "image")
                _write(decision.marks, self._mask(stem), PALETTE)
            else:
                _remove(self._image("image", stem), self._mask(stem))

    @property
    def marked(self) -> list[str]:
        """Stems of the marked images."""
        return [file.stem for file in image_files(self.root / "image")]

    def digest(self) -> str:
        """Return what stands for all decisions."""
        with self.lock:
            found = hashlib.blake2b("\n".join(self.classes).encode(), digest_size=8)
            for folder in ("image", "mask", "good", "not/image", "not/mask"):
                for file in image_files(self.root / folder):
                    found.update(f"{folder}/{file.name}".encode())
                    found.update(file.read_bytes() if folder.endswith("mask") else str(file.stat().st_size).encode())
            return found.hexdigest()

    def owner(self, stem: Path) -> Path | None:
        """Return the image that the files of a stem belong to; ``None`` if there are none."""
        found = (self._image(folder, stem) for folder in ("image", "good", f"{REJECTED}/image"))
        return next((file for file in found if file is not None), None)

    def _place(self, *parts: str) -> Path:
        """Return a path in the folder.

        Raises:
            ValueError: If a link leads it out of the folder.
        """
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root):
            msg = f"{path} is a link out of {self.root}, where nothing is written. Replace it by a folder."
            raise ValueError(msg)
        return path

    def _mask(self, stem: Path) -> Path:
        return self._place("mask", f"{stem}{SUFFIX}.png")

    def _rejected(self, stem: Path) -> Path:
        return self._place(REJECTED, "mask", f"{stem}{SUFFIX}.png")

    def _image(self, folder: str, stem: Path) -> Path | None:
        return next((file for file in image_files(self._place(folder)) if file.stem == str(stem)), None)

    def _put(self, image: Path, stem: Path, *folder: str) -> None:
        place_file(image, self._place(*folder, f"{stem}{image.suffix}"))

    # -- at the start ------------------------------------------------------------------------------------------------

    def _adopt(self) -> list[str]:
        """Bring masks as people save them to class numbers in ``NAME_mask.png``; return the names of the classes.

        A killed process may leave half of them: then the rest follows at the next start.
        """
        masks = image_files(self._place("mask"))
        names = names_of(masks, self.root / NAMES, None) if masks or (self.root / NAMES).is_file() else {}
        most = 1 if names is None else 0
        images = {file.stem for file in image_files(self._place("image"))}
        for file in masks:
            values = read_marks(file) if names is None else np.array(open_image(file), dtype=np.uint8)
            most = max(most, int(values[values != IGNORE].max(initial=0)))
            stem = file.stem if file.stem in images else file.stem.removesuffix(SUFFIX)
            if names is None or file != self._mask(Path(stem)):
                _write(values, self._mask(Path(stem)), PALETTE)
                if file != self._mask(Path(stem)):
                    file.unlink()
        if names is None:
            return [DEFECT]
        return [names[number] for number in range(1, max(most, len(names) if type(names) is dict else 0) + 1)]

    def _put_right(self) -> None:
        """Put aside images without masks and masks without images, as a killed process may leave them."""
        for folder in ("", REJECTED):
            images = {file.stem: file for file in image_files(self._place(folder, "image"))}
            masks = {file.stem.removesuffix(SUFFIX): file for file in image_files(self._place(folder, "mask"))}
            for stem in images.keys() ^ masks.keys():
                file = images.get(stem) or masks[stem]
                aside = self._place(OWN, "aside", folder) / file.name
                aside.parent.mkdir(parents=True, exist_ok=True)
                file.replace(aside)
                missing = "mask" if stem in images else "image"
                self.notices.append(f"{file} has no {missing}: it was put aside, to {aside}.")


def _written(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino  # another file has taken its place as soon as it was written again


def _remove(*files: Path | None) -> None:
    for file in files:
        if file is not None:
            file.unlink(missing_ok=True)


def _check_form(root: Path) -> None:
    layout = recognise(root)
    if layout is None or (layout.name == "masks in mask/" and image_folder(root) == root / "image"):
        return
    if {path.name for path in sub_folders(root) if not is_results_folder(path)} - set(FOLDERS):
        msg = (
            f"{root} holds marks in another form ({layout.name}), and the page keeps image/, mask/ and {NAMES}. Name "
            "an empty folder with --support, or save the marks as masks first."
        )
        raise ValueError(msg)


def _read(file: Path, size: tuple[int, int]) -> Mask:
    if not file.is_file():
        return np.zeros(size, np.uint8)
    values = np.array(open_image(file), dtype=np.uint8)
    if values.shape != size:
        msg = (
            f"{file} is {values.shape[1]} x {values.shape[0]} pixels, its image {size[1]} x {size[0]}. Remove it, or "
            "save it at the size of the image."
        )
        raise ValueError(msg)
    return values


def _write(values: Mask, file: Path, palette: list[int] | None = None) -> None:
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    write_png(image, file, compression=1)
