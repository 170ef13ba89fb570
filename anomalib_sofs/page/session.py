"""The loop without a browser: mark, find, correct, set a threshold, take the results away.

Everything is on disk as soon as it was said: decisions in the support folder (:mod:`.decisions`), what was found and
how it is shown in its hidden folder ``.page``. A new session with the same folders goes on where the last one ended.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from anomalib_sofs.annotations.labels import IGNORE
from anomalib_sofs.model import SofsModel, SupportSet
from anomalib_sofs.model.encoding import SupportEncoding
from anomalib_sofs.model.false_alarms import FALSE_ALARMS, GoodImages, learn_limits
from anomalib_sofs.model.probabilities import LIMIT
from anomalib_sofs.model.region_of_interest import RegionOfInterest
from anomalib_sofs.results.files import written_whole
from anomalib_sofs.visualization.panels import CLASS_COLOURS

from .decisions import OWN, Decisions
from .finds import (
    STEP,
    About,
    Find,
    Finds,
    FoundRegion,
    level_of,
    opened,
    probability_of,
    region_at,
    regions_of,
    step_of_logit,
)
from .images import ImageFolder, Pixels
from .marking import Marking
from .search import CACHE_GB, Engine, Search
from .settings import Settings

SETTINGS = "settings.json"
NO_ROI = "none"
"""Stands for the whole image on the command line."""
REACH = 12
"""Pixels around a click in which a region is looked for."""


class Session(Marking):
    """A folder of images, the decisions on them, and what was found.

    Args:
        images: The folder of images.
        support: The support folder; ``None`` takes ``images_support`` beside it.
        ckpt_path: Checkpoint of a trained model; the support set that it carries does not count.
        cache_gb: Gigabytes of features that may be kept on disk.
        model: A model that is there already, instead of a checkpoint.
        good: A folder of good parts that may tell the threshold, wherever it lies.
        roi: Where defects count: a mask of the size of every image, or a folder of masks by stem; ``none`` for all of
            the images, ``None`` for what an earlier session was told.
        least_area: Pixels of the smallest region that counts; ``None`` for what an earlier session was told.

    Raises:
        OSError: If a folder does not exist or cannot be written, or another page works on the support folder.
        ValueError: If there is nothing to read, or the support folder holds marks in another form.
    """

    def __init__(
        self,
        images: Path,
        support: Path | None = None,
        ckpt_path: Path | None = None,
        cache_gb: float = CACHE_GB,
        model: SofsModel | None = None,
        good: Path | None = None,
        roi: Path | None = None,
        least_area: int | None = None,
    ) -> None:
        support = images.absolute().with_name(f"{images.absolute().name}_support") if support is None else support
        super().__init__(ImageFolder(images, without=(support,)), Decisions(support))
        self.own = self.decisions.root / OWN
        self.own.mkdir(exist_ok=True)
        self._lock = FileLock(self.own / "lock", thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            msg = f"Another page works on {support}. Close it, or name another folder with --support."
            raise OSError(msg) from None
        self.finds = Finds(self.own / "finds")
        self.settings = Settings.read(self.own / SETTINGS)
        self.search = Search(Engine(self.own / "features", ckpt_path, cache_gb, model))
        self.ckpt_path = ckpt_path
        self._good = None if good is None else good.resolve()
        self._known: dict[str, tuple[object, dict[str, Any]]] = {}
        self._good_known: tuple[object, list[str]] = (None, [])
        self._restrict(roi, least_area)

    def _restrict(self, roi: Path | None, least_area: int | None) -> None:
        """Set where defects count, and from how many pixels on; what does not fit is not remembered."""
        changes: dict[str, Any] = {} if least_area is None else {"least_area": least_area}
        if roi is not None:
            changes["roi"] = None if str(roi) == NO_ROI else str(roi.absolute())
        source = changes.get("roi", self.settings.roi)
        try:
            self.roi = None if source is None else RegionOfInterest.from_path(source)
            if self.roi is not None:
                self.roi.check(str(self.images.file(name)) for name in self.images.names)
        except (OSError, ValueError):
            self.close()
            raise
        if changes:
            self._change_settings(**changes)

    @property
    def restrictions(self) -> dict[str, Any]:
        """Region of interest and least area as arguments of :class:`~anomalib_sofs.model.Sofs`."""
        roi = {} if self.roi is None else {"roi": self.roi.source}
        return roi | ({} if self.settings.least_area == 1 else {"least_area": self.settings.least_area})

    @property
    def made_by(self) -> str:
        """What stands for all that finds follow from."""
        decided = self.decisions.digest()
        good = self._good_files()
        if not self.restrictions and not good:
            return decided
        masks = {} if self.roi is None else self.roi.masks
        told = [f"{decided} {self.settings.least_area} {good}".encode()]
        for stem, (height, width, bits) in sorted(masks.items()):
            told += [f"{stem} {height} {width}".encode(), bits.tobytes()]
        return hashlib.blake2b(b" ".join(told), digest_size=8).hexdigest()

    def close(self) -> None:
        """Stop what is running and give the folders free."""
        self.stop()
        self._lock.release()

    # -- decisions ---------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Tell that there is something new to show."""
        self.search.touch()

    def call_good(self, name: str, seen: str | None = None) -> None:
        """Say that all of an image is good: it becomes background, and what was found on it is rejected.

        Raises:
            ValueError: If something is marked on it.
        """
        self._call_good(name, self.regions(name), seen)

    # -- what was found ----------------------------------------------------------------------------------------------

    def find(self, name: str) -> Find | None:
        """Return what was found on an image; ``None`` if nothing was sought."""
        return self.finds.read(self._stems[name], self.size(name))

    def steps(self, about: About | Find, step: int | None = None) -> list[int]:
        """Return the threshold's step of each class on an image, as :func:`~.probabilities.probabilities` has it.

        Where good parts have told a limit, only images beyond it show the class; in them, the threshold counts.

        Args:
            about: What was found on the image.
            step: Of the threshold; ``None`` takes the one that people have set.
        """
        step = self.settings.step if step is None else step
        steps = []
        for name, peak in zip(about.names, about.peaks, strict=True):
            strict = max(step, self.settings.limits.get(name, 0))
            steps.append(step if peak >= strict * STEP else strict)
        return steps

    def regions(self, name: str, step: int | None = None) -> list[FoundRegion]:
        """List what is found on an image, the largest first."""
        find = self.find(name)
        return [] if find is None else regions_of(*find.found(self.steps(find, step)))

    def judged(self, name: str, region: FoundRegion) -> str:
        """Say what most of a found region was called already; empty if nothing."""
        decision = self.decision(name)
        left, top, width, height = region.box
        window = (slice(top, top + height), slice(left, left + width))
        marks, rejected = decision.marks[window][region.mask], decision.rejected[window][region.mask]
        if 2 * int(rejected.sum()) > len(rejected):
            return "not a defect"
        return "marked" if 2 * int(((marks > 0) & (marks != IGNORE)).sum()) > len(marks) else ""

    def region(self, name: str, x: int, y: int, step: int | None = None) -> FoundRegion | None:
        """Return the found region at a pixel of an image, or a near one."""
        return region_at(self.regions(name, step), x, y, REACH)

    def summary(self, name: str) -> dict[str, Any]:
        """Describe an image for a list: its size, how sure of a defect the search is, and what was decided."""
        about = self.finds.about(self._stems[name])
        steps = [] if about is None else self.steps(about)
        return self._decided(name) | {
            "score": None if about is None else about.score(steps) // STEP,
            "found": about is not None and any(p >= s * STEP for p, s in zip(about.peaks, steps, strict=True)),
            "peaks": {} if about is None else {n: p // STEP for n, p in zip(about.names, about.peaks, strict=True)},
            "made_by": None if about is None else about.made_by,
        }

    def _decided(self, name: str) -> dict[str, Any]:
        touched = self.decisions.touched(self._stems[name])
        before, known = self._known.get(name, (None, {}))
        if touched != before:
            (height, width), decision = self.size(name), self.decision(name)
            numbers = sorted(set(np.unique(decision.marks).tolist()) - {0, IGNORE})
            known = {
                "name": name,
                "height": height,
                "width": width,
                "revision": self.revision(name),
                "marked": [self.decisions.classes[number - 1] for number in numbers],
                "rejected": bool(decision.rejected.any()),
                "good": decision.good,
            }
            self._known[name] = (touched, known)
        return known

    def thumbnail(self, name: str, make: Callable[[Pixels], bytes]) -> bytes:
        """Return a thumbnail of an image, made once."""
        file = self.own / "thumbnails" / f"{self._stems[name]}.jpg"
        source = self.images.file(name)
        if not file.is_file() or file.stat().st_mtime < source.stat().st_mtime:
            with written_whole(file) as opened:
                opened.write(make(self.images.pixels(name)))
        return file.read_bytes()

    # -- threshold ---------------------------------------------------------------------------------------------------

    def set_step(self, step: int) -> None:
        """Set the threshold, a step of 1 to 255."""
        if not 1 <= step <= 255:  # noqa: PLR2004
            msg = f"The threshold has steps from 1 to 255, not {step}."
            raise ValueError(msg)
        self._change_settings(step=step)

    @property
    def threshold(self) -> float:
        """The probability from which on something is found."""
        return probability_of(self.settings.step)

    @property
    def good_folders(self) -> list[str]:
        """Folders that good parts may be taken from: those of the images, and the one that was given at the start."""
        folders = sorted({str(Path(name).parent) for name in self.images.names})
        return [*([] if self._good is None else [str(self._good)]), *folders]

    @property
    def unsearched(self) -> bool:
        """Whether anything was decided since the last search."""
        made_by = self.made_by
        known = [self.finds.about(stem) for stem in self._stems.values()]
        return any(about is not None and about.made_by != made_by for about in known)

    def set_good(self, folder: str | None, false_alarms: float = FALSE_ALARMS) -> None:
        """Choose good parts that tell the threshold at the next search; ``None`` asks no more for them.

        Args:
            folder: One of :attr:`good_folders`.
            false_alarms: Share of good parts that may get a region.

        Raises:
            KeyError: If it is none of them.
            OSError: If there is no such folder, or no image in it.
            ValueError: If something in it marks a defect, or the share is none.
        """
        if folder is None:
            self._change_settings(good=None, limits={})
            return
        if not 0 < false_alarms < 1:
            msg = f"The share of good parts that may get a region lies between 0 and 1, not at {false_alarms:g}."
            raise ValueError(msg)
        if folder not in self.good_folders:
            raise KeyError(folder)
        self._change_settings(good=folder, false_alarms=false_alarms)
        try:
            self._good_images()
        except (OSError, ValueError):
            self._change_settings(good=None)
            raise

    def set_colour(self, label: str, colour: str) -> None:
        """Set the colour ``#rrggbb`` that a class is shown in."""
        digits = colour.removeprefix("#")
        if label not in self.decisions.classes or len(digits) != 6 or set(digits.lower()) - set("0123456789abcdef"):  # noqa: PLR2004
            msg = f"{colour!r} is no colour like #e61e1e, or {label!r} no class."
            raise ValueError(msg)
        self._change_settings(colours=self.settings.colours | {label: f"#{digits.lower()}"})

    def colour(self, label: str) -> str:
        """Return the colour of a class as ``#rrggbb``."""
        number = self.decisions.classes.index(label) if label in self.decisions.classes else 0
        usual = "#{:02x}{:02x}{:02x}".format(*CLASS_COLOURS[number % len(CLASS_COLOURS)])
        return self.settings.colours.get(label, usual)

    def _change_settings(self, **changes: Any) -> None:
        with self.decisions.lock:
            self.settings = replace(self.settings, **changes)
            self.settings.write(self.own / SETTINGS)
        self.search.touch()

    # -- search ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Search all images in the background, what was found most on before first; :attr:`search` tells how far it is.

        Raises:
            ValueError: If nothing is marked.
        """
        if not self.decisions.marked:
            msg = "Nothing is marked yet: mark a defect on one image first, then search."
            raise ValueError(msg)
        self.search.start(self._steps_of_search)

    def stop(self) -> None:
        """Stop a search; what was found so far stays."""
        self.search.stop()

    def wait(self) -> None:
        """Wait for the end of a search.

        Raises:
            RuntimeError: If it failed.
        """
        self.search.wait()

    def _steps_of_search(self, search: Search) -> None:
        self._good_files(anew=True)
        with self.decisions.lock:
            made_by, support = self.made_by, SupportSet.from_folder(self.decisions.root)
            good = None if self.good is None else self._good_images()
        search.say("Learning what is marked")
        encoding = search.engine.encode(support)
        encoding.restrict(self.roi, self.settings.least_area)
        if good is not None:
            self._learn_limits(search, encoding, good)
        names = sorted(self.images.names, key=self._score, reverse=True)
        todo = {name: self.images.file(name) for name in names if not self._is_known(name, made_by)}
        search.say("Searching", len(names) - len(todo), len(names))
        for name, logits in search.found(todo, encoding):
            levels = opened(level_of(logits), self.settings.least_area)
            self.finds.write(self._stems[name], Find(levels, list(encoding.names), made_by))
            search.advance()

    def _learn_limits(self, search: Search, encoding: SupportEncoding, good: GoodImages) -> None:
        search.say(f"Looking at {len(good.images)} good parts")
        learn_limits(search.engine.model, [encoding], good)
        steps = [step_of_logit(float(found[LIMIT])) for found in encoding.encodings]
        limits = dict(zip(encoding.names, steps, strict=True))
        self._change_settings(limits=limits)

    @property
    def good(self) -> Path | None:
        """The folder of good parts that tell the threshold."""
        # an absolute folder, which is the one given at the start, stays as it is
        return None if self.settings.good is None else self.images.root / self.settings.good

    def _good_images(self) -> GoodImages:
        return GoodImages.from_folder(str(self.good), self.settings.false_alarms)

    def _good_files(self, *, anew: bool = False) -> list[str]:
        """Return what stands for the files of good parts: names, and when they were last written.

        Somebody asks several times a second: they are listed anew when a file came or went, and with every search.
        """
        if self.good is None:
            return []
        folder = (self.good, self.good.stat().st_mtime_ns if self.good.is_dir() else None)
        if anew or folder != self._good_known[0]:
            files = (file for file in self.good.rglob("*") if file.is_file())
            self._good_known = (folder, sorted(f"{file} {file.stat().st_mtime_ns}" for file in files))
        return self._good_known[1]

    def _is_known(self, name: str, made_by: str) -> bool:
        about = self.finds.about(self._stems[name])
        return about is not None and about.made_by == made_by

    def _score(self, name: str) -> int:
        about = self.finds.about(self._stems[name])
        return -1 if about is None else about.score(self.steps(about))
