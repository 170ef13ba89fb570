"""What corrections are worth: a user who marks one image, searches the others, and says what is wrong with the surest.

The user is the ground truth. One defect class after the other: its support image is chosen as the protocol chooses that
of its first query, and all other images of the class and the good test images are searched. A correction is one
decision on an image that has none yet, the surest first: the largest region that hardly touches a defect is called
none; where an image has no such region but a missed defect, the defects of that image are marked. After 3 and after 10
of them everything is searched again. Images that were corrected leave the metric, in all rounds alike: what is compared
is what corrections do for images that nobody has touched.
"""

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pandas import DataFrame
from rich.progress import Progress
from skimage.measure import label

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.data.protocol import choose_support
from anomalib_sofs.data.table import defects, normals
from anomalib_sofs.images import image_size
from anomalib_sofs.model import Sofs, SofsModel, SupportSet
from anomalib_sofs.page.features import FeatureStore, remember
from anomalib_sofs.tensors import read_image, read_mask

from .categories import segmentation_tables
from .markdown import MISSING, PERCENT, origin, table
from .summary import Row

STORE_BYTES = 20 * 10**9
TOUCHES = 0.1
"""Share of a found region that is defect, from which it is no false one; and of a defect that is found."""
HEAD = ("category", "seed", "corrections", "images", "mIoU %", "good images", "with a region %")
NOTE = (
    "A correction is one region called no defect, or one image's missed defects marked, the surest wrong find first. "
    "Images that were corrected are in no row; good images are counted once for each class that is searched."
)


@dataclass(frozen=True)
class Seen:
    """An image that is searched, and what is true of it."""

    path: str
    truth: NDArray[np.bool_]
    """Which pixels are defect ``(H, W)``."""
    counts: NDArray[np.bool_]
    """Which pixels count at all ``(H, W)``."""
    good: bool


