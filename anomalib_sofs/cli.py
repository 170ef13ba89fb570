"""The `anomalib-sofs` command: what anomalib's own command has no word for.

Nothing heavy is imported before it is needed: ``--help`` answers at once.
"""

import argparse
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

OK, SOME_SKIPPED, NOTHING_DONE = 0, 1, 2
CHECK_FAILED = 1
STORED = "-"
TALKATIVE = ("lightning", "anomalib", "timm", "huggingface_hub")
DESCRIPTION = "Small Object Few-shot Segmentation: mark a defect, find every other one."
OMP_WAIT_POLICY = os.environ.get("OMP_WAIT_POLICY")
"""As the user has set it, before :func:`main` does."""

EPILOG = "exit codes of find: 0 nothing wrong, 1 some images were skipped, 2 nothing was done."


def benchmark(argv: Sequence[str]) -> int:
    """Run a benchmark, see ``python -m anomalib_sofs.benchmark``."""
    from anomalib_sofs.benchmark.__main__ import main as run  # noqa: PLC0415

    return run(argv)


def find(argv: Sequence[str]) -> int:
    """Find in images what a support set marks."""
    arguments = find_parser().parse_args(argv)
    be_quiet()
    skipped: list[tuple[Path, str]] = []
    with told("find") as failed:
        from anomalib_sofs.find import find as search  # noqa: PLC0415

        skipped = search(
            None if arguments.support == STORED else arguments.support,
            arguments.images,
            arguments.out,
            normal=arguments.normal,
            ckpt_path=arguments.ckpt_path,
            threshold=arguments.threshold,
            good=arguments.good,
            false_alarms=arguments.false_alarms,
            witness=arguments.witness,
            roi=arguments.roi,
            least_area=arguments.least_area,
            accelerator=arguments.accelerator,
        )
    return NOTHING_DONE if failed else SOME_SKIPPED if skipped else OK


def bundle(argv: Sequence[str]) -> int:
    """Write a bundle for the runtime without PyTorch."""
    be_quiet()
    with told("bundle") as failed:
        from anomalib_sofs.deploy.command import main as write  # noqa: PLC0415

        write(argv)
    return NOTHING_DONE if failed else OK


def run(argv: Sequence[str]) -> int:
    """Find in images what a bundle's support set marks, without PyTorch."""
    arguments = run_parser().parse_args(argv)
    skipped: list[tuple[Path, str]] = []
    with told("run") as failed:
        from anomalib_sofs.query_files import summary  # noqa: PLC0415

        places: tuple[Any, Any] = (arguments.images, arguments.out)
        search: Callable[..., Any]
        if arguments.engine == "ray":
            from anomalib_sofs.runtime.ray_engine import run_on_ray as search  # noqa: PLC0415
        else:
            from anomalib_sofs.runtime.run import run as search  # noqa: PLC0415

            places = local_path(places[0]), local_path(places[1])
        done = search(arguments.bundle, *places, workers=arguments.workers, device=arguments.device)
        skipped = done.skipped
        if done.before:
            sys.stderr.write(f"{done.before} of {done.images} images had results of this bundle already.\n")
        labelme = "" if "://" in str(done.folder) else " and LabelMe"
        sys.stdout.write(f"Masks, maps, regions, COCO{labelme} files: {done.folder}\n")
        if skipped:
            sys.stderr.write("\n".join(summary(skipped, done.images + len(skipped))) + "\n")
    return NOTHING_DONE if failed else SOME_SKIPPED if skipped else OK


def coco(argv: Sequence[str]) -> int:
    """Write the COCO file of a folder of results."""
    parser = argparse.ArgumentParser(
        "anomalib-sofs coco",
        description="Write RESULTS/coco.json from the masks and JSON files in RESULTS, such as those of `watch`, which "
        "may go on meanwhile.",
    )
    parser.add_argument("results", metavar="RESULTS", type=Path, help="folder that holds anomalib_sofs.json")
    arguments = parser.parse_args(argv)
    with told("coco") as failed:
        from anomalib_sofs.results.finished import rebuild_coco  # noqa: PLC0415

        path, count = rebuild_coco(arguments.results)
        sys.stdout.write(f"{count} image(s): {path}\n")
    return NOTHING_DONE if failed else OK


