"""Mean and spread over seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Record = Mapping[str, Any]
GROUP = {"fss": ("category", "method", "shot", "normal_shot"), "fad": ("category", "method", "shot")}
MEASURES = {
    "fss": ("miou", "fb_iou", "false_positives", "false_area", "seconds_per_image", "backbone_ratio"),
    "fad": ("image_auroc", "pixel_auroc", "aupro", "seconds_per_image", "backbone_ratio"),
}


class Spread(NamedTuple):
    """A measure over the seeds."""

    mean: float
    least: float
    most: float


def value(record: Record, measure: str) -> float | None:
    """Return a measure of a record; ``None`` where its data cannot tell or its method did not run."""
    found = record.get(measure)
    return found["share"] if isinstance(found, Mapping) else found


def spread(values: Iterable[float | None]) -> Spread | None:
    """Summarise the seeds of one measure; ``None`` without values."""
    known = [v for v in values if v is not None]
    return Spread(statistics.fmean(known), min(known), max(known)) if known else None


def grouped(task: str, records: Sequence[Record]) -> dict[tuple[Any, ...], list[Record]]:
    """Collect the records that differ by the seed only, in their order."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[name] for name in GROUP[task]), []).append(record)
    return groups


def summarise(task: str, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row per :data:`GROUP`: each measure, and each class's IoU, as :class:`Spread`."""
    rows = []
    for group, members in grouped(task, records).items():
        row: dict[str, Any] = dict(zip(GROUP[task], group, strict=True))
        row["error"] = next((member["error"] for member in members if "error" in member), None)
        row |= {measure: spread(value(member, measure) for member in members) for measure in MEASURES[task]}
        classes = sorted({name for member in members for name in member.get("iou", {})})
        row["iou"] = {name: spread(member["iou"].get(name) for member in members) for name in classes}
        rows.append(row)
    return rows
