"""What `speed` measures: our heads with a marked support set, and anomalib's models on 50 normal images."""

import time
from argparse import Namespace
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
from anomalib.models.components import AnomalibModule
from torch import Tensor

from anomalib_sofs.data.surfaces import render
from anomalib_sofs.model import Sofs, SupportSet
from anomalib_sofs.windows import continue_to

from .arguments import BenchmarkError
from .peers import build_on

PEERS = ("patchcore", "padim")
NORMALS = 50  # images that PatchCore and PaDiM learn from
SIDE = 512  # pixels of a rendered image, and of the part of a support image that shows one mark
MARK = slice(244, 268)  # rows and columns of a mark: 0.2 % of its part, so that nothing is resized
SURFACE = "ground_steel"


@dataclass(frozen=True)
class Subject:
    """One model with what it learns from.

    Args:
        head: ``"relation"``, ``"paper"``, ``"patchcore"`` or ``"padim"``.
        backbone: timm name.
        random_weights: Whether the backbone's weights are not loaded.
        shots: Support images of each class; normal images for anomalib's models.
        classes: Defect classes.
        crops: Marked places on each support image, a window each.
        coreset: Of the paper head's background cells.
    """

    head: str
    backbone: str
    random_weights: bool = False
    shots: int = 1
    classes: int = 1
    crops: int = 1
    coreset: float | None = None

    @property
    def ours(self) -> bool:
        """Whether it is one of our heads."""
        return self.head not in PEERS

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.head}, {self.shots} shots, {self.classes} classes" if self.ours else self.head


def subjects(arguments: Namespace) -> list[Subject]:
    """List what is measured: our heads with every support set, anomalib's models once.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
    """
    found = []
    on = arguments.backbone, arguments.random_weights
    for head in arguments.heads or ["relation", *PEERS]:
        coreset = arguments.coreset if head == "paper" else None
        if head in PEERS:
            found.append(Subject(head, *on, shots=NORMALS))
        else:
            sets = product(arguments.shots, arguments.classes)
            found += [Subject(head, *on, shots, classes, arguments.crops, coreset) for shots, classes in sets]
    return found


@cache
def _texture(seed: int) -> Tensor:
    """Return a rendered good part ``(3, SIDE, SIDE)`` in [0, 1]."""
    image, _ = render(SURFACE, None, style=0, seed=seed, size=(SIDE, SIDE))
    return torch.from_numpy(image).permute(2, 0, 1) / 255


def query_image(size: int) -> Tensor:
    """Return the query ``(1, 3, size, size)`` in [0, 1]: a rendered part, mirrored where it is not large enough."""
    return continue_to(_texture(0), size, size)[None].contiguous()


def support_set(subject: Subject) -> SupportSet:
    """Return support images of ``SIDE x (crops * SIDE)`` pixels with one small mark in each part of them."""
    images, masks, labels = [], [], []
    for number in range(subject.shots * subject.classes):
        image = _texture(1).roll(7 * number, dims=1).repeat(1, 1, subject.crops)  # no two are the same
        mask = torch.zeros(SIDE, SIDE * subject.crops)
        for crop in range(subject.crops):
            columns = slice(MARK.start + crop * SIDE, MARK.stop + crop * SIDE)
            image[:, MARK, columns] = image[:, MARK, columns] * (0.2 + 0.1 * (number % subject.classes))
            mask[MARK, columns] = 1
        images.append(image)
        masks.append(mask)
        labels.append(f"class {number % subject.classes}")
    return SupportSet(images, masks, labels)


def build_ours(subject: Subject) -> Sofs:
    """Build our model without a support set; a head that was never trained takes the same time.

    Raises:
        BenchmarkError: If the backbone does not exist, does not suit the head, or its weights cannot be had.
    """
    options = {} if subject.coreset is None else {"coreset": subject.coreset}
    try:
        model = Sofs(
            subject.backbone,
            head=subject.head,  # type: ignore[arg-type]
            head_options=options,
            crops_per_shot=max(subject.crops, 4),
            evaluator=False,
            visualizer=False,
        ).eval()
        if subject.random_weights:
            model.model.backbone.weights_loaded = True
        model.model.backbone.ensure_weights()
    except (ValueError, RuntimeError) as error:
        hint = "" if subject.random_weights else " --random-weights measures the time without them."
        msg = f"{error}{hint}"
        raise BenchmarkError(msg) from error
    model.model.head_trained.fill_(value=True)
    return model


def build_peer(subject: Subject) -> tuple[AnomalibModule, float]:
    """Build one of anomalib's models and let it learn (PatchCore draws its coreset); also the seconds that it took."""
    torch.manual_seed(0)
    model = build_on(subject.head, subject.backbone, random_weights=subject.random_weights)
    side = SIDE // 2
    images = [_texture(0).roll((11 * i, 23 * i), dims=(1, 2))[:, :side, :side][None] for i in range(subject.shots)]
    start = time.perf_counter()
    learner: Any = model  # anomalib's memory-bank models: forward collects, fit learns
    learner.model.train()
    with torch.no_grad():
        for image in images:
            learner.model(learner.pre_processor(image))
        if subject.head == "patchcore":
            _draw_memory_bank(learner.model)
        else:
            learner.fit()
    return model.eval(), time.perf_counter() - start


def _draw_memory_bank(model: Any) -> None:
    """Fill PatchCore's memory bank with a random tenth of what it saw.

    Its own choice of the tenth takes minutes, and the time of a query depends on their number alone.
    """
    cells = torch.vstack(model.embedding_store)
    model.embedding_store.clear()
    model.memory_bank = cells[torch.randperm(len(cells))[: len(cells) // 10]].clone()
