"""Mean and spread over seeds or draws."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
GROUP = {"fss": ("category", "method", "shots", "normal_shots"), "fad": ("category", "method", "shots")}
REPEAT = {"fss": "seed", "fad": "draw"}
"""What a row is repeated over."""
MEASURES = {
    "fss": ("miou", "fb_iou", "false_positives", "false_area", "seconds_per_image", "backbone_ratio"),
    "fad": (
        "image_auroc",
        "pixel_auroc",
        "aupro",
        "f1",
        "f1_best",
        "good_called_defective",
        "seconds_per_image",
        "backbone_ratio",
    ),
}


class Spread(NamedTuple):
    """A measure over the seeds."""

    mean: float
    least: float
    most: float


def spread(values: Iterable[float | None]) -> Spread | None:
    """Summarise the seeds of one measure; ``None`` without values."""
    known = [v for v in values if v is not None]
    return Spread(statistics.fmean(known), min(known), max(known)) if known else None


def grouped(task: str, rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Collect the rows that differ by :data:`REPEAT` only, in their order."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in GROUP[task]), []).append(row)
    return groups


def summarise(task: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one row per :data:`GROUP`: each measure, and the IoU of each class and size, as :class:`Spread`."""
    summary = []
    for group, members in grouped(task, rows).items():
        row: dict[str, Any] = dict(zip(GROUP[task], group, strict=True))
        row["error"] = next((member["error"] for member in members if "error" in member), None)
        row |= {measure: spread(member.get(measure) for member in members) for measure in MEASURES[task]}
        for part in ("iou", "iou_by_size"):
            names = dict.fromkeys(name for member in members for name in member.get(part, {}))
            row[part] = {name: spread(member[part].get(name) for member in members) for name in names}
        summary.append(row)
    return summary
