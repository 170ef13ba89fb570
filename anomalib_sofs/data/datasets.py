"""Episodes out of a samples table: endless random ones for training, fixed ones for evaluation."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from pandas import DataFrame
from torch.utils.data import Dataset, DistributedSampler

from anomalib_sofs.annotations.labels import IGNORE, NORMAL
from anomalib_sofs.tensors import read_image, read_mask

from .crops import Augment, crop_around
from .items import EpisodeItem, collate_episodes
from .protocol import choose_support
from .table import defects, normals

Row = Any  # a named tuple of the samples table
Crop = tuple[torch.Tensor, torch.Tensor]  # image (3, c, c), mask (c, c) of {0, 1, 255}


class TrainingCrops:
    """Defect classes and normal images of a table, and augmented crops of them.

    Args:
        table: Samples, see :func:`~anomalib_sofs.data.table.combine`.
        crop_size: Side of a crop in pixels.
    """

    def __init__(self, table: DataFrame, crop_size: int) -> None:
        self.crop_size = crop_size
        self.classes: list[list[Row]] = [
            list(rows.itertuples()) for _, rows in defects(table).groupby(["category", "label"])
        ]
        good = normals(table).groupby("category")
        self.normals: dict[str, list[Row]] = {str(category): list(rows.itertuples()) for category, rows in good}
        self.augment = Augment()

    def of_defect(self, row: Row, generator: random.Random) -> Crop:
        """Cut a crop that shows the defect."""
        return self._crop(row, generator, normal=False)

    def of_background(self, row: Row, generator: random.Random) -> Crop:
        """Cut a crop of a good image of the row's category, or around a normal pixel where there is no such image."""
        good = self.normals.get(row.category)
        return self._crop(generator.choice(good) if good else row, generator, normal=True)

    def _crop(self, row: Row, generator: random.Random, *, normal: bool) -> Crop:
        image, mask = read_pair(row)
        image, mask = crop_around(image, mask, self.crop_size, generator, normal=normal)
        return self.augment(image, mask, generator)


class TrainEpisodes(Dataset[EpisodeItem]):
    """Random training episodes: one query crop and the support crops of the same class.

    An episode depends on ``seed`` and its number alone, so that runs agree whatever the number of workers.

    Args:
        crops: Where the crops come from.
        length: Episodes per epoch.
        shot: Support images.
        crops_per_shot: Crops cut from each support image.
        normal_crop_prob: Probability of a query crop around a normal pixel.
        seed: Seed.
    """

    def __init__(
        self,
        crops: TrainingCrops,
        *,
        length: int,
        shot: int,
        crops_per_shot: int,
        normal_crop_prob: float,
        seed: int,
    ) -> None:
        self.crops = crops
        self.length = length
        self.shot = shot
        self.crops_per_shot = crops_per_shot
        self.normal_crop_prob = normal_crop_prob
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of episodes per epoch."""
        return self.length

    def __getitem__(self, number: int) -> EpisodeItem:
        """Make the episode with a number; numbers go on beyond the epoch's length."""
        generator = random.Random(f"{self.seed}/{number}")  # noqa: S311 - reproducible
        rows = generator.choice(self.crops.classes)
        query, *support = generator.sample(rows, self.shot + 1)
        normal = generator.random() < self.normal_crop_prob
        cut = self.crops.of_background if normal else self.crops.of_defect
        image, mask = cut(query, generator)
        pairs = [self.crops.of_defect(row, generator) for row in support for _ in range(self.crops_per_shot)]
        return EpisodeItem(
            image=image,
            **truth(mask),
            gt_label=(mask == 1).any(),
            image_path=query.image_path,
            mask_path=query.mask_path,
            support_image=torch.stack([crop for crop, _ in pairs]),
            support_mask=torch.stack([(crop_mask == 1).to(crop_mask.dtype) for _, crop_mask in pairs]),
            category=query.category,
            defect_class=query.label,
        )

    @property
    def collate_fn(self) -> Callable:
        """How episodes become a batch."""
        return collate_episodes


class EpochSampler(DistributedSampler[int]):
    """Numbers the episodes of each epoch anew, so that no two epochs see the same ones, and deals them out.

    Lightning would wrap any other sampler for several processes, and not tell it the epoch.

    Args:
        length: Episodes per epoch, of all processes together.
        processes: How many there are.
        rank: Number of this one.
    """

    def __init__(self, length: int, processes: int = 1, rank: int = 0) -> None:
        super().__init__(range(length), processes, rank, shuffle=False)  # type: ignore[arg-type]
        self.length = length

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of this process's episodes in the epoch."""
        return (self.epoch * self.length + number for number in super().__iter__())


