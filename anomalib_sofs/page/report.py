"""A report in one HTML file: what was marked, what was found, with which settings and versions."""

import base64
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.visualization.panels import Colour, Picture, line_width, outline

from .images import reduced
from .session import Session

SIDE = 420
"""Pixels of the longer side of a picture."""
MOST_MARKED, MOST_FOUND = 24, 100
"""Pictures in a report."""
PACKAGES = ("anomalib-sofs", "anomalib", "torch", "gradio")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b232b; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem; }
figure { margin: 0; } img { width: 100%; border-radius: .3rem; }
figcaption { overflow-wrap: anywhere; }
small { color: #5b6672; }
"""


def report(session: Session) -> str:
    """Return the report of a session as HTML; nothing in it is loaded from anywhere."""
    summaries = [session.summary(name) for name in session.images.names]
    marked = [summary["name"] for summary in summaries if summary["marked"]]
    found = sorted((summary for summary in summaries if summary["found"]), key=lambda summary: -summary["score"])
    facts = {
        "Images": str(len(summaries)),
        "Searched": str(sum(summary["score"] is not None for summary in summaries)),
        "With a defect": str(len(found)),
        "Threshold": f"probability {session.threshold:.4g}",
        "Good parts": _good(session),
        "Region of interest": "the whole image" if session.roi is None else Path(session.roi.source).name,
        "Least area": f"{session.settings.least_area} px",
        "Classes": ", ".join(session.decisions.classes) or "none",
        "Marked images": str(len(marked)),
        "Images with rejected regions": str(sum(summary["rejected"] for summary in summaries)),
        "Images called good": str(sum(summary["good"] for summary in summaries)),
        "Versions": ", ".join([*filter(None, map(_version, PACKAGES)), f"Python {platform.python_version()}"]),
        "Written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>What was marked and found</title>',
            f"<style>{STYLE}</style></head><body>",
            "<h1>What was marked and found</h1>",
            "<table>",
            *(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()),
            "</table>",
            f"<h2>Marked ({len(marked)})</h2>",
            _gallery((_marked(session, name), name, "") for name in marked[:MOST_MARKED]),
            f"<h2>Found ({len(found)})</h2>",
            _gallery(_found(session, summary["name"]) for summary in found[:MOST_FOUND]),
            *([f"<p>{len(found) - MOST_FOUND} more are in the results.</p>"] if len(found) > MOST_FOUND else []),
            "</body></html>",
        ]
    )


def _good(session: Session) -> str:
    if not session.settings.limits:
        return "did not tell the threshold"
    return f"at most {100 * session.settings.false_alarms:g} % of them get a region"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def _gallery(pictures: Iterable[tuple[Picture, str, str]]) -> str:
    figures = [
        f'<figure><img alt="" src="data:image/jpeg;base64,{_encoded(picture)}">'
        f"<figcaption>{escape(name)} <small>{escape(text)}</small></figcaption></figure>"
        for picture, name, text in pictures
    ]
    return f'<div class="pictures">{"".join(figures)}</div>'


def _marked(session: Session, name: str) -> Picture:
    marks = session.decision(name).marks
    return _outlined(
        session, session.images.pixels(name), np.where(marks == IGNORE, 0, marks), session.decisions.classes
    )


def _found(session: Session, name: str) -> tuple[Picture, str, str]:
    find = session.find(name)
    pixels = session.images.pixels(name)
    if find is None:
        return reduced(pixels, SIDE), name, ""
    regions = session.regions(name)
    picture = _outlined(session, pixels, find.found(session.steps(find))[0], find.names)
    return picture, name, ", ".join(f"{find.names[r.number - 1]} {int(r.mask.sum())} px" for r in regions[:3])


def _outlined(session: Session, pixels: Picture, classes: NDArray[np.integer], names: list[str]) -> Picture:
    for number, name in enumerate(names, start=1):
        if (classes == number).any():
            digits = session.colour(name)[1:]
            colour: Colour = (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))
            pixels = outline(pixels, classes == number, colour, line_width(pixels))
    return reduced(pixels, SIDE)


def _encoded(picture: Picture) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return base64.b64encode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()).decode()
