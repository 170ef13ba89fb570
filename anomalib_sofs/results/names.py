"""Where the results of an image go: a place of its own, as short as that allows."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

ENDINGS = ("_probability", "_mask")
"""What predictions append to an image's name."""


def result_stems(images: Iterable[str | Path]) -> dict[str, Path]:
    """Choose folder and name of each image's results, relative to the folder of all results.

    Args:
        images: Image files.

    Returns:
        By image file, its path below the folder that all images have in common, or below that folder's parent if it
        holds them all directly. Without suffix, unless two results would then have one name: ``part.png`` beside
        ``part.jpg`` or beside ``part_mask.png``.
    """
    paths = [Path(image) for image in dict.fromkeys(map(str, images))]
    if not paths:
        return {}
    absolute = {path: path.absolute() for path in paths}  # not resolved: links keep the user's names
    folders = {path.parent for path in absolute.values()}
    common = Path(os.path.commonpath(folders)) if len(folders) > 1 else next(iter(folders)).parent
    plain = {path: file.relative_to(common).with_suffix("") for path, file in absolute.items()}
    counts = Counter(plain.values())

    def ambiguous(stem: Path) -> bool:
        return counts[stem] > 1 or any(
            stem.name.endswith(ending) and stem.with_name(stem.name.removesuffix(ending)) in counts
            for ending in ENDINGS
        )

    return {str(path): stem.with_name(path.name) if ambiguous(stem) else stem for path, stem in plain.items()}


def free_folder(folder: Path, stems: Mapping[str, Path]) -> Path:
    """Choose a folder in which no image would replace the results of another one from an earlier run.

    Args:
        folder: The first choice; ``folder_2``, ``folder_3``, ... are the others.
        stems: See :func:`result_stems`.

    Returns:
        The first of these whose results are all of the same images, or none.
    """
    number, chosen = 1, folder
    while any(_is_of_another(chosen / stem, image) for image, stem in stems.items()):
        number += 1
        chosen = folder.with_name(f"{folder.name}_{number}")
    return chosen


def _is_of_another(stem: Path, image: str) -> bool:
    file = stem.with_name(f"{stem.name}.json")
    return file.is_file() and json.loads(file.read_text())["image"] != image
