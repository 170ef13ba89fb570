"""Small bundles and images for tests of the runtime's commands."""

import torch
from PIL import Image

from anomalib_sofs import Sofs, SupportSet, export_bundle

from .helpers_model import marked

PIT = 50, 60, 57, 66
"""Where parts have a pit."""


def part(seed, size=(150, 130)):
    """An image of uint8 ``(H, W, 3)`` with a pit."""
    image, _ = marked(*size, PIT, seed=seed, value=0.0)
    return (image.permute(1, 2, 0) * 255).round().byte().numpy()


def small_bundle(folder):
    """Write a bundle that finds dark pits, and return its folder."""
    image, mask = marked(150, 130, PIT, seed=1, value=0.0)
    model = Sofs(window_size=128, head_options={"background_windows": 2}).eval()
    model.set_support(SupportSet([image], [(mask * 255).to(torch.uint8)], ["pit"]))
    return export_bundle(model, folder)


def parts(folder, count=6):
    """Write images of parts, and one that cannot be read, in two folders; return the images by name."""
    for number in range(count):
        file = folder / f"{'left' if number % 2 else 'right'}/part_{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part(seed=10 + number, size=(140 + number, 150))).save(file)
    (folder / "right/broken.png").write_bytes(b"\x89PNG nothing")
    return sorted(file for file in folder.rglob("part*.png"))


def contents(folder):
    """The files of a folder of results by name, as bytes: the lock and the drafts, which tell of processes, excepted."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
