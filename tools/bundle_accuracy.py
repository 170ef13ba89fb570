"""Overlap (mIoU) of bundles by the fixed protocol of few-shot segmentation, such as of several precisions.

    python tools/bundle_accuracy.py CATEGORY BUNDLE [BUNDLE ...] [--limit 20]

CATEGORY is a folder in MVTec AD's layout. Each query is searched with the one support image that the protocol draws
for seed 0, which every bundle encodes by itself.
"""

import argparse
import random
from collections import Counter
from pathlib import Path
from statistics import fmean

from anomalib_sofs.annotations.masks import read_marks
from anomalib_sofs.runtime import SofsInferencer


def examples(category: Path) -> dict[str, list[tuple[Path, Path]]]:
    """List image and mask of each defect class, by name."""
    found = {}
    for folder in sorted((category / "ground_truth").iterdir()):
        images = {path.stem: path for path in (category / "test" / folder.name).iterdir()}
        masks = {path.stem.removesuffix("_mask"): path for path in folder.iterdir()}
        found[folder.name] = [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]
    return found


def main() -> None:
    """Measure, and print a line for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("category", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=20, help="most queries per class, the first by name")
    arguments = parser.parse_args()
    inferencers = {bundle: SofsInferencer(bundle) for bundle in arguments.bundles}
    both: Counter[tuple[Path, str]] = Counter()
    either: Counter[tuple[Path, str]] = Counter()
    classes = examples(arguments.category)
    for name, rows in classes.items():
        for query in rows[: arguments.limit]:
            others = [row for row in rows if row != query]
            seed = f"0/{arguments.category.name}/{name}/{query[0].stem}"
            draw = random.Random(seed).randrange(len(others))  # noqa: S311 - no secret
            truth = read_marks(query[1]) > 0
            for bundle, inferencer in inferencers.items():
                inferencer.set_support([others[draw][0]], [others[draw][1]])
                found = inferencer.predict(query[0]).pred_mask > 0
                both[bundle, name] += int((found & truth).sum())
                either[bundle, name] += int((found | truth).sum())
    for bundle, inferencer in inferencers.items():
        iou = {name: both[bundle, name] / max(either[bundle, name], 1) for name in classes}
        parts = ", ".join(f"{name} {100 * value:.1f}" for name, value in iou.items())
        print(f"{bundle.name} ({inferencer.bundle.precision}): mIoU {100 * fmean(iou.values()):.2f} % ({parts})")


if __name__ == "__main__":
    main()
