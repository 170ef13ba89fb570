"""The support encoding as one file of arrays, ``.npz``."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_sofs.annotations.labels import DEFECT
from anomalib_sofs.model.region_of_interest import RegionOfInterest
from anomalib_sofs.results.files import written_whole

VERSION = 6
"""Of what an encoding holds, as of :mod:`anomalib_sofs.model.encoding`; others are refused."""
ABOUT = "about"

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Encoded:
    """Everything that a query needs from a support set."""

    names: Sequence[str]
    """Of the classes."""
    encodings: Sequence[Arrays]
    """The arrays of each class."""
    normal: bool
    """Whether every support image is normal: whatever is off is found."""
    whole: bool = False
    """Whether images are seen whole, resized to a window."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Which support set it was."""
    roi: RegionOfInterest | None = None
    """Where defects count."""
    least_area: int = 1
    """Pixels of the smallest region that counts."""
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Smallest and largest value and threshold of ``map`` and ``score`` where validation images told them."""
    contrast: "Encoded | None" = None
    """What good parts look like, see :mod:`anomalib_sofs.model.contrast`."""


def save(encoded: Encoded, path: Path) -> None:
    """Write an encoding, whole or not at all.

    Raises:
        UnwritableError: If it cannot be written.
    """
    arrays: dict[str, Any] = {
        f"class/{i}/{key}": value for i, one in enumerate(encoded.encodings) for key, value in one.items()
    }
    if encoded.contrast is not None:
        arrays |= {f"contrast/{key}": value for key, value in encoded.contrast.encodings[0].items()}
    roi: dict[str, Any] | None = None
    if encoded.roi is not None:
        roi = {"source": encoded.roi.source, "masks": {}}
        for i, (stem, (height, width, bits)) in enumerate(encoded.roi.masks.items()):
            roi["masks"][stem] = [height, width, i]
            arrays[f"roi/{i}"] = bits
    about = {
        "version": VERSION,
        "names": list(encoded.names),
        "normal": encoded.normal,
        "whole": encoded.whole,
        "record": dict(encoded.record),
        "roi": roi,
        "least_area": encoded.least_area,
        "ranges": dict(encoded.ranges),
        "contrast": None if encoded.contrast is None else dict(encoded.contrast.record),
    }
    arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    with written_whole(path) as file:
        np.savez(file, **arrays)


def load(path: Path) -> Encoded:
    """Read an encoding.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no encoding, not whole, or of another version.
    """
    if not path.is_file():
        msg = f"The support encoding {path} does not exist. Write one: SofsInferencer.save_support."
        raise FileNotFoundError(msg)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(arrays.pop(ABOUT).tobytes())
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        msg = f"{path} is no support encoding, or was not copied whole ({error}). Write it again: save_support."
        raise ValueError(msg) from error
    if about["version"] != VERSION:
        msg = (
            f"{path} holds a support encoding of version {about['version']}, this package reads version {VERSION}. "
            "Encode the support again: set_support."
        )
        raise ValueError(msg)
    encodings: list[Arrays] = [{} for _ in about["names"]]
    for name, values in arrays.items():
        kind, number, *key = name.split("/", 2)
        if kind == "class":
            encodings[int(number)][key[0]] = values
    del about["version"]
    if about["roi"] is not None:
        masks = {stem: (h, w, arrays[f"roi/{i}"]) for stem, (h, w, i) in about["roi"]["masks"].items()}
        about["roi"] = RegionOfInterest(about["roi"]["source"], masks)
    if about["contrast"] is not None:
        shown = {name.split("/")[1]: values for name, values in arrays.items() if name.startswith("contrast/")}
        about["contrast"] = Encoded([DEFECT], [shown], normal=True, whole=True, record=about["contrast"])
    return Encoded(encodings=encodings, **about)
