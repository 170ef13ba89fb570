"""Any folder in MVTec AD's layout for few-shot anomaly detection: JPEG, BMP and TIFF files, too."""

from pathlib import Path
from typing import Any

from anomalib.data import AnomalibDataset, MVTecAD
from torchvision.transforms.v2 import Transform

from anomalib_sofs import user_errors
from anomalib_sofs.arguments import NonNegativeInt, PositiveInt, checked

from .checks import refuse_escaping_links
from .mvtec_table import mvtec_samples


class MVTecLikeDataset(AnomalibDataset):
    """One split of a category in MVTec AD's layout.

    Args:
        root: Folder that holds the category.
        category: Its name.
        split: ``"train"`` or ``"test"``.
        augmentations: Applied to images and masks.
    """

    def __init__(self, root: Path | str, category: str, split: str, augmentations: Transform | None = None) -> None:
        super().__init__(augmentations=augmentations)
        self.category = category
        self.split = split
        samples = mvtec_samples(Path(root) / category)
        if samples.empty:
            msg = (
                f"{Path(root) / category} holds no image in train/CLASS or test/CLASS. MVTec AD's layout has "
                "train/good and test/CLASS."
            )
            raise FileNotFoundError(msg)
        self.samples = samples[samples["split"] == split].reset_index(drop=True)


class MVTecLike(MVTecAD):
    """anomalib's ``MVTecAD`` for images of any suffix and any sizes.

    The stock datamodule reads PNG files only, and is left as it is. This one reads every suffix, and takes one image at
    a time unless told otherwise, since images of different sizes do not fit into one batch.

    Args:
        root: Folder that holds the categories.
        category: Name of the category's folder.
        train_batch_size: Images per training batch.
        eval_batch_size: Images per evaluation batch; more than 1 only where all have one size.
        num_workers: Loader processes.
        **kwargs: See :class:`anomalib.data.MVTecAD`.
    """

    def __init__(
        self,
        root: Path | str = "./datasets/MVTecAD",
        category: str = "bottle",
        train_batch_size: PositiveInt = 1,
        eval_batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt = 2,
        **kwargs: Any,
    ) -> None:
        user_errors.install()
        super().__init__(
            root,
            category,
            checked("train_batch_size", train_batch_size, PositiveInt),
            checked("eval_batch_size", eval_batch_size, PositiveInt),
            checked("num_workers", num_workers, NonNegativeInt),
            **kwargs,
        )

    def _setup(self, _stage: str | None = None) -> None:  # anomalib's abstract method: its name is given
        refuse_escaping_links(self.root / self.category, self.root)
        self.train_data = MVTecLikeDataset(self.root, self.category, "train")
        self.test_data = MVTecLikeDataset(self.root, self.category, "test")
