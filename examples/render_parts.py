"""Render a support folder (one marked defect) and a few parts to search: python examples/render_parts.py FOLDER."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from anomalib_sofs.data.surfaces import render

STYLE, SIZE = 5, (384, 384)


def main(folder: Path) -> None:
    """Write ``support/image``, ``support/mask`` and ``images``."""
    for name in ("support/image", "support/mask", "images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    image, mask = render("ground_steel", "scratch", style=STYLE, seed=1, size=SIZE)
    Image.fromarray(image).save(folder / "support/image/part.png")
    Image.fromarray(mask * np.uint8(255)).save(folder / "support/mask/part.png")
    for number in (2, 3, 4):
        image, _ = render("ground_steel", "scratch", style=STYLE, seed=number, size=SIZE)
        Image.fromarray(image).save(folder / f"images/part_{number}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