def watch(argv: Sequence[str]) -> int:
    """Search the images that come into a folder."""
    parser = argparse.ArgumentParser(
        "anomalib-sofs watch",
        description="Search every image of a folder, and those that come, until it is stopped (Ctrl-C); one JSON line "
        "each. What cannot be read is moved to RESULTS/unreadable.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder that `anomalib-sofs bundle` wrote")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where images come")
    parser.add_argument("--out", metavar="RESULTS", type=Path, required=True, help="folder for the results")
    parser.add_argument("--device", default="CPU", help="CPU (default), GPU, NPU, AUTO: only CPU has been tried")
    parser.add_argument(
        "--mqtt",
        metavar="HOST[:PORT]",
        help="broker that is told each line, too (QoS 1, needs the extra [mqtt]); user and password: the variables "
        "MQTT_USERNAME and MQTT_PASSWORD",
    )
    parser.add_argument("--topic", default="anomalib-sofs", help="MQTT topic (anomalib-sofs)")
    arguments = parser.parse_args(argv)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with told("watch") as failed:
        from anomalib_sofs.runtime.mqtt import Broker  # noqa: PLC0415
        from anomalib_sofs.runtime.watch import watch as search  # noqa: PLC0415

        broker = None if arguments.mqtt is None else Broker(arguments.mqtt, arguments.topic, arguments.out)

        def say(found: dict[str, object]) -> None:
            if broker is not None:
                broker.put(found)
            sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
            sys.stdout.flush()

        with nullcontext() if broker is None else broker.publishing():
            search(arguments.bundle, arguments.folder, arguments.out, say, device=arguments.device, stop=stop)
    return NOTHING_DONE if failed else OK


@contextmanager
def told(command: str) -> Iterator[list[BaseException]]:
    """Say what is wrong in one line instead of a screenful of code; the list holds it then."""
    failed: list[BaseException] = []
    try:
        yield failed
    except KeyboardInterrupt as error:
        failed.append(error)
        sys.stderr.write(f"anomalib-sofs {command}: interrupted\n")
    except (OSError, RuntimeError, ValueError) as error:
        failed.append(error)
        message = str(error).replace("--default_root_dir", "--out")  # anomalib's word for it
        sys.stderr.write(f"anomalib-sofs {command}: {message}\n")


def doctor(argv: Sequence[str]) -> int:
    """Check the installation and tell what belongs into a bug report."""
    doctor_parser().parse_args(argv)
    be_quiet()
    from anomalib_sofs.doctor import doctor as check  # noqa: PLC0415

    failed = 0
    for well, line in check(OMP_WAIT_POLICY):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        failed += not well
    sys.stdout.write(f"{failed} of the checks failed.\n" if failed else "All checks passed.\n")
    return CHECK_FAILED if failed else OK


def page(argv: Sequence[str]) -> int:
    """Mark, find and correct in the browser."""
    arguments = page_parser().parse_args(argv)
    be_quiet()
    try:
        from anomalib_sofs.page.face import serve  # noqa: PLC0415
        from anomalib_sofs.page.session import Session  # noqa: PLC0415

        session = Session(
            arguments.images,
            arguments.support,
            arguments.ckpt_path,
            arguments.cache_gb,
            good=arguments.good,
            roi=arguments.roi,
            least_area=arguments.least_area,
        )
        for notice in [*session.decisions.notices, *(f"Skipped: {reason}" for _, reason in session.images.skipped)]:
            sys.stderr.write(f"{notice}\n")
        try:
            serve(session, arguments.port, arguments.host, arguments.password)
        finally:
            session.close()
    except KeyboardInterrupt:
        pass
    except (OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"anomalib-sofs page: {error}\n")
        return NOTHING_DONE
    return OK


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "find": (find, "find in images what a support set marks, or whatever differs from good parts"),
    "page": (page, "mark defects, find them and correct what was found, in the browser"),
    "bundle": (bundle, "write networks and support set for the runtime without PyTorch"),
    "run": (run, "find in images what a bundle's support set marks, without PyTorch"),
    "doctor": (doctor, "check the installation; prints what to paste into a bug report"),
    "coco": (coco, "write coco.json of results that have none, such as those of watch"),
    "watch": (watch, "search the images that come into a folder, without PyTorch"),
    "benchmark": (benchmark, "compare with other methods on your own data (python -m anomalib_sofs.benchmark)"),
}


def find_parser() -> argparse.ArgumentParser:
    """Return the parser of ``anomalib-sofs find``."""
    parser = argparse.ArgumentParser(
        "anomalib-sofs find",
        description="Find in images what a support set marks; writes what `anomalib predict --model Sofs` writes.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "support",
        metavar="SUPPORT",
        help=f"folder with the marked images (image/ and mask/) or good parts; {STORED} takes the checkpoint's",
    )
    parser.add_argument("images", metavar="IMAGES", type=Path, help="an image, or a folder of images")
    parser.add_argument("--out", metavar="RESULTS", type=Path, required=True, help="folder for the results")
    parser.add_argument("--normal", action="store_true", help="all support images are good parts: find what differs")
    parser.add_argument("--ckpt_path", metavar="CKPT", type=Path, help="checkpoint of a trained model")
    parser.add_argument(
        "--threshold",
        type=share,
        help="probability from which a pixel is a defect, between 0 and 1 (0.5); a larger one finds less",
    )
    parser.add_argument(
        "--good",
        metavar="GOOD",
        type=Path,
        help="folder of good images, none of them in SUPPORT: they tell the threshold, and what is no defect",
    )
    parser.add_argument(
        "--false_alarms", type=share, help="share of good images that may get a region, with --good (0.05)"
    )
    parser.add_argument(
        "--witness",
        action="store_true",
        help="where there are no good images: the most usual of IMAGES, 30 or more, show what is no defect",
    )
    parser.add_argument(
        "--roi",
        metavar="MASK",
        type=Path,
        help="where defects count: a mask for every image, or a folder of masks by name",
    )
    parser.add_argument("--least_area", metavar="PIXELS", type=pixels, help="smallest region that counts (1)")
    parser.add_argument("--accelerator", default="auto", help="auto (default), cpu, gpu, ...: as Lightning names them")
    return parser


