"""Episodes over Defect Spectrum."""

import ast
import re
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pandas import DataFrame

from anomalib_sofs.annotations.class_index import read_class_index
from anomalib_sofs.annotations.labels import NORMAL, is_normal_name
from anomalib_sofs.annotations.mask_cache import MaskCache, Sample
from anomalib_sofs.annotations.mask_folders import match_masks
from anomalib_sofs.images import image_files, sub_folders

from . import folds
from .checks import leave_out_small_classes, refuse_escaping_links
from .datamodule import EpisodeDataModule
from .vision import to_table

PREFIX = "DS-"


class DefectSpectrumEpisodes(EpisodeDataModule):
    """Episodes over Defect Spectrum (huggingface.co/datasets/DefectSpectrum/Defect_Spectrum).

    Layout, as published::

        ROOT/DS-MVTec/DS-MVTec.md                 defects_dict = {"bottle": {'broken_large': 1, ...}, ...}
        ROOT/DS-MVTec/bottle/image/KIND/000.png   KIND is MVTec's; the mask says what is on the image
        ROOT/DS-MVTec/bottle/mask/KIND/000_mask.png
        ROOT/DS-VISION/Screw/{image,mask}/        without KIND, likewise described by DS-VISION.md
        ROOT/DS-DAGM/{image,mask}/                the category DAGM
        ROOT/DS-Cotton-Fabric/{image,mask}/       the category Cotton-Fabric

    ``rgb_mask`` (or ``rbg_mask``), captions and the synthetic folders are not read. Masks hold class numbers, named by
    ``defects_dict`` in the subset's own ``.md`` file; an image with several classes gives one sample for each.
    ``image/good`` and images with an empty mask are normal. ``screw`` and ``wood`` are MVTec's, ``Screw`` and ``Wood``
    VISION's. Classes with too few images for an episode are left out with a warning.

    Args:
        root: Folder that holds the subsets. Download it as plain files (``hf download --local-dir``): links that leave
            the root are refused.
        cache_dir: Where the masks of single classes go, see :class:`~anomalib_sofs.annotations.mask_cache.MaskCache`.
        **kwargs: See :class:`~anomalib_sofs.data.datamodule.EpisodeDataModule`.
    """

    FOLDS: ClassVar[folds.Folds] = folds.DEFECT_SPECTRUM

    def __init__(
        self,
        root: Path | str = "./datasets/Defect_Spectrum",
        cache_dir: Path | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.cache = MaskCache(self.root, cache_dir)

    def list_categories(self) -> list[str]:
        """List the objects of all subsets."""
        return sorted(self._folders())

    def samples_of(self, category: str) -> DataFrame:
        """Read an object's masks.

        Raises:
            ValueError: If a mask is missing, of another size, or holds a class without a name.
        """
        folder = self._folders()[category]
        refuse_escaping_links(folder, self.root)
        subset = folder if folder.parent == self.root else folder.parent
        source = subset / f"{subset.name}.md"
        names = read_names(source, category)
        images = [folder / "image", *sub_folders(folder / "image")]
        samples: list[Sample] = []
        for kind in images:
            if is_normal_name(kind.name):
                samples += [Sample(str(file), "", NORMAL) for file in image_files(kind)]
                continue
            masks = folder / "mask" / kind.relative_to(folder / "image")
            for image, mask in match_masks(image_files(kind), image_files(masks), masks):
                read = partial(read_class_index, mask, image, names, source)
                samples += self.cache.samples(mask, read, key=f"{image}{sorted(names.items())}")
        table = to_table([(sample, "test") for sample in samples])
        return leave_out_small_classes(table, self.shot, folder)

    def _folders(self) -> dict[str, Path]:
        """Find the folder of each object."""
        if not self.root.is_dir():
            return {}
        found: dict[str, Path] = {}
        for subset in (path for path in sub_folders(self.root) if path.name.startswith(PREFIX)):
            objects = [subset] if (subset / "image").is_dir() else sub_folders(subset)
            found |= {path.name.removeprefix(PREFIX): path for path in objects if (path / "image").is_dir()}
        return found


def read_names(source: Path, category: str) -> dict[int, str]:
    """Read the class names of an object by number.

    Args:
        source: A subset's ``.md`` file, which holds ``defects_dict = {OBJECT: {NAME: NUMBER}}``.
        category: The object.

    Raises:
        ValueError: If the file is missing, has no such dictionary, or does not name the object.
    """
    if not source.is_file():
        msg = f"{source} does not exist. It names the classes of {category!r}: download it with the dataset."
        raise ValueError(msg)
    found = re.search(r"defects_dict\s*=\s*(\{.*\})", source.read_text(encoding="utf-8"), re.DOTALL)
    try:
        names = ast.literal_eval(found.group(1) if found else "")[category]
        return {int(number): str(name) for name, number in names.items()}
    except (ValueError, SyntaxError, KeyError, AttributeError, TypeError) as error:
        wanted = "defects_dict = {OBJECT: {NAME: NUMBER}}"
        msg = f"{source} has no names for {category!r} in {wanted} ({error!r}). Restore it from the dataset."
        raise ValueError(msg) from error