class QueryEpisodes(AnomalibDataset):
    """Evaluation episodes by the fixed protocol: every defective image once as query, then the normal images.

    Normal queries get a support of their category's classes in turn; they count for the image-level metrics only.

    Args:
        table: Samples of the categories to evaluate on.
        shot: Support images per query.
        seed: Protocol seed.
        limit: Most queries per class, ``None`` for all; the first by name.
        normal_queries: Whether normal images of the test split are queries, too.
        normal_shot: Normal training images, the first by name, added to each support set; none where there are none.
    """

    def __init__(
        self,
        table: DataFrame,
        *,
        shot: int = 1,
        seed: int = 0,
        limit: int | None = None,
        normal_queries: bool = True,
        normal_shot: int = 0,
    ) -> None:
        super().__init__()
        self.episodes = list(
            _fixed_episodes(table, shot, seed, limit, normal_queries=normal_queries, normal_shot=normal_shot)
        )
        # not anomalib's setter of `samples`: it sorts by path, and rows must stay those of the episodes
        self._samples = DataFrame([row._asdict() for row, _, _ in self.episodes])
        self._samples["label_index"] = (self._samples["label"] != NORMAL).astype(int)
        self._samples.attrs["task"] = "segmentation"

    @property
    def class_names(self) -> list[str]:
        """Every ``category/class`` that has a query, in name order."""
        return sorted({f"{row.category}/{cls}" for row, cls, _ in self.episodes if row.label == cls})

    @property
    def supports(self) -> list[tuple[list[str], list[str]]]:
        """Image and mask files of the support of each query; the mask of a normal image is ``""``."""
        return [support_files(support) for _, _, support in self.episodes]

    def __getitem__(self, index: int) -> EpisodeItem:
        """Read a query and name its support files."""
        row, defect_class, support = self.episodes[index]
        images, masks = support_files(support)
        image, mask = read_pair(row)
        return EpisodeItem(
            image=image,
            **truth(mask),
            gt_label=torch.tensor(row.label != NORMAL),
            image_path=row.image_path,
            mask_path=row.mask_path,
            support_paths=images,
            support_mask_paths=masks,
            category=row.category,
            defect_class=defect_class,
            counted=torch.tensor(row.label == defect_class),
        )

    @property
    def collate_fn(self) -> Callable:
        """How episodes become a batch."""
        return collate_episodes


Episode = tuple[Row, str, Sequence[Row]]  # query, class to find, support


def support_files(support: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the image and mask files of a support; the mask of a normal image is ``""``."""
    return (
        [row.image_path for row in support],
        ["" if row.label == NORMAL else row.mask_path for row in support],
    )


def _fixed_episodes(
    table: DataFrame,
    shot: int,
    seed: int,
    limit: int | None,
    *,
    normal_queries: bool,
    normal_shot: int,
) -> Iterator[Episode]:
    for key, rows in table.groupby("category"):
        category = str(key)
        classes: dict[str, list[Row]] = {
            str(label): list(part.itertuples()) for label, part in defects(rows).groupby("label")
        }
        train_normals: list[Row] = list(normals(rows, "train").itertuples())
        extra = train_normals[:normal_shot]

        def support(
            query: Row, label: str, category: str = category, classes: dict = classes, extra: list = extra
        ) -> list[Row]:
            others = [row for row in classes[label] if row.image_path != query.image_path]
            chosen = choose_support(
                others, shot, seed=seed, category=category, defect_class=label, query=query.image_path
            )
            return chosen + extra

        for label, part in classes.items():
            for query in part[:limit]:
                yield query, label, support(query, label)
        if normal_queries:
            names = list(classes)
            for i, query in enumerate(normals(rows, "test").itertuples()):
                if limit is not None and i >= limit * len(names):
                    break
                yield query, names[i % len(names)], support(query, names[i % len(names)])


def read_pair(row: Row) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the image ``(3, H, W)`` and mask ``(H, W)`` of a row.

    The mask is uint8: 0 normal, 1 defect, 255 ignored. That of a normal image is empty, or holds ignored pixels only.
    """
    image = read_image(row.image_path)
    if row.mask_path:
        return image, read_mask(row.mask_path)
    return image, torch.zeros(image.shape[-2:], dtype=torch.uint8)


def truth(mask: torch.Tensor) -> dict[str, Any]:
    """Split a mask ``(H, W)`` of {0, 1, 255} into ``gt_mask`` and, where pixels are ignored, ``ignore_mask``."""
    ignored = mask == IGNORE
    if not bool(ignored.any()):
        return {"gt_mask": mask}
    return {"gt_mask": (mask == 1).to(mask.dtype), "ignore_mask": ignored}
