"""Does a defect have to lie as the marked one does? Rendered parts, turned, mirrored, larger and smaller.

python tools/turned_defects.py [--groups 40]
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable

import cv2
import numpy as np
import torch
from rendered_groups import HELD_OUT, Group, Picture, Plan

from anomalib_sofs import Sofs, SupportSet

Transform = Callable[[np.ndarray, int], np.ndarray]
"""Of an image or mask ``(H, W[, 3])``, by OpenCV's way to interpolate."""


def turned(degrees: float) -> Transform:
    """Turn about the middle, what lies beyond the border being its mirror image."""

    def transform(pixels: np.ndarray, interpolation: int) -> np.ndarray:
        height, width = pixels.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        return cv2.warpAffine(pixels, matrix, (width, height), flags=interpolation, borderMode=cv2.BORDER_REFLECT_101)

    return transform


def scaled(factor: float) -> Transform:
    """Make larger or smaller."""

    def transform(pixels: np.ndarray, interpolation: int) -> np.ndarray:
        smaller = cv2.INTER_AREA if factor < 1 else interpolation
        return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=smaller)

    return transform


TRANSFORMS: dict[str, Transform] = {
    "as it is": lambda pixels, _: pixels,
    "turned by 90 degrees": lambda pixels, _: np.rot90(pixels).copy(),
    "turned by 180 degrees": lambda pixels, _: np.rot90(pixels, 2).copy(),
    "turned by 270 degrees": lambda pixels, _: np.rot90(pixels, 3).copy(),
    "turned by 30 degrees": turned(30),
    "turned by 45 degrees": turned(45),
    "mirrored": lambda pixels, _: pixels[:, ::-1].copy(),
    "1.5 times as large": scaled(1.5),
    "two thirds as large": scaled(2 / 3),
}


def overlaps(count: int) -> dict[str, list[float]]:
    """Measure the IoU of each group of parts under each transform of its queries; the support stays as it is.

    Args:
        count: Groups, each of one surface that the packaged head has never seen: a marked part, and one or two more.
    """
    model = Sofs().model.eval()
    found: dict[str, list[float]] = defaultdict(list)
    number = 0
    while len(found["as it is"]) < count:
        marked = Group(random.Random(f"turned {number}"), Plan(HELD_OUT, products=(1,))).several(3, good=False)  # noqa: S311
        number += 1
        if len(marked) < 2:  # noqa: PLR2004
            continue
        support = model.encode(SupportSet([marked[0].image], [marked[0].mask]))
        for name, transform in TRANSFORMS.items():
            both = either = 0
            for picture in marked[1:]:
                image, truth = _transformed(picture, transform)
                with torch.inference_mode():
                    probability = model.predict(model.normalise(image.float() / 255)[None], support).maps[0, 0]
                mask = probability > 0.5  # noqa: PLR2004
                both += int((mask & truth).sum())
                either += int((mask | truth).sum())
            found[name].append(both / either if either else 1.0)
    return found


def _transformed(picture: Picture, transform: Transform) -> tuple[torch.Tensor, torch.Tensor]:
    image = transform(picture.image.permute(1, 2, 0).numpy(), cv2.INTER_CUBIC)
    share = transform((picture.mask == 1).numpy().astype(np.float32), cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), torch.from_numpy(share >= 0.5)  # noqa: PLR2004


def main() -> None:
    """Print the mean over the groups, and how far it is from that of queries as they are, with its standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=40, help="groups of rendered parts (40)")
    found = {name: 100 * np.array(values) for name, values in overlaps(parser.parse_args().groups).items()}
    upright = found["as it is"]
    print("| queries | mIoU % | difference |\n|---|---|---|")
    for name, values in found.items():
        difference = values - upright
        error = difference.std(ddof=1) / len(difference) ** 0.5
        print(f"| {name} | {values.mean():.1f} | {difference.mean():+.1f} +- {error:.1f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    main()
