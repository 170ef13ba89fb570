"""Episodes over rendered surfaces: no download, no licence, exact masks."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from anomalib_sofs import user_errors
from anomalib_sofs.arguments import PositiveInt, checked

from .folds import Folds
from .mvtecad import MVTecADEpisodes
from .surfaces import SURFACES, defect_classes, render

logger = logging.getLogger(__name__)

ATTEMPTS = 20
NOVEL = ("ground_steel", "woven_fabric", "ceramic", "plastic")


class SurfaceEpisodes(MVTecADEpisodes):
    """Rendered industrial surfaces, each with several defect classes; most defects cover 0.01 % to 0.5 %.

    The images are rendered once into ``root``, in MVTec AD's layout (so the stock ``MVTecAD`` reads them, too): one
    folder per surface and style, ``test/CLASS``, ``ground_truth/CLASS``, ``train/good``, ``test/good``. They depend on
    the arguments alone.

    Args:
        root: Cache folder.
        base_categories: Surfaces to train on; ``None`` takes all others.
        novel_categories: Surfaces to test on, never trained on; ``None`` takes a metal, a fabric, a ceramic and a
            plastic.
        styles: Products (colours, textures, optics, defect families) per surface.
        images_per_class: Images of each defect class per product.
        image_size: Side of the square images in pixels.
        **kwargs: See :class:`~anomalib_sofs.data.datamodule.EpisodeDataModule`.

    Raises:
        ValueError: If a surface does not exist; the message lists those that do.
    """

    FOLDS: ClassVar[Folds] = {}

    def __init__(
        self,
        root: Path | str = "./datasets/SurfaceEpisodes",
        base_categories: list[str] | None = None,
        novel_categories: list[str] | None = None,
        styles: PositiveInt = 1,
        images_per_class: PositiveInt = 4,
        image_size: PositiveInt = 256,
        **kwargs: Any,
    ) -> None:
        novel = list(novel_categories if novel_categories is not None else NOVEL)
        base = list(base_categories if base_categories is not None else [s for s in SURFACES if s not in novel])
        super().__init__(root, base_categories=base, novel_categories=novel, **kwargs)
        with user_errors.as_message():
            check_surfaces([*base, *novel])
        self.styles = checked("styles", styles, PositiveInt)
        self.images_per_class = checked("images_per_class", images_per_class, PositiveInt)
        self.image_size = checked("image_size", image_size, PositiveInt)
        self.surfaces = base, novel
        self.root = Path(root) / f"{self.image_size}px-{self.images_per_class}each"
        # each product is a category of its own: support and query show the same kind of part
        self.base_categories, self.novel_categories = (self._products(names) for names in (base, novel))
        self.category = "_".join(novel)

    def _products(self, surfaces: Sequence[str]) -> list[str]:
        return [f"{surface}_{style}" for surface in surfaces for style in range(self.styles)]

    def prepare_data(self) -> None:
        """Render the products that are not there yet; each appears whole or not at all."""
        wanted = [*(self.base_categories or []), *(self.novel_categories or [])]
        missing = [product for product in wanted if not (self.root / product).is_dir()]
        if not missing:
            return
        logger.info("Rendering %d products into %s", len(missing), self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:
            jobs = [
                pool.submit(render_product, self.root, product, self.images_per_class, self.image_size)
                for product in missing
            ]
            for job in jobs:
                job.result()

    def setup(self, stage: str | None = None) -> None:
        """Render if needed, then read and check as for any other dataset."""
        self.prepare_data()
        super().setup(stage)


def check_surfaces(names: Sequence[str]) -> None:
    """Check that surfaces exist.

    Raises:
        ValueError: If one does not, with those that do.
    """
    unknown = [name for name in names if name not in SURFACES]
    if unknown:
        msg = f"No surface {', '.join(map(repr, unknown))}. There are: {', '.join(SURFACES)}."
        raise ValueError(msg)


def render_product(root: Path, product: str, images_per_class: int, size: int) -> None:
    """Render all images of one product.

    Args:
        root: Folder that gets the product's folder.
        product: ``SURFACE_STYLE``.
        images_per_class: Images of each defect class, and of ``train/good`` and ``test/good`` each.
        size: Side of an image in pixels.
    """
    surface, style = product.rsplit("_", 1)
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=f".{product}."))
    seed = 0
    for defect in (None, *defect_classes(surface)):
        for split in ("train", "test") if defect is None else ("test",):
            for number in range(images_per_class):
                image, mask, seed = _render_next(surface, defect, int(style), seed, size)
                _save(image, temporary / split / (defect or "good") / f"{number:03d}.png")
                if defect is not None:
                    _save(mask * np.uint8(255), temporary / "ground_truth" / defect / f"{number:03d}_mask.png")
    try:
        temporary.rename(root / product)
    except OSError:  # another process was faster
        shutil.rmtree(temporary)


def _render_next(
    surface: str,
    defect: str | None,
    style: int,
    seed: int,
    size: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Render from ``seed`` on until the defect shows (it nearly always does at once); also return the next seed."""
    for candidate in range(seed, seed + ATTEMPTS):
        try:
            image, mask = render(surface, defect, style=style, seed=candidate, size=(size, size))
        except RuntimeError:
            logger.debug("%s of %s, style %d, shows nowhere with seed %d", defect, surface, style, candidate)
        else:
            return image, mask, candidate + 1
    msg = f"{defect!r} of {surface!r} showed nowhere on {ATTEMPTS} parts of {size} pixels: choose a larger image_size."
    raise ValueError(msg)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
