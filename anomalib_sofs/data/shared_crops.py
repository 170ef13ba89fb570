"""Training episodes that share their crops: each is read and encoded once, a query here and a support there."""

import random
from collections.abc import Callable, Sequence

import torch
from torch.utils.data import Dataset

from .datasets import TrainingCrops, truth
from .items import EpisodeBatch, EpisodeItem, collate_episodes


def smallest_group(shot: int) -> int:
    """Return the fewest crops that give every query its ``shot`` supports and leave room for one without the defect."""
    return shot + 2


class SharedEpisodes(Dataset[list[EpisodeItem]]):
    """Random groups of episodes over the crops of one class: every crop is a query, and a support of other episodes.

    A group depends on ``seed`` and its number alone, so that runs agree whatever the number of workers.

    Args:
        crops: Where the crops come from.
        length: Groups per epoch.
        size: Episodes, and crops, of a group.
        shot: Support images; the first ``shot + 1`` crops of a group show the defect of as many images.
        most_supports: Most support crops; an episode draws how many it has.
        normal_crop_prob: Share of crops without the defect, which are queries only.
        seed: Seed.

    Raises:
        ValueError: If a group is too small for a query without the defect beside ``shot`` supports for each query.
    """

    def __init__(
        self,
        crops: TrainingCrops,
        *,
        length: int,
        size: int,
        shot: int,
        most_supports: int,
        normal_crop_prob: float,
        seed: int,
    ) -> None:
        least, marked = smallest_group(shot), shot + 1
        if size < least:
            msg = (
                f"{size} episodes share {size} crops, but {shot} shots need at least {marked} crops with the defect "
                f"and one without. Use episodes_per_batch={least} or more, or 1 (no sharing)."
            )
            raise ValueError(msg)
        self.crops = crops
        self.length = length
        self.size = size
        self.marked = marked
        self.most_supports = most_supports
        self.normal_crop_prob = normal_crop_prob * size / (size - marked)  # none among the first
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of groups per epoch."""
        return self.length

    def __getitem__(self, number: int) -> list[EpisodeItem]:
        """Make the group with a number; numbers go on beyond the epoch's length."""
        generator = random.Random(f"{self.seed}/{number}")  # noqa: S311 - reproducible
        rows = generator.choice(self.crops.classes)
        chosen = generator.sample(rows, min(self.size, len(rows)))
        chosen += generator.choices(rows, k=self.size - len(chosen))  # small classes: several crops of an image
        pairs = []
        for place, row in enumerate(chosen):
            normal = place >= self.marked and generator.random() < self.normal_crop_prob
            cut = self.crops.of_background if normal else self.crops.of_defect
            pairs.append(cut(row, generator))
        return [
            EpisodeItem(
                image=image,
                **truth(mask),
                gt_label=(mask == 1).any(),
                image_path=row.image_path,
                mask_path=row.mask_path,
                category=row.category,
                defect_class=row.label,
                supports=self._supports(place, [other.image_path for other in chosen], pairs, generator),
            )
            for place, (row, (image, mask)) in enumerate(zip(chosen, pairs, strict=True))
        ]

    def _supports(
        self,
        query: int,
        paths: Sequence[str],
        pairs: Sequence[tuple[torch.Tensor, torch.Tensor]],
        generator: random.Random,
    ) -> torch.Tensor:
        """Draw the support of an episode: crops of other images that show the defect, ``(size,)`` bool."""
        others = [i for i, (_, mask) in enumerate(pairs) if paths[i] != paths[query] and (mask == 1).any()]
        drawn = generator.sample(others, min(generator.randint(1, self.most_supports), len(others)))
        supports = torch.zeros(self.size, dtype=torch.bool)
        supports[drawn] = True
        return supports

    @property
    def collate_fn(self) -> Callable:
        """How groups become a batch."""
        return collate_groups


def collate_groups(groups: Sequence[Sequence[EpisodeItem]]) -> EpisodeBatch:
    """Collate the episodes of all groups, one group after the other."""
    return collate_episodes([item for group in groups for item in group])
