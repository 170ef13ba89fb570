"""Search an archive on a cluster: Ray Data maps a bundle over images, one model in each of its workers.

A worker writes the results of an image itself, its JSON last, and answers what ``coco.json`` tells of it. What is lost
with a worker is searched again by another one, which takes up the images that are finished; so does a second run.
"""

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anomalib_sofs.progress import shown
from anomalib_sofs.query_files import fault, nothing_left, report
from anomalib_sofs.results.coco_file import coco_name
from anomalib_sofs.results.names import common_folder, result_stems

from .bundle import Bundle, bundle_hash
from .inferencer import SofsInferencer, as_result
from .places import Image, Images, Results
from .run import PREDICTIONS, Done

logger = logging.getLogger(__name__)

BLOCK = 16
"""Most images that a worker takes at a time."""


def run_on_ray(bundle: Path, images: str, out: str, *, workers: int | None = None, device: str = "CPU") -> Done:
    """Find in images what the support set of a bundle marks, on the cluster that ``RAY_ADDRESS`` names.

    Without one, Ray takes the cluster that runs on this machine, or starts one there. This package has to be installed
    on every machine, in the same version.

    Args:
        bundle: The bundle, on this machine.
        images: An image or a folder of images: a path that is the same on every machine, or a URL that fsspec knows.
        out: Folder for the results, likewise.
        workers: How many there are, each with a core; ``None`` takes all cores.
        device: As OpenVINO names it.

    Raises:
        OSError: If something does not exist or cannot be written; what was found before is kept.
        ValueError: If something cannot be read, or does not fit together.
        RuntimeError: If Ray is not installed or gives up, or the bundle has no support set.
    """
    _ = SofsInferencer(bundle).support  # says what is wrong before anything is started
    listed, checked = Images.at(images).listed()
    report(checked)
    if not listed:
        raise ValueError(nothing_left(checked))
    paths = [image.path for image in listed]
    common = common_folder(paths)
    stems = result_stems(paths)
    rows = [
        {
            **image._asdict(),
            "state": json.dumps(image.state),
            "stem": stems[image.path].as_posix(),
            "file_name": coco_name(Path(image.path), stems[image.path], common),
        }
        for image in listed
    ]
    skipped: list[tuple[Path, str]] = []
    before = 0
    place = Results.at(f"{out.rstrip('/')}/{PREDICTIONS}")
    places = {image.name: stems[image.path] for image in listed}
    with _cluster() as ray, place.reserved(places) as (results, draft):
        parts = {name: (bundle / name).read_bytes() for name in [*Bundle.read(bundle).files, "bundle.json"]}
        cores = workers or int(ray.cluster_resources().get("CPU", 1))
        blocks = min(len(rows), max(4 * cores, len(rows) // BLOCK))
        answers = ray.data.from_items(rows, override_num_blocks=blocks).map(
            Worker,
            fn_constructor_args=(ray.put(parts), device, images, results.place),
            compute=ray.data.ActorPoolStrategy(size=min(cores, blocks)),
            num_cpus=1,
        )
        for row in shown(answers.iter_rows(), "Images", len(rows)):
            if row["failed"]:
                raise ValueError(row["failed"])
            if row["skipped"]:
                logger.warning("Skipped: %s", row["skipped"])
                skipped.append((Path(row["path"]), row["skipped"]))
                del places[row["name"]]
            else:
                draft.add(json.loads(row["entry"]))
                before += row["before"]
    if len(skipped) == len(rows):
        raise ValueError(nothing_left(checked._replace(images=[], skipped=skipped)))
    return Done(results.place, len(rows) - len(skipped), before, skipped)


class Worker:
    """Searches images with a model of its own.

    Args:
        parts: Files of the bundle by name, in Ray's object store.
        device: As OpenVINO names it.
        images: Place of the images.
        results: Place of the results.
    """

    def __init__(self, parts: Any, device: str, images: str, results: str) -> None:
        import ray  # noqa: PLC0415 - an extra

        self._scratch = TemporaryDirectory()
        self._bundle = Path(self._scratch.name)
        for name, content in ray.get(parts).items():
            (self._bundle / name).write_bytes(content)
        self._device = device
        self._images, self._results = Images.at(images), Results.at(results)

    @cached_property
    def _inferencer(self) -> SofsInferencer:
        return SofsInferencer(self._bundle, self._device, threads=1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Answer what became of an image: ``entry`` of ``coco.json``, or why it was ``skipped``, or has ``failed``."""
        answer = {"name": row["name"], "path": row["path"], "entry": "", "before": False, "skipped": "", "failed": ""}
        image = Image(row["path"], row["name"], json.loads(row["state"]))
        try:
            return answer | self._search(image, Path(row["stem"]), row["file_name"])
        except (OSError, RuntimeError, ValueError) as error:  # ends the run; Ray would wrap it into a page of its own
            return answer | {"failed": str(error) or repr(error)}

    def _search(self, image: Image, stem: Path, file_name: str) -> dict[str, Any]:
        source = {**image.state, "bundle": bundle_hash(self._bundle)}
        entry = self._results.finished(stem, image, source, file_name)
        if entry is not None:
            return {"entry": json.dumps(entry), "before": True}
        with self._images.local(image.path) as file:
            reason = fault(file)
            if reason:
                return {"skipped": reason.replace(str(file), image.name)}
            found = self._inferencer.predict(file)
            result = replace(as_result(found, file, self._inferencer.support), name=image.name, source=source)
            return {"entry": json.dumps(self._results.write(result, stem, file_name))}


@contextmanager
def _cluster() -> Iterator[Any]:
    """Connect to Ray, or start it; it tells nobody that it is used."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors are raised; what else it says is its own affair
    try:
        import ray  # noqa: PLC0415 - an extra
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        msg = f"--engine ray needs Ray Data ({error}): pip install 'anomalib-sofs[ray]'."
        raise RuntimeError(msg) from error
    ours = not ray.is_initialized()
    if ours:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a block of large images takes its time
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    except ray.exceptions.RayError as error:
        msg = f"Ray gave up: {error}"
        raise RuntimeError(msg) from error
    finally:
        if ours:
            ray.shutdown()


def _check_address(address: str) -> None:
    """Check that a cluster answers; Ray itself would try for minutes.

    Raises:
        RuntimeError: If it does not.
    """
    host, _, port = address.rpartition(":")
    if "/" in host or not port.isdigit():  # none, "auto", "local", or ray://: Ray's own client
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        msg = f"No Ray cluster answers at {address}, which RAY_ADDRESS names ({error})."
        raise RuntimeError(msg) from error
