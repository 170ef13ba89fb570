"""The results of one image as files."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomalib_sofs.images import SIXTEEN_BITS

from .coco_file import CocoDraft, coco_entry, coco_name
from .files import unwritable, write_json, write_png
from .folder import LABELME
from .labelme_file import write_labelme
from .regions import describe_region, find_regions

logger = logging.getLogger(__name__)

BYTE = 255


@dataclass(frozen=True)
class Result:
    """What was found on one image."""

    image: Path | None
    """The image file, if there is one."""
    probability: NDArray[np.floating]
    """Probability (FSS) or normalised distance (FAD) of each pixel ``(H, W)``, in [0, 1]."""
    classes: NDArray[np.integer]
    """Class number of each pixel ``(H, W)``, 0 where nothing was found."""
    score: float
    """The image's score, in [0, 1]."""
    names: Sequence[str]
    """Class names, number 1 first."""
    threshold: float = 0.5
    """Value of the map above which a pixel was found."""
    support: Mapping[str, Any] = field(default_factory=dict)
    """Which support set made it: ``images``, ``labels``, ``normal``."""
    name: str = ""
    """What the JSON calls the image, where that is not the file's path here."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """State of the image file and the bundle that searched it, see :mod:`.finished`; not kept by every run."""


class Writer:
    """Writes results into a folder: ``STEM_mask.png``, ``STEM_probability.png``, ``STEM.json``, ``labelme/STEM.json``.

    ``_mask.png`` holds class numbers, ``_probability.png`` has 16 bits (65535 is 1). What :meth:`write` is told goes
    into ``coco.json``, too, when :func:`.coco_file.write_coco` is called in the end.

    Args:
        folder: The folder.
        common: Folder that holds all images: COCO's file names start there.
        rank: Number of the process where several write into one folder; ``None`` leaves ``coco.json`` to the caller.
    """

    def __init__(self, folder: Path, common: Path | None, rank: int | None = 0) -> None:
        self.folder = folder
        self.common = common
        self._draft = None if rank is None else CocoDraft(folder, rank)
        self._outside_said = False

    def write(self, result: Result, stem: Path, file_name: str | None = None) -> dict[str, Any]:
        """Write the results of an image.

        Args:
            result: The results.
            stem: Their place in the folder, see :func:`.names.result_stems`.
            file_name: Its name in ``coco.json``, if not by ``common``.

        Returns:
            The image in ``coco.json``, see :func:`.coco_file.coco_entry`.

        Raises:
            UnwritableError: If they cannot be written.
        """
        place = self.folder / stem
        record = place.with_name(f"{place.name}.json")
        _remove(record)  # of an earlier run: where it is, everything that it tells of is
        size = (result.probability.shape[0], result.probability.shape[1])
        probability = self._in_range(result.probability, result.image or stem)
        score = float(self._in_range(np.asarray(result.score), result.image or stem))
        classes: NDArray[Any] = result.classes.astype(np.uint8 if len(result.names) <= BYTE else np.uint16)
        regions = find_regions(classes, probability, result.names)
        deep = Image.fromarray((probability * SIXTEEN_BITS).round().astype(np.uint16))
        write_png(deep, place.with_name(f"{place.name}_probability.png"))
        write_png(Image.fromarray(classes), place.with_name(f"{place.name}_mask.png"))
        content = {
            "image": result.name or (None if result.image is None else str(result.image)),
            "height": size[0],
            "width": size[1],
            "score": round(score, 4),
            "threshold": result.threshold,
            "classes": list(result.names),
            "regions": [describe_region(region, size) for region in regions],
            "support": dict(result.support),
            **({"source": dict(result.source)} if result.source else {}),
        }
        if result.image is not None:
            write_labelme(self.folder / LABELME / stem, result.image, size, regions)
        name = file_name or coco_name(result.image, stem, self.common)
        entry = coco_entry(name, size, result.names, regions)
        if self._draft is not None:
            self._draft.add(entry)
        write_json(content, record)  # last
        return entry

    def _in_range(self, values: NDArray[np.floating], source: Path) -> NDArray[np.floating]:
        """Return values in [0, 1]; say once if some had to be changed."""
        inside = np.nan_to_num(values, nan=0.0).clip(0, 1)
        if not self._outside_said and not np.array_equal(inside, values):
            self._outside_said = True
            logger.warning(
                "The scores of %s reach from %.3g to %.3g and are cut off at 0 and 1 in the results. Use the model's "
                "own post-processor, which brings them there.",
                source,
                np.min(values),
                np.max(values),
            )
        return inside


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(file.parent, error) from error
