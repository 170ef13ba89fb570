"""Where the results of an image go: a place of its own, as short as that allows."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

ENDINGS = ("_probability", "_mask")
"""What predictions append to an image's name."""
RESERVED = frozenset({"anomalib_sofs", "coco", "labelme"})
"""Names of files and folders beside the results of images."""
LONGEST = 200  # bytes of a name; file systems allow 255, and endings are appended
HASH = 12  # letters


def common_folder(images: Iterable[str | Path]) -> Path:
    """Return the folder that holds all image files; links keep the user's names."""
    folders = {Path(image).absolute().parent for image in images}
    return Path(os.path.commonpath(folders))


def result_stems(images: Iterable[str | Path]) -> dict[str, Path]:
    """Choose folder and name of each image's results, relative to the folder of all results.

    Args:
        images: Image files.

    Returns:
        By image file, its path below the folder that all images have in common, or below that folder's parent if it
        holds them all directly. Without suffix, unless two results would then have one name: ``part.png`` beside
        ``part.jpg`` or beside ``part_mask.png``. Names that are too long for results are shortened, see
        :func:`shortened`.
    """
    paths = [Path(image) for image in dict.fromkeys(map(str, images))]
    if not paths:
        return {}
    absolute = {path: path.absolute() for path in paths}  # not resolved: links keep the user's names
    common = common_folder(paths)
    if len({path.parent for path in absolute.values()}) == 1:
        common = common.parent
    plain = {path: _unreserved(file.relative_to(common).with_suffix("")) for path, file in absolute.items()}
    counts = Counter(plain.values())

    def ambiguous(stem: Path) -> bool:
        return counts[stem] > 1 or any(
            stem.name.endswith(ending) and stem.with_name(stem.name.removesuffix(ending)) in counts
            for ending in ENDINGS
        )

    stems = {str(path): stem.with_name(path.name) if ambiguous(stem) else stem for path, stem in plain.items()}
    return _unique(shortened(stems))


def shortened(stems: Mapping[str, Path]) -> dict[str, Path]:
    """Shorten names that the file system would refuse once something is appended to them; say so once.

    Args:
        stems: Folder and name of the results by image.

    Returns:
        The same, names of more than :data:`LONGEST` bytes cut off and made unique by a hash of the whole name, the
        same one in every run.
    """
    short = {image: stem.with_name(_short(stem.name)) for image, stem in stems.items()}
    changed = [image for image, stem in stems.items() if short[image] != stem]
    if changed:
        logger.warning(
            "%d file name(s) are too long to append anything to them, the results of %s are called %s (its JSON holds "
            "the whole name).",
            len(changed),
            Path(changed[0]).name,
            short[changed[0]].name,
        )
    return short


def _short(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    return f"{encoded[: LONGEST - HASH - 1].decode(errors='ignore')}-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH]


def _unreserved(stem: Path) -> Path:
    first, *rest = stem.parts
    return Path(f"{first}_", *rest) if first in RESERVED else stem


def _unique(stems: Mapping[str, Path]) -> dict[str, Path]:
    counts = Counter(stems.values())
    return {
        image: stem if counts[stem] == 1 else stem.with_name(f"{stem.name}-{_hash(image)}")
        for image, stem in stems.items()
    }
