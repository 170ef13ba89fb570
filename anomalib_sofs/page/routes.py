"""What the browser asks for and says, as routes over a session.

Images are named by their paths below ``--images``, and only names of the session's list mean anything: no path that
comes from the browser ever reaches the file system.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from anomalib_sofs.results.folder import is_results_folder

from .decisions import StaleError
from .finds import FoundRegion, probability_of
from .session import Session
from .take_away import BUNDLE, packed, support_files
from .tiles import Tile, image_tile, overlay_tile, png, thumbnail

MARGIN = 24
"""Pixels around a region in its picture."""
LARGEST = 512
"""Pixels of the longer side of such a picture, which shows the middle of a larger region."""
KEEP = {"Cache-Control": "private, max-age=86400"}
FRESH = {"Cache-Control": "no-store"}

Said = Mapping[str, Any]


class Routes:
    """The routes of a page.

    Args:
        session: The session.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def listed(self) -> list[BaseRoute]:
        """Return the routes: what shows something, then what changes something."""
        shown = (self.state, self.finds, self.thumbnail, self.tile, self.overlay, self.cut, self.download)
        said = (self.paint, self.accept, self.reject, self.good, self.undo, self.colour, self.threshold)
        return [
            *(Route(f"/sofs/{call.__name__}", _answering(call, _query), methods=["GET"]) for call in shown),
            *(Route(f"/sofs/{call.__name__}", _answering(call, _body), methods=["POST"]) for call in said),
        ]

    # -- shown -------------------------------------------------------------------------------------------------------

    def state(self, asked: Said) -> Response:
        """Everything but pixels; nothing where nothing has changed since the browser last asked."""
        session, search = self.session, self.session.search
        if str(search.changes) == asked.get("since"):
            return Response(status_code=204, headers=FRESH)
        settings = session.settings
        return JSONResponse(
            {
                "changes": search.changes,
                "running": search.running,
                "ended": search.ended,
                "phase": search.phase,
                "done": search.done,
                "total": search.total,
                "error": search.error,
                "step": settings.step,
                "limits": settings.limits,
                "unsearched": session.unsearched,
                "classes": [{"name": name, "colour": session.colour(name)} for name in session.decisions.classes],
                "images": [session.summary(name) for name in session.images.names],
            },
            headers=FRESH,
        )

    def finds(self, asked: Said) -> Response:
        """What is found on an image at a threshold, the largest first."""
        regions = self.session.regions(asked["image"], int(asked["step"]))
        find = self.session.find(asked["image"])
        names = [] if find is None else find.names
        described = [
            _described(region, names) | {"judged": self.session.judged(asked["image"], region)} for region in regions
        ]
        return JSONResponse(described, headers=FRESH)

    def thumbnail(self, asked: Said) -> Response:
        """A small picture of an image."""
        return Response(self.session.thumbnail(asked["image"], thumbnail), media_type="image/jpeg", headers=KEEP)

    def tile(self, asked: Said) -> Response:
        """A tile of an image."""
        return Response(
            image_tile(self.session.images.pixels(asked["image"]), _tile(asked)), media_type="image/png", headers=KEEP
        )

    def overlay(self, asked: Said) -> Response:
        """What lies over a tile, see :func:`.tiles.overlay_tile`."""
        name = asked["image"]
        find = self.session.find(name)
        steps = [] if find is None else self.session.steps(find)
        classes = self.session.decisions.classes
        numbers = [] if find is None else [classes.index(label) + 1 for label in find.names]
        content = overlay_tile(find, steps, numbers, self.session.decision(name), _tile(asked))
        return Response(content, media_type="image/png", headers=FRESH)

    def cut(self, asked: Said) -> Response:
        """A part of an image at its native size, around a region."""
        pixels = self.session.images.pixels(asked["image"])
        left, top, width, height = (int(asked[key]) for key in ("x", "y", "width", "height"))
        half = min(max(width, height) // 2 + MARGIN, LARGEST // 2)
        column, row = left + width // 2, top + height // 2
        part = pixels[max(row - half, 0) : max(row + half, 0), max(column - half, 0) : max(column + half, 0)]
        if part.size == 0:
            msg = "There is nothing of the image."
            raise ValueError(msg)
        return Response(png(part), media_type="image/png", headers=KEEP)

    def download(self, asked: Said) -> Response:
        """The support folder or the latest results as a ZIP file, or the report."""
        root, own = self.session.decisions.root, self.session.own / "download"
        what = asked["what"]
        if what == "support":
            return _file(packed(support_files(self.session), root, own / "support.zip"))
        if what == "report":
            return _file(root / "report.html")
        folder = root / what
        if (
            folder.parent != root
            or not (what == BUNDLE or is_results_folder(folder))
            or not folder.resolve().is_relative_to(root)
        ):
            raise KeyError(what)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        return _file(packed(files, folder, own / f"{folder.name}.zip"))

    # -- said --------------------------------------------------------------------------------------------------------

    def paint(self, said: Said) -> Response:
        """Mark what a stroke covers."""
        self.session.paint(said["image"], said["stroke"], str(said["label"]), str(said["revision"]))
        return self._done(said)

    def accept(self, said: Said) -> Response:
        """Make a found region a mark."""
        self.session.accept(said["image"], self._region(said), str(said["label"]), str(said["revision"]))
        return self._done(said)

    def reject(self, said: Said) -> Response:
        """Say that a found region is no defect."""
        self.session.reject(said["image"], self._region(said), str(said["revision"]))
        return self._done(said)

    def good(self, said: Said) -> Response:
        """Say that all of an image is good."""
        self.session.call_good(said["image"], str(said["revision"]))
        return self._done(said)

    def undo(self, said: Said) -> Response:
        """Take the last decision on an image back."""
        if not self.session.undo(said["image"], str(said["revision"])):
            msg = "There is nothing to take back since the page was started. The eraser takes away what is older."
            raise ValueError(msg)
        return self._done(said)

    def colour(self, said: Said) -> Response:
        """Set the colour of a class."""
        self.session.set_colour(str(said["label"]), str(said["colour"]))
        return JSONResponse({})

    def threshold(self, said: Said) -> Response:
        """Set the threshold."""
        self.session.set_step(int(said["step"]))
        return JSONResponse({})

    def _region(self, said: Said) -> FoundRegion:
        region = self.session.region(said["image"], int(said["x"]), int(said["y"]), int(said["step"]))
        if region is None:
            msg = "Nothing is found there at this threshold."
            raise ValueError(msg)
        return region

    def _done(self, said: Said) -> Response:
        return JSONResponse(self.session.summary(said["image"]))


def _described(region: FoundRegion, names: list[str]) -> dict[str, Any]:
    ys, xs = region.mask.nonzero()
    middle = len(xs) // 2  # a pixel of the region itself: its centre may lie outside
    left, top, width, height = region.box
    return {
        "label": names[region.number - 1],
        "box": [left, top, width, height],
        "area": len(xs),
        "probability": round(probability_of(region.level / 256), 4),
        "x": left + int(xs[middle]),
        "y": top + int(ys[middle]),
    }


def _file(path: Path) -> Response:
    return FileResponse(path, filename=path.name, headers=FRESH)


def _tile(asked: Said) -> Tile:
    return Tile(int(asked["scale"]), int(asked["x"]), int(asked["y"]))


async def _query(request: Request) -> Said:
    return dict(request.query_params)


async def _body(request: Request) -> Said:
    said = json.loads(await request.body())
    if not isinstance(said, dict):
        msg = "it is no JSON object"
        raise TypeError(msg)
    return said


def _answering(
    call: Callable[[Said], Response], read: Callable[[Request], Awaitable[Said]]
) -> Callable[[Request], Awaitable[Response]]:
    """Answer what goes wrong with a sentence that the page shows."""

    async def answer(request: Request) -> Response:
        try:
            return await run_in_threadpool(call, await read(request))
        except StaleError as error:
            return JSONResponse({"message": str(error)}, 409)
        except KeyError as error:
            return JSONResponse({"message": f"There is no image or value {error.args[0]!r:.80}."}, 404)
        except (ValueError, TypeError) as error:
            return JSONResponse({"message": str(error)}, 400)
        except OSError as error:
            return JSONResponse({"message": f"It could not be saved: {error}"}, 507)

    return answer
