"""`python -m anomalib_sofs.benchmark.prior_threshold FOLDER`: where the prior's threshold comes from.

Renders 11 surfaces into a folder and prints the mIoU of the target semantic prior over them at each threshold. No image
of any benchmark is looked at, so the threshold is fixed before the first of them is seen.
"""

import sys
from collections import defaultdict
from pathlib import Path

import torch

from anomalib_sofs.data.datasets import QueryEpisodes
from anomalib_sofs.data.surface_episodes import render_product
from anomalib_sofs.data.surfaces import SURFACES

from .baselines import PRIOR_THRESHOLD, STEEPNESS
from .categories import segmentation_tables
from .methods import PRIOR, build_methods

PRODUCTS = [f"{surface}_0" for surface in sorted(SURFACES)[::3]]
IMAGES_PER_CLASS = 3
SIDE = 256  # pixels
THRESHOLDS = torch.arange(0.02, 1, 0.02)


def main(root: Path) -> None:
    """Print the mIoU at each threshold, and the best one."""
    root.mkdir(parents=True, exist_ok=True)
    for product in PRODUCTS:
        if not (root / product).is_dir():
            render_product(root, product, IMAGES_PER_CLASS, SIDE)
    prior = next(method for method in build_methods("default") if method.name == PRIOR)
    counts: defaultdict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(2, len(THRESHOLDS), dtype=torch.float64))
    with torch.inference_mode():
        for category, table in segmentation_tables(root, PRODUCTS, 1).items():
            episodes = QueryEpisodes(table, normal_queries=False)
            for item in (episodes[index] for index in range(len(episodes))):
                support = prior.encode(item.support_paths, item.support_mask_paths)
                assert item.image is not None and item.gt_mask is not None  # noqa: S101, PT018 - episodes have both
                prior_map = prior.probability(item.image, support).logit() / STEEPNESS + PRIOR_THRESHOLD
                found, truth = prior_map > THRESHOLDS[:, None, None], item.gt_mask.bool()
                both, either = (pixels.sum((1, 2)) for pixels in (found & truth, found | truth))
                counts[f"{category}/{item.defect_class}"] += torch.stack([both, either])
    miou = torch.stack([both / either.clamp(min=1) for both, either in counts.values()]).mean(dim=0)
    lines = [f"{threshold:.2f}  {100 * value:.1f} %" for threshold, value in zip(THRESHOLDS, miou, strict=True)]
    best = float(THRESHOLDS[miou.argmax()])
    sys.stdout.write("\n".join([*lines, f"best of {len(counts)} classes: {best:.2f}"]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
