"""Images per second of a bundle: one image after the other, and as `anomalib-sofs run` does it.

    python tools/runtime_throughput.py BUNDLE IMAGES [--workers N] [--rounds 3]

Both alternate; the median of the rounds is printed. Reading files is part of both, writing results of neither.
"""

import argparse
import time
from pathlib import Path
from statistics import median

from anomalib_sofs.query_files import list_images
from anomalib_sofs.runtime import SofsInferencer
from anomalib_sofs.runtime.run import search


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = list_images(arguments.images)
    inferencer = SofsInferencer(arguments.bundle)
    inferencer.predict(files[0])
    seconds: dict[str, list[float]] = {"one by one": [], "run": []}
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        for file in files:
            inferencer.predict(file)
        seconds["one by one"].append(time.perf_counter() - start)
        start = time.perf_counter()
        search(inferencer, files, lambda _file, _found: None, arguments.workers)
        seconds["run"].append(time.perf_counter() - start)
    for way, times in seconds.items():
        print(f"{way}: {len(files) / median(times):.2f} images per second (median of {len(times)})")


if __name__ == "__main__":
    main()
