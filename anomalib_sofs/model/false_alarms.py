"""Thresholds that good images tell: split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2023, sec. 1).

A further good image of the same kind exceeds the k-th smallest score of N good ones with probability at most
1 - k / (N + 1), whatever the scores are like: only their order counts.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.annotations.reader import read_support
from anomalib_sofs.conformal import conformal_quantile, conformal_rank
from anomalib_sofs.tensors import read_image

from .encoding import SupportEncoding
from .examples import checked_image
from .good_parts import learn_contrasts
from .modes import evaluating

if TYPE_CHECKING:
    from .torch_model import SofsModel

logger = logging.getLogger(__name__)

FALSE_ALARMS = 0.05
"""Share of good images that may get a region where nothing else is said."""


@dataclass(frozen=True)
class GoodImages:
    """Good images that are at hand, and what share of such images may get a region.

    Args:
        images: Files, read one by one when they are needed, or RGB images ``(3, H, W)`` as a support set takes them.
        rate: The share, between 0 and 1.

    Raises:
        ValueError: If there is no image.
    """

    images: Sequence[str | Path | Tensor]
    rate: float = FALSE_ALARMS

    def __post_init__(self) -> None:
        """Check that there is an image."""
        if len(self.images) == 0:
            msg = "Thresholds from good images need at least one good image."
            raise ValueError(msg)

    @classmethod
    def from_folder(cls, folder: str | Path, rate: float = FALSE_ALARMS) -> "GoodImages":
        """List the images of a folder, as normal supports are listed.

        Raises:
            FileNotFoundError: If there is no such folder, or no image in it.
            ValueError: If something in it marks a defect.
        """
        return cls([str(marked.image) for marked in read_support(Path(folder), normal=True)], rate)

    @property
    def names(self) -> list[str]:
        """The files, or what stands for images from memory."""
        return [f"good image {i}" if isinstance(x, Tensor) else str(x) for i, x in enumerate(self.images)]

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and pixels ``(3, H, W)`` of one image after the other: they need not fit into memory together."""
        for name, image in zip(self.names, self.images, strict=True):
            yield name, checked_image(image, name) if isinstance(image, Tensor) else read_image(image)


@torch.no_grad()
def learn_limits(model: "SofsModel", supports: Sequence[SupportEncoding], good: GoodImages) -> None:
    """Let good images tell from which logit (or distance from normal) on something is a defect, for each class.

    The limits become part of the encodings; images that exceed none of them have no region, those at hand among them.

    Args:
        model: Whose scores count.
        supports: Its encodings of support sets, which are changed.
        good: Good images, none of them one of a support's.

    Raises:
        ValueError: If an image cannot be read, naming it.
    """
    count = len(good.images)
    if conformal_rank(count, good.rate) > count:
        warn_once(
            f"{count} {good.rate}",
            "%d good image(s) can promise a false alarm on one of %d good parts (%.1f %%) at best, not %g %%: the "
            "threshold is their largest score. %d good images are enough for that.",
            count,
            count + 1,
            100 / (count + 1),
            100 * good.rate,
            math.ceil(1 / Fraction(str(good.rate))) - 1,
        )
    known = {name for support in supports for name in support.record["images"]}
    for name in sorted(known & set(good.names)):
        warn_once(
            name,
            "%s is a support image and one of the good images that tell the threshold: what the model knows already "
            "tells too little. Use other images.",
            name,
        )
    scores: list[list[Tensor]] = [[] for _ in supports]
    marked = [support for support in supports if not support.normal]
    before = [support.contrast for support in marked]
    with evaluating(model):
        *contrasts, contrast = learn_contrasts(model, good) if marked else [None] * (count + 1)
        try:
            for (name, image), without in zip(good.read(), contrasts, strict=True):
                query = model.normalise(image)[None]
                for support in marked:
                    support.contrast = without
                for support, found in zip(supports, scores, strict=True):
                    found.append(model.alarms(query, support, [name]))
        except BaseException:  # an interrupted notebook goes on with what it had
            for support, was in zip(marked, before, strict=True):
                support.contrast = was
            raise
    for support in marked:
        support.contrast = contrast
    for support, found in zip(supports, scores, strict=True):
        support.limit(conformal_quantile(torch.cat(found), good.rate))
        support.record |= {"good": good.names, "false_alarms": good.rate}


def good_images(folder: str | Path | None, rate: float | None) -> GoodImages | None:
    """Return the good images of a folder, ``None`` without one.

    Raises:
        FileNotFoundError: If there is no image in it.
        ValueError: If there is a rate, but no folder, or something in the folder marks a defect.
    """
    if folder is not None:
        return GoodImages.from_folder(folder, FALSE_ALARMS if rate is None else rate)
    if rate is not None:
        msg = f"false_alarms={rate} needs good images that tell the threshold: add good=FOLDER (--model.good FOLDER)."
        raise ValueError(msg)
    return None


def told_by(good: GoodImages, support: SupportEncoding) -> bool:
    """Tell whether these images have told the limits of an encoding."""
    return (support.record.get("good"), support.record.get("false_alarms")) == (good.names, good.rate)


def warn_of_limits(support: SupportEncoding) -> None:
    """Say that limits were told under another region of interest or least area, where there are any."""
    if "limits" in support.record:
        logger.warning(
            "The thresholds of this support set were told by %d good images with another region of interest or least "
            "area. Give the good images again: good=FOLDER (--model.good FOLDER).",
            len(support.record["good"]),
        )


def check_one_category(class_names: Sequence[str]) -> None:
    """Check that episodes are of one category: good images are of one kind of part.

    Args:
        class_names: Every ``category/class`` that is tested.

    Raises:
        ValueError: If there are several categories.
    """
    categories = sorted({name.split("/")[0] for name in class_names})
    if len(categories) > 1:
        msg = (
            f"good holds good images of one category, but the test has {len(categories)}: {', '.join(categories)}. "
            "Name one: --data.novel_categories."
        )
        raise ValueError(msg)