def page_parser() -> argparse.ArgumentParser:
    """Return the parser of ``anomalib-sofs page``."""
    parser = argparse.ArgumentParser(
        "anomalib-sofs page",
        description="Mark, find and correct in the browser. Everything is saved in SUPPORT as it is decided.",
    )
    parser.add_argument("--images", metavar="FOLDER", type=Path, required=True, help="folder of images to search")
    parser.add_argument(
        "--support",
        metavar="DIR",
        type=Path,
        help="folder for marks and results, an empty one or the one of an earlier page (FOLDER_support)",
    )
    parser.add_argument("--ckpt_path", metavar="CKPT", type=Path, help="checkpoint of a trained model")
    parser.add_argument("--good", metavar="GOOD", type=Path, help="folder of good parts, to choose on the page")
    parser.add_argument(
        "--roi",
        metavar="MASK",
        type=Path,
        help="where defects count: a mask for every image, or a folder of masks by name; kept for the next time",
    )
    parser.add_argument(
        "--least_area", metavar="PIXELS", type=pixels, help="smallest region that counts (1); kept for the next time"
    )
    parser.add_argument("--cache_gb", metavar="GB", type=float, default=8.0, help="features kept on disk (8)")
    parser.add_argument("--port", type=int, default=7860, help="port (7860)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--password", help="needed with another --host: whoever opens the page has to know it")
    return parser


def run_parser() -> argparse.ArgumentParser:
    """Return the parser of ``anomalib-sofs run``."""
    parser = argparse.ArgumentParser(
        "anomalib-sofs run",
        description="Find in images what a bundle's support set marks, without PyTorch; writes what `find` writes, "
        "pictures excepted. Images that an earlier run has finished with this bundle are not searched again.",
        epilog=EPILOG.replace("find", "run"),
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder that `anomalib-sofs bundle` wrote")
    parser.add_argument("images", metavar="IMAGES", help="an image, or a folder of images; with Ray also a URL")
    parser.add_argument("--out", metavar="RESULTS", required=True, help="folder for the results; with Ray also a URL")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local (default), or the Ray cluster that RAY_ADDRESS names: every machine sees the same paths (needs "
        "the extra [ray])",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=pixels,
        help="windows at a time (as many as OpenVINO advises); with Ray, processes of one core each (all cores)",
    )
    parser.add_argument("--device", default="CPU", help="CPU (default), GPU, NPU, AUTO: only CPU has been tried")
    return parser


def doctor_parser() -> argparse.ArgumentParser:
    """Return the parser of ``anomalib-sofs doctor``."""
    return argparse.ArgumentParser(
        "anomalib-sofs doctor",
        description="Check versions, processor, threads, weights, write access and one small prediction; prints what "
        "to paste into a bug report.",
        epilog="exit codes: 0 all is well, 1 something fails, with what to do about it.",
    )


def be_quiet() -> None:
    """Keep what others log and warn about off the screen; our own warnings stay."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)


def local_path(place: str) -> Path:
    """Return a path of this machine.

    Raises:
        ValueError: If it is a URL.
    """
    if "://" in place:
        msg = f"{place} is no folder of this machine: --engine ray takes URLs."
        raise ValueError(msg)
    return Path(place)


def share(text: str) -> float:
    """Read a number between 0 and 1, both excluded."""
    value = float(text)
    if not 0 < value < 1:
        msg = f"{text} is not between 0 and 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def pixels(text: str) -> int:
    """Read a number of pixels, at least 1."""
    if not text.isdigit() or int(text) < 1:
        msg = f"{text} is no whole number of at least 1"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    listed = "\n".join(f"  {name:<11}{text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "anomalib-sofs",
        usage="anomalib-sofs COMMAND ...",
        description=DESCRIPTION,
        epilog=f"commands (each has its own --help):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=f"one of: {', '.join(COMMANDS)}")
    given = list(sys.argv[1:] if argv is None else argv)
    name = parser.parse_args(given[:1]).command  # the rest is the command's own
    # torch reads it when it is loaded: idle threads sleep, since spinning ones slow down everything beside them
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return COMMANDS[name][0](given[1:])


if __name__ == "__main__":
    sys.exit(main())
