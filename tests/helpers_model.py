"""Helpers for tests of the model: the default model, images and masks made up on the spot."""

from functools import cache

import torch
from torch import Tensor, nn

from anomalib_sofs.model import SofsModel, SupportSet
from anomalib_sofs.model.backbone import Backbone, default_layers
from anomalib_sofs.model.heads import build_head, head_layers
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.support_crops import SupportCrops
from anomalib_sofs.model.weights import load_into, packaged_weights, read_state

LITE = "tf_efficientnet_lite0"


@cache
def backbone(name: str = LITE, *, pretrained: bool = True, head: str = "relation") -> Backbone:
    """A frozen backbone; its weights come with a package."""
    made = Backbone(name, default_layers(name) if head == "paper" else head_layers(head, name), pretrained=pretrained)
    made.ensure_weights()
    return made


def default_model(crop: int = 128) -> SofsModel:
    """The default backbone and the trained head that comes with the package."""
    model = SofsModel(backbone(), build_head("relation", backbone(), crop))
    path = packaged_weights("relation", LITE)
    load_into(model.head, read_state(path), path)
    model.head_trained.fill_(value=True)
    return model.eval()


def paper_model(crop: int = 96) -> SofsModel:
    """The published head, small and with random weights, on the default backbone."""
    torch.manual_seed(0)
    features = backbone(head="paper")
    model = SofsModel(features, PaperHead(features.channels, 16, 16, scale_features=True, window_size=crop))
    model.head_trained.fill_(value=True)
    return model.eval()


def surface(height: int, width: int, seed: int = 0) -> Tensor:
    """A grey, slightly noisy surface ``(3, H, W)`` in [0, 1]."""
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return 0.5 + 0.1 * (noise - 0.5)


def marked(
    height: int, width: int, box: tuple[int, int, int, int], seed: int = 0, value: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A surface with a patch of one value at ``(top, left, bottom, right)``, and its mask."""
    image, mask = surface(height, width, seed), torch.zeros(height, width)
    top, left, bottom, right = box
    image[:, top:bottom, left:right] = value
    mask[top:bottom, left:right] = 1
    return image, mask


def support(*pairs: tuple[Tensor, Tensor], labels: list[str] | None = None) -> SupportSet:
    """A support set from pairs of image and mask."""
    return SupportSet([image for image, _ in pairs], [mask for _, mask in pairs], labels or [])


def crops_of(model: SofsModel, *pairs: tuple[Tensor, Tensor]) -> SupportCrops:
    """The crops that a model's head sees of these pairs of image and mask."""
    head = model.head
    return SupportCrops(support(*pairs), head.windows, model.normalise, per_image=4, turns=head.turns)


class ShelfBackbone(nn.Module):
    """Stands for a backbone whose features are known: an image of the constant colour ``i / 100`` has features ``i``.

    Args:
        shelf: Features per image, one ``(1, D, h, w)`` per layer.
    """

    name = "shelf"

    def __init__(self, shelf: list[list[Tensor]]) -> None:
        super().__init__()
        self.shelf = shelf
        self.unnormalise = lambda image: image

    def ensure_weights(self) -> None:
        """Nothing to load."""

    def forward(self, image: Tensor) -> list[Tensor]:
        index = round(float(self.unnormalise(image).mean()) * 100)
        return self.shelf[index]