@dataclass(frozen=True)
class Found:
    """What is found on an image."""

    mask: NDArray[np.bool_]
    score: float


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Returns:
        One row per category, seed and number of corrections.
    """
    tables = segmentation_tables(arguments.root, arguments.categories, 1)
    model = Sofs(evaluator=False, visualizer=False).eval().model
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:  # images are searched again and again
        remember(model, FeatureStore(Path(folder), STORE_BYTES))
        for category, samples in tables.items():
            for seed in arguments.seeds:
                rows += category_rows(model, samples, arguments, category, seed, progress)
    return rows


def category_rows(
    model: SofsModel, samples: DataFrame, arguments: Namespace, category: str, seed: int, progress: Progress
) -> list[dict[str, Any]]:
    """Correct each class of a category, and sum up what is found on the images that were never corrected."""
    rounds = sorted({0, *arguments.corrections})
    good_rows = normals(samples, "test") if "test" in set(samples["split"]) else normals(samples)
    good = good_rows["image_path"].tolist()[: arguments.limit]
    ious: dict[int, dict[str, float]] = {count: {} for count in rounds}
    alarms: dict[int, list[bool]] = {count: [] for count in rounds}
    images = 0
    for name, group in defects(samples).groupby("label"):
        files = list(zip(group["image_path"], group["mask_path"], strict=True))
        query = files[0][0]
        (marked,) = choose_support(files[1:], 1, seed=seed, category=category, defect_class=str(name), query=query)
        others = [file for file in files if file != marked][: arguments.limit]
        seen = [*(_seen(*file) for file in others), *(_seen(path, "") for path in good)]
        found, corrected = corrections(model, marked, seen, rounds, progress, f"{category}, {name}, seed {seed}")
        left = [i for i in range(len(seen)) if i not in corrected]
        images += sum(not seen[i].good for i in left)
        for count in rounds:
            masks = {i: found[count][i].mask & seen[i].counts for i in left}
            ious[count][str(name)] = _iou([(masks[i], seen[i].truth) for i in left if not seen[i].good])
            alarms[count] += [bool(masks[i].any()) for i in left if seen[i].good]
    return [
        {
            "category": category,
            "seed": seed,
            "corrections": count,
            "images": images,
            "iou": ious[count],
            "miou": float(np.nanmean(list(ious[count].values()))),
            "good_images": len(alarms[count]),
            "false_positives": float(np.mean(alarms[count])) if alarms[count] else None,
        }
        for count in rounds
    ]


def corrections(
    model: SofsModel,
    marked: tuple[str, str],
    seen: Sequence[Seen],
    rounds: Sequence[int],
    progress: Progress,
    title: str,
) -> tuple[dict[int, list[Found]], set[int]]:
    """Search, correct, search again.

    Args:
        model: The model.
        marked: Image and mask that the user starts with.
        seen: The images that are searched.
        rounds: Numbers of corrections after which they are searched, ascending from 0.
        progress: Where progress is shown.
        title: What is shown there.

    Returns:
        What is found after each number of corrections, and which images were corrected.
    """
    support = SupportSet([read_image(marked[0])], [read_mask(marked[1])], paths=[marked[0]])
    found: dict[int, list[Found]] = {}
    corrected: set[int] = set()
    latest: list[Found] = []
    for count in rounds:
        order = sorted(range(len(seen)), key=lambda i: -latest[i].score) if latest else []
        for i in order:
            if len(corrected) < count and i not in corrected and _correct(support, seen[i], latest[i]):
                corrected.add(i)
        with torch.no_grad():
            encoding = model.encode(support)
            shown = progress.track(seen, description=f"{title}, {len(corrected)} corrections")
            latest = [_search(model, encoding, image) for image in shown]
        found[count] = latest
    return found, corrected


def _search(model: SofsModel, encoding: Any, image: Seen) -> Found:
    query = model.normalise(read_image(image.path))[None]
    logits = model.logits(query, encoding)[0, 0]
    return Found((logits > 0).numpy(), float(logits.max()))


def _correct(support: SupportSet, image: Seen, found: Found) -> bool:
    """Correct the worst mistake on an image as its user would; ``False`` if there is none."""
    regions = label(found.mask & image.counts, connectivity=2)
    sizes = np.bincount(regions.ravel())[1:]
    hits = np.bincount(regions.ravel(), weights=image.truth.ravel())[1:]
    false = np.flatnonzero(hits < TOUCHES * sizes)
    if len(false):
        region = regions == 1 + false[sizes[false].argmax()]
        rejected = torch.from_numpy(region & ~image.truth)
        support.reject(read_image(image.path), rejected, image.path)
        return True
    missed = image.truth.any() and (found.mask & image.truth).sum() < TOUCHES * image.truth.sum()
    if missed:
        mask = np.where(image.counts, image.truth, IGNORE).astype(np.uint8)
        support.add(read_image(image.path), torch.from_numpy(mask), path=image.path)
    return bool(missed)


def _seen(path: str, mask: str) -> Seen:
    values = read_mask(mask).numpy() if mask else np.zeros(image_size(path), np.uint8)
    return Seen(path, values == 1, values != IGNORE, good=not (values == 1).any())


def _iou(pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> float:
    both = sum(int((found & truth).sum()) for found, truth in pairs)
    either = sum(int((found | truth).sum()) for found, truth in pairs)
    return both / either if either else float("nan")


def markdown(provenance: Row, rows: Sequence[Row]) -> str:
    """Draw the table."""
    lines = [
        [
            *(
                row["category"],
                row["seed"],
                row["corrections"],
                row["images"],
                PERCENT(row["miou"]),
                row["good_images"],
            ),
            MISSING if row["false_positives"] is None else PERCENT(row["false_positives"]),
        ]
        for row in rows
    ]
    return "\n".join([*origin(provenance), *table(HEAD, lines), NOTE, ""]) + "\n"
