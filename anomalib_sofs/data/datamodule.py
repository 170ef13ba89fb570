"""What all episode datamodules share; a dataset adds where its categories are and what is in them."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from anomalib.data import AnomalibDataModule
from pandas import DataFrame
from torch.utils.data import DataLoader

from anomalib_sofs import user_errors
from anomalib_sofs.arguments import ClosedUnitInterval, NonNegativeInt, PositiveInt, checked

from .datasets import EpochSampler, QueryEpisodes, TrainEpisodes, TrainingCrops
from .folds import Folds, novel_in
from .shared_crops import SharedEpisodes, smallest_group
from .table import check_categories, check_classes, check_disjoint, check_masks, combine


class EpisodeDataModule(AnomalibDataModule):
    """Episodic training on base categories, evaluation by the fixed protocol on novel ones.

    Args:
        root: Folder of the dataset.
        base_categories: Categories to train on; ``None`` takes all that are not novel.
        novel_categories: Categories to test on; ``None`` takes all that are not base.
        shot: Support images per episode.
        crops_per_shot: Crops cut from each support image in training.
        crop_size: Side of a training crop in pixels.
        normal_crop_prob: Probability that a training query is a crop without the defect.
        train_batch_size: Episodes per training step, a multiple of ``episodes_per_batch``.
        eval_batch_size: Queries per evaluation step; images of one size only, so 1 unless all sizes are equal.
        num_workers: Loader processes.
        seed: Seed of training episodes and of the protocol's support choice.
        episodes_per_epoch: Training episodes per epoch; ``None`` means one per base image.
        episodes_per_batch: Training episodes that share one batch of crops of a class: each crop is encoded once, the
            query of one episode and a support of others; an episode then has one to ``shot * crops_per_shot`` support
            crops. 1 gives every episode crops of its own. ``None`` shares them among all episodes of a step (measured,
            see docs/experiments.md), if these are enough for ``shot``.
        normal_shot: Normal support images added to each evaluation support set.
        test_limit: Most test queries per class; ``None`` for all.
        val_limit: Queries per base class in the validation set.
        fold: Number of a published split: its categories are novel, all others base. Instead of naming categories.

    Raises:
        ValueError: If a value is not possible, a category is both base and novel, ``fold`` does not exist or comes
            beside categories, or ``train_batch_size`` is no multiple of ``episodes_per_batch``.
    """

    FOLDS: ClassVar[Folds] = {}
    """Novel categories of the dataset's published folds."""

    def __init__(
        self,
        root: Path | str,
        base_categories: list[str] | None = None,
        novel_categories: list[str] | None = None,
        shot: PositiveInt = 1,
        crops_per_shot: PositiveInt = 1,
        crop_size: PositiveInt = 256,
        normal_crop_prob: ClosedUnitInterval = 0.3,
        train_batch_size: PositiveInt = 4,
        eval_batch_size: PositiveInt = 1,
        num_workers: NonNegativeInt = 2,
        seed: int = 0,
        episodes_per_epoch: PositiveInt | None = None,
        episodes_per_batch: PositiveInt | None = None,
        normal_shot: NonNegativeInt = 0,
        test_limit: PositiveInt | None = None,
        val_limit: PositiveInt = 2,
        fold: NonNegativeInt | None = None,
    ) -> None:
        user_errors.install()
        train_batch_size = checked("train_batch_size", train_batch_size, PositiveInt)
        shot = checked("shot", shot, PositiveInt)
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=checked("eval_batch_size", eval_batch_size, PositiveInt),
            num_workers=checked("num_workers", num_workers, NonNegativeInt),
            seed=int(seed),
        )
        episodes_per_batch = checked("episodes_per_batch", episodes_per_batch, PositiveInt)
        if episodes_per_batch is None:
            episodes_per_batch = train_batch_size if train_batch_size >= smallest_group(shot) else 1
        fold = checked("fold", fold, NonNegativeInt)
        with user_errors.as_message():
            check_groups(train_batch_size, episodes_per_batch)
            if fold is not None:
                novel_categories = self.categories_of(fold, given=[base_categories, novel_categories])
            check_disjoint(base_categories or [], novel_categories or [])
        self.root = Path(root)
        self.fold = fold
        self.base_categories = base_categories
        self.novel_categories = novel_categories
        self.shot = shot
        self.crops_per_shot = checked("crops_per_shot", crops_per_shot, PositiveInt)
        self.crop_size = checked("crop_size", crop_size, PositiveInt)
        self.normal_crop_prob = checked("normal_crop_prob", normal_crop_prob, ClosedUnitInterval)
        self.episodes_per_epoch = checked("episodes_per_epoch", episodes_per_epoch, PositiveInt)
        self.episodes_per_batch = episodes_per_batch
        self.normal_shot = checked("normal_shot", normal_shot, NonNegativeInt)
        self.test_limit = checked("test_limit", test_limit, PositiveInt)
        self.val_limit = checked("val_limit", val_limit, PositiveInt)
        self.category = "_".join(novel_categories or [])

    def categories_of(self, fold: int, given: Sequence[list[str] | None]) -> list[str]:
        """Return the novel categories of a fold.

        Args:
            fold: Its number.
            given: Lists of categories that were named beside it, ``None`` where none was.

        Raises:
            ValueError: If there is no such fold, or categories were named, too.
        """
        if any(categories is not None for categories in given):
            msg = f"fold={fold} chooses the categories. Leave out base_categories and novel_categories, or the fold."
            raise ValueError(msg)
        return novel_in(fold, self.FOLDS)

    @abstractmethod
    def list_categories(self) -> list[str]:
        """List the categories that exist, by name."""

    @abstractmethod
    def samples_of(self, category: str) -> DataFrame:
        """Read the samples of a category: ``image_path, mask_path, label, label_index, split``."""

    def resolve_categories(self) -> tuple[list[str], list[str]]:
        """Fill in the categories that were not given.

        Returns:
            Base and novel categories.

        Raises:
            ValueError: If a category does not exist, is in both lists, or none is left to test on.
        """
        existing = self.list_categories()
        base, novel = self.base_categories, self.novel_categories
        check_categories([*(base or []), *(novel or [])], existing, self.root)
        if base is None and novel is None:
            or_fold = ", or a fold" if self.FOLDS else ""
            there_are = ", ".join(existing) or "none"
            msg = f"Name base_categories, novel_categories or both{or_fold}. {self.root} has: {there_are}."
            raise ValueError(msg)
        base = base if base is not None else [c for c in existing if c not in (novel or [])]
        novel = novel if novel is not None else [c for c in existing if c not in base]
        check_disjoint(base, novel)
        return base, novel

    def setup(self, stage: str | None = None) -> None:
        """Read and check the tables; every error about the data is raised here, before any training."""
        del stage
        if hasattr(self, "test_data"):
            return
        self._setup()

    def _setup(self, _stage: str | None = None) -> None:  # anomalib's abstract method: its name is given
        base, novel = self.resolve_categories()
        tables = []
        for categories in (base, novel):
            table = combine({category: self.samples_of(category) for category in categories}) if categories else None
            if table is not None:
                self.check_table(table)
            tables.append(table)
        base_table, novel_table = tables
        if novel_table is not None:
            self.test_data = self.query_episodes(novel_table)
        if base_table is None:
            self.val_data = self.test_data
            return
        self.train_data = self.train_episodes(base_table)  # type: ignore[assignment]
        self.val_data = QueryEpisodes(
            base_table, shot=self.shot, seed=self.seed or 0, limit=self.val_limit, normal_queries=False
        )
        if novel_table is None:
            self.test_data = self.val_data

    def train_episodes(self, table: DataFrame) -> TrainEpisodes | SharedEpisodes:
        """Make the training episodes out of the samples of the base categories."""
        crops = TrainingCrops(table, self.crop_size)
        length = self.episodes_per_epoch or len(table)
        if self.episodes_per_batch == 1:
            return TrainEpisodes(
                crops,
                length=length,
                shot=self.shot,
                crops_per_shot=self.crops_per_shot,
                normal_crop_prob=self.normal_crop_prob,
                seed=self.seed or 0,
            )
        return SharedEpisodes(
            crops,
            length=max(length // self.episodes_per_batch, 1),
            size=self.episodes_per_batch,
            shot=self.shot,
            most_supports=self.shot * self.crops_per_shot,
            normal_crop_prob=self.normal_crop_prob,
            seed=self.seed or 0,
        )

    def check_table(self, table: DataFrame) -> None:
        """Check the samples of the base or of the novel categories."""
        check_classes(table, self.shot)
        check_masks(table)

    def query_episodes(self, table: DataFrame) -> QueryEpisodes:
        """Make the test episodes out of the samples of the novel categories."""
        return QueryEpisodes(
            table,
            shot=self.shot,
            seed=self.seed or 0,
            limit=self.test_limit,
            normal_shot=self.normal_shot,
        )

    @property
    def class_names(self) -> Sequence[str]:
        """Every ``category/class`` of the test data, in name order."""
        return self.test_data.class_names  # type: ignore[attr-defined]

    def train_dataloader(self) -> DataLoader:
        """Return the loader of training episodes.

        Raises:
            ValueError: If there is no base category.
        """
        if not hasattr(self, "train_data"):
            msg = "There is no base category to train on: name base_categories, or use `anomalib test`."
            raise ValueError(msg)
        processes, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        return DataLoader(
            self.train_data,
            batch_size=self.train_batch_size // self.episodes_per_batch,
            sampler=EpochSampler(len(self.train_data), processes, rank),
            num_workers=self.num_workers,
            collate_fn=self.train_data.collate_fn,
            persistent_workers=self.num_workers > 0,
        )


def check_groups(train_batch_size: int, episodes_per_batch: int) -> None:
    """Check that a training step takes whole groups of episodes.

    Raises:
        ValueError: If it does not.
    """
    if train_batch_size % episodes_per_batch:
        msg = (
            f"train_batch_size={train_batch_size} is no multiple of episodes_per_batch={episodes_per_batch}: a step "
            "takes whole groups of episodes. Change one of them."
        )
        raise ValueError(msg)
