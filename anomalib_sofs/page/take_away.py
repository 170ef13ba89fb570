"""What people take away: results in the forms of other tools, a report, and the support folder itself."""

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from anomalib_sofs.annotations.class_index import NAMES
from anomalib_sofs.find import make_model
from anomalib_sofs.results.coco_file import clear_drafts, write_coco
from anomalib_sofs.results.files import written_whole
from anomalib_sofs.results.folder import ResultsFolder
from anomalib_sofs.results.regions import describe_region, find_regions
from anomalib_sofs.results.writer import Result, Writer

from .decisions import FOLDERS
from .finds import PER_LOGIT, STEP, Find, logit_of
from .report import report
from .session import Session

BUNDLE = "bundle"
"""Folder of the bundle in the support folder."""
COLUMNS = ("image", "class", "left", "top", "width", "height", "area_pixels", "mean_probability", "peak_probability")


def result_of(session: Session, name: str, find: Find) -> Result:
    """Return what was found on an image as ``anomalib-sofs find --threshold`` would: the threshold lies at 0.5."""
    steps = session.steps(find)
    classes, _ = find.found(steps)
    limits = logit_of(np.asarray(steps) * STEP)[:, None, None]
    logits = logit_of(find.levels) + 0.5 / PER_LOGIT - limits  # levels are rounded down
    probability = (1 / (1 + np.exp(-logits))).max(0).astype(np.float32)
    return Result(
        image=session.images.file(name),
        probability=probability,
        classes=classes,
        score=float(probability.max()),
        names=find.names,
        support={
            "images": session.decisions.marked,
            "threshold": session.threshold,
            "limits": session.settings.limits,
            **session.restrictions,
        },
    )


def write_results(session: Session) -> Path:
    """Write masks, maps, JSON, COCO, LabelMe and CSV files of all that was found, below the support folder.

    Returns:
        Their folder: ``results``, or ``results_2``, ... where an older one holds files that somebody has changed.

    Raises:
        ValueError: If nothing was searched.
        OSError: If it cannot be written.
    """
    names = [name for name in session.images.names if session.finds.about(session.stem(name)) is not None]
    if not names:
        msg = "There are no results yet: press Find first."
        raise ValueError(msg)
    stems = {str(session.images.file(name)): session.stem(name) for name in names}
    folder = ResultsFolder.reserve(session.decisions.root / "results", stems)
    try:
        clear_drafts(folder.path)
        writer = Writer(folder.path, session.images.root)
        rows: list[dict[str, Any]] = []
        for name in names:
            find = session.find(name)
            if find is not None:
                result = result_of(session, name, find)
                writer.write(result, session.stem(name))
                rows += _rows(name, result)
        write_coco(folder.path)
        _write_csv(rows, folder.path / "regions.csv")
        folder.beat()
    finally:
        folder.release()
    return folder.path


def write_report(session: Session) -> Path:
    """Write ``report.html`` into the support folder: one file with everything in it."""
    path = session.decisions.root / "report.html"
    with written_whole(path) as file:
        file.write(report(session).encode())
    return path


def write_bundle(session: Session) -> Path:
    """Write what the runtime without PyTorch reads, with the support set and the thresholds of the page.

    Raises:
        ValueError: If nothing is marked.
        OSError: If it cannot be written.
        RuntimeError: If it does not do what the model does.
    """
    from anomalib_sofs.deploy import export_bundle  # noqa: PLC0415 - heavy, and not needed before

    if not session.decisions.marked:
        msg = "Nothing is marked yet: a bundle finds what was marked."
        raise ValueError(msg)
    options: dict[str, Any] = {"visualizer": False, "threshold": session.threshold, **session.restrictions}
    if session.good is not None:
        options |= {"good": session.good, "false_alarms": session.settings.false_alarms}
    # not the model of the search: its head looks into the store of features
    model = make_model(session.decisions.root, session.ckpt_path, options)
    model.prepare_export()
    return export_bundle(model, session.decisions.root / BUNDLE)


def support_files(session: Session) -> list[Path]:
    """List the files of the support folder that ``--model.support`` reads."""
    root = session.decisions.root
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.is_file()]
    return [root / NAMES, *(path for path in files if path.resolve().is_relative_to(root))]


def packed(files: list[Path], root: Path, path: Path) -> Path:
    """Pack files below a folder into a ZIP file."""
    with written_whole(path) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.write(file, file.relative_to(root).as_posix())
    return path


def _rows(name: str, result: Result) -> list[dict[str, Any]]:
    size = (result.probability.shape[0], result.probability.shape[1])
    regions = [
        describe_region(region, size) for region in find_regions(result.classes, result.probability, result.names)
    ]
    rows = [
        dict(zip(("left", "top", "width", "height"), region.pop("box"), strict=True)) | region | {"image": name}
        for region in regions
    ]
    return rows or [{"image": name}]


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a row per region, and one with nothing but its name for an image on which nothing was found."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with written_whole(path) as file:
        file.write(text.getvalue().encode("utf-8-sig"))  # spreadsheets know by the mark that it is Unicode
