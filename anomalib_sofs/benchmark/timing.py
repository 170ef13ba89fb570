"""How long things take: a query in units of the bare backbone, and a run as lines of progress."""

import statistics
import time
from collections.abc import Callable

import torch
from rich.progress import Progress
from torch import Tensor

from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, Backbone, default_layers, is_transformer
from anomalib_sofs.model.support import SupportSet

SIDE = 512  # pixels of the square image that the ratio is measured on in `fss` and `fad`
ROUNDS = 5
WARM_UP = 2
MOST_REPEATS = 5
DEFECT = slice(240, 264)  # rows and columns of the marked square: 0.2 % of the image, so that it is not resized

Query = Callable[[Tensor], object]
"""Does everything from images ``(1, 3, H, W)`` in [0, 1] to the map."""


def seconds(run: Query, image: Tensor) -> float:
    """Return the time of one call in seconds."""
    start = time.perf_counter()
    run(image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def say(progress: Progress, line: str) -> None:
    """Print a line above the progress bars; in a log file, where bars show at the end only, it is all there is."""
    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def probe_image() -> Tensor:
    """Return the image ``(3, SIDE, SIDE)`` in [0, 1] that the ratio is measured on."""
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def probe_support() -> SupportSet:
    """Return a support set with one small marked defect."""
    mask = torch.zeros(SIDE, SIDE)
    mask[DEFECT, DEFECT] = 1
    return SupportSet([probe_image().flip(-1)], [mask])


def bare_backbone(name: str = DEFAULT_BACKBONE) -> Backbone:
    """Return a backbone as the yardstick: a CNN up to stride 32, a transformer up to the last block that a head reads.

    Its weights are random, for they do not change its time.
    """
    layers = default_layers(name) if is_transformer(name) else [1, 2, 3, 4]
    return Backbone(name, layers, pretrained=False).eval()


def alternate(first: Query, second: Query, image: Tensor, rounds: int = ROUNDS) -> tuple[float, float]:
    """Measure two things in alternation, so that other work on the machine meets both: median seconds of each.

    The quicker first is run several times in a row, for other work interrupts what takes longer more often.
    """
    with torch.inference_mode():
        pairs = [(seconds(first, image), seconds(second, image)) for _ in range(WARM_UP)]
        repeats = min(max(round(pairs[-1][1] / pairs[-1][0]), 1), MOST_REPEATS)

        def again(image: Tensor) -> None:
            for _ in range(repeats):
                first(image)

        pairs += [(seconds(again, image) / repeats, seconds(second, image)) for _ in range(rounds)]
    firsts, others = zip(*pairs[WARM_UP:], strict=True)
    return statistics.median(firsts), statistics.median(others)


class BackboneClock:
    """Compares queries with one pass of the bare default backbone, strides 4 to 32, over the same image.

    Args:
        device: Where both compute.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.backbone = bare_backbone().to(device)

    def ratio(self, query: Query) -> float:
        """Measure a query in alternation with the backbone.

        Args:
            query: Does everything from the image ``(1, 3, SIDE, SIDE)`` in [0, 1] to the map.

        Returns:
            Median time of the query over median time of the backbone.
        """
        bare, whole = alternate(self.backbone, query, probe_image()[None].to(self.device))
        return whole / bare
