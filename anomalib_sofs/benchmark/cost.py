"""`python -m anomalib_sofs.benchmark.cost`: what a 512 x 512 query costs with one and with several classes.

Support encoding excluded; queries and the bare default backbone in alternation, medians.
"""

import statistics
import sys
from functools import partial

import torch

from anomalib_sofs import Sofs
from anomalib_sofs.model.support import SupportSet

from .timing import BackboneClock, probe_image, seconds

CLASSES = (1, 2, 5)
ROUNDS = 15
EDGE = 24  # pixels of the square that is marked in a class's support image


def support_of(classes: int) -> SupportSet:
    """Return one support image per class, a square marked at another place in each."""
    images, masks = [], []
    for number in range(classes):
        mask = torch.zeros(probe_image().shape[-2:])
        mask[number * 2 * EDGE :, 240:264][:EDGE] = 1
        images.append(torch.where(mask > 0, number / classes, probe_image()))
        masks.append(mask)
    return SupportSet(images, masks, [f"class {number}" for number in range(classes)])


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    model, backbone = Sofs().model.eval(), BackboneClock().backbone
    model.backbone.ensure_weights()
    encodings = {classes: model.encode(support_of(classes)) for classes in CLASSES}
    query = model.normalise(probe_image()[None])
    times: dict[int, list[float]] = {classes: [] for classes in (0, *CLASSES)}
    for _ in range(1 + ROUNDS):
        times[0].append(seconds(backbone, query))
        for classes, encoding in encodings.items():
            times[classes].append(seconds(partial(model, support=encoding), query))
    bare, *whole = (statistics.median(rounds[1:]) for rounds in times.values())
    lines = [f"{'classes':>7}  {'ms':>6}  {'x backbone':>10}  {'x one class':>11}"]
    for classes, median in zip(CLASSES, whole, strict=True):
        lines.append(f"{classes:7}  {1000 * median:6.0f}  {median / bare:10.2f}  {median / whole[0]:11.2f}")
    lines.append(f"bare backbone {1000 * bare:.0f} ms, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
