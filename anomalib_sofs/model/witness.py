"""The images that are searched as their own witness (``witness``): what the most usual of them show is no defect.

Most parts are good, and what a good part shows, others show as well. Each image is scored by the others, after the
mutual scoring of Li et al. (MuSc, ICLR 2024): a cell that nothing resembles in most images is unusual. The most usual
images then stand in for good ones as a :mod:`.contrast`. Nobody has said that they are good, so they tell no threshold.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.annotations.notices import warn_once
from anomalib_sofs.tensors import read_image

from .backbone import Backbone
from .encoding import SupportEncoding
from .false_alarms import GoodImages
from .good_parts import MOST_IMAGES, learn_contrasts
from .modes import evaluating
from .normality.cells_and_spaces import MEDIAN_SHARE, SMALL_LAYERS, small_size
from .resizing import resize_image
from .torch_model import SofsModel

LEAST_IMAGES = 30
"""Fewer do not tell what is usual."""
MOST_SCORED = 48
"""Images that are compared with each other, evenly drawn by name: time grows with their square."""
USUAL = 1 / 3
"""Share of these that stand in for good images, at most :data:`~.good_parts.MOST_IMAGES`."""
ALIKE = 0.3
"""Share of the other images, the most similar ones, that a cell is compared with: a defect may show on several."""
TOP = 0.05
"""Share of the cells of an image, the most unusual ones, that its score is the mean of."""


def say_no_effect(why: str) -> None:
    """Say once that ``witness`` changes nothing here, and what does."""
    warn_once(
        f"witness {why}",
        "witness=True changes nothing here: %s. Good images (good=FOLDER, --model.good FOLDER) count everywhere.",
        why,
    )


class Witness:
    """What the most usual of the images that are searched show.

    Args:
        model: The model that searches them.
        files: The images.

    Raises:
        ValueError: If the model has no anomaly detector that can tell, or an image cannot be read.
    """

    def __init__(self, model: SofsModel, files: Sequence[str]) -> None:
        self._beside: dict[str, SupportEncoding | None] = {}
        self._others: SupportEncoding | None = None
        if not model.detector.resizes_large:
            msg = "witness=True needs head='relation' with the default anomaly detector, which sees images whole."
            raise ValueError(msg)
        files = sorted(set(files))
        if len(files) < LEAST_IMAGES:
            warn_once(
                f"witness {len(files)}",
                "witness=True needs at least %d images to tell what is usual, and there are %d: it is left out. Good "
                "images (good=FOLDER, --model.good FOLDER) do the same with 4.",
                LEAST_IMAGES,
                len(files),
            )
            return
        with torch.inference_mode(), evaluating(model):
            self.usual = usual_images(model, files)
            *described, self._others = learn_contrasts(model, GoodImages(self.usual))
        self._beside = dict(zip(self.usual, described, strict=True))

    def beside(self, support: SupportEncoding, query: str) -> SupportEncoding:
        """Return the encoding with which to search an image: one of the usual images is compared with the others."""
        contrast = self._beside.get(query, self._others)
        return support if contrast is None or support.normal else support.contrasting(contrast, self.usual)


def usual_images(model: SofsModel, files: Sequence[str]) -> list[str]:
    """Choose the images that differ least from the others.

    Args:
        model: Whose backbone sees them.
        files: Image files.

    Returns:
        Some of them, sorted as they were.
    """
    count = min(len(files), MOST_SCORED)
    drawn = [files[i * len(files) // count] for i in range(count)]
    scores = mutual_scores([_cells(model.backbone, model.normalise(read_image(file))) for file in drawn])
    least = scores.argsort()[: min(int(count * USUAL), MOST_IMAGES)]
    return [drawn[i] for i in sorted(least.tolist())]


def mutual_scores(images: Sequence[Tensor]) -> Tensor:
    """Score images by each other.

    Args:
        images: Cells of each image ``(D, M_i)``, of length 1 along D.

    Returns:
        How unusual each image is ``(N,)``: the mean of its most unusual cells less half of the median one, a cell
        being as unusual as it is far from the nearest cell of each of the most similar other images, on average.
    """
    scores = []
    for number, cells in enumerate(images):
        others = [image for other, image in enumerate(images) if other != number]
        distances = torch.stack([1 - (other.T @ cells).amax(dim=0) for other in others])
        unusual = distances.sort(dim=0).values[: max(1, int(ALIKE * len(others)))].mean(dim=0)
        highest = unusual.topk(max(1, int(TOP * len(unusual)))).values.mean()
        scores.append(highest - MEDIAN_SHARE * unusual.median())
    return torch.stack(scores)


def _cells(backbone: Backbone, image: Tensor) -> Tensor:
    small = resize_image(image[None], small_size(image.shape[-2], image.shape[-1]))
    return F.normalize(backbone(small, SMALL_LAYERS)[-1][0].flatten(1), dim=0)
