"""The models that are compared in few-shot anomaly detection, each as anomalib builds it."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import huggingface_hub.constants
import timm
from anomalib.models import AnomalyDINO, FoundAD, MHPatchcore, Padim, Patchcore, Rad, WinClip
from anomalib.models.components import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torch import Tensor
from torchvision.transforms.v2 import CenterCrop, Compose

from anomalib_sofs.model import Sofs
from anomalib_sofs.model.backbone import (
    DEFAULT_BACKBONE,
    default_layers,
    has_offline_weights,
    is_transformer,
    offline_weights,
)
from anomalib_sofs.model.heads import HeadName

OURS: dict[HeadName, str] = {"relation": "sofs", "paper": "paper"}
"""What our heads are called in the rows."""
HUB_TIMEOUT = 5  # seconds
LEAST_SHOTS = {"padim": 2}
"""PaDiM estimates a covariance at each position, which one image does not have."""
PADIM_FEATURES = 100  # of 176, as anomalib chooses for ResNet-18
OWN_BACKBONES = {
    "anomalydino": "vit_small_patch14_dinov2",
    "rad": "vit_base_patch16_dinov3",
    "foundad": "vit_base_patch16_dinov3",
    "winclip": "ViT-B-16-plus-240",
}
"""Of the peers that read no other; their weights come from a hub."""
EPOCHS = {"foundad": 2000}
"""Of the peers that train: as behind the few-shot figures that anomalib gives for it."""
BATCHES = {"foundad": 8}
"""Most images of a training step; the other peers look at one after the other."""
ONLY_MODEL: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


class Wanted(NamedTuple):
    """What a model is built for."""

    shots: int
    """Support images."""
    category: str
    """For WinCLIP's prompts."""
    backbone: str = DEFAULT_BACKBONE
    """timm name; that of peers with a backbone of their own is in :data:`OWN_BACKBONES`."""
    random_weights: bool = False
    """Whether the weights of ``backbone`` are not loaded."""


class PeerUnavailableError(Exception):
    """A peer cannot run; the message is its row."""


def go_offline_unless_reachable() -> None:
    """Tell the Hugging Face client to use its cache only where the hub does not answer.

    Its own retries take minutes per file without a network.
    """
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # it answered
    except (OSError, ValueError):
        huggingface_hub.constants.HF_HUB_OFFLINE = True


def _with_offline_weights(model: AnomalibModule, backbone: str) -> AnomalibModule:
    """Load a backbone's weights into anomalib's feature extractor, without a hub."""
    extractor = model.get_submodule("model.feature_extractor.feature_extractor")
    missing = extractor.load_state_dict(offline_weights(backbone), strict=False).missing_keys
    if missing:
        msg = f"the weights of {backbone} lack {missing[:3]}"
        raise RuntimeError(msg)
    return model


def our_heads(backbone: str) -> list[HeadName]:
    """Choose our heads for anomaly detection: on a transformer the published detector, made for it, gets a row, too."""
    return ["relation", "paper"] if is_transformer(backbone) else ["relation"]


def build_on(name: str, backbone: str, *, random_weights: bool = False) -> AnomalibModule:
    """Build PatchCore, MH-PatchCore or PaDiM on a backbone.

    The first two read strides 8 and 16, as their own default takes layers 2 and 3 of a ResNet, PaDiM stride 4, too; of
    a transformer all read what the paper's head reads.

    Args:
        name: ``"patchcore"``, ``"mhpatchcore"`` or ``"padim"``.
        backbone: timm name.
        random_weights: Whether not to load the backbone's weights.
    """
    offline = not random_weights and has_offline_weights(backbone)
    hub = not random_weights and not offline
    # timm's indices, which anomalib takes but does not declare
    layers: list[Any] = [1, 2, 3] if name == "padim" else [2, 3]
    options = dict(ONLY_MODEL)
    if name == "mhpatchcore":
        options["pre_processor"] = _whole_image(MHPatchcore)
    if is_transformer(backbone):
        layers = default_layers(backbone)
        config: Any = timm.get_pretrained_cfg(backbone)
        side = config.input_size[-1]  # the only one that anomalib's extractor can take
        options["pre_processor"] = Patchcore.configure_pre_processor((side, side))
    if name == "patchcore":
        model: AnomalibModule = Patchcore(backbone, layers, pre_trained=hub, **options)
    elif name == "mhpatchcore":
        model = MHPatchcore(backbone, layers, pre_trained=hub, **options)
    else:
        model = Padim(backbone, layers, hub, PADIM_FEATURES, **options)
    return _with_offline_weights(model, backbone) if offline else model


def _whole_image(model: type[MHPatchcore | Rad]) -> PreProcessor:
    """Make a pre-processor without the crop of the middle after the resize: defects at the border count, too."""
    usual: Any = model.configure_pre_processor().transform
    return PreProcessor(transform=Compose([step for step in usual.transforms if not isinstance(step, CenterCrop)]))


def _on_backbone(name: str) -> Callable[[Wanted], AnomalibModule]:
    return lambda wanted: build_on(name, wanted.backbone, random_weights=wanted.random_weights)


def _rad(wanted: Wanted) -> AnomalibModule:
    del wanted
    return Rad(OWN_BACKBONES["rad"], pre_processor=_whole_image(Rad), **ONLY_MODEL)


def _foundad(wanted: Wanted) -> AnomalibModule:
    del wanted
    return FoundAD("dinov3_vit_base_16", **ONLY_MODEL)  # anomalib's word for the timm name above


def _anomalydino(wanted: Wanted) -> AnomalibModule:
    del wanted
    return AnomalyDINO(encoder_name=OWN_BACKBONES["anomalydino"], **ONLY_MODEL)


class _NormalisingWinClip(WinClip):
    """WinCLIP that normalises its reference images as its queries; anomalib 2.7 forgets to."""

    def collect_reference_images(self, dataloader: Any) -> Tensor:
        preprocess: Any = self.pre_processor
        return preprocess(super().collect_reference_images(dataloader))


def _winclip(wanted: Wanted) -> AnomalibModule:
    if find_spec("open_clip") is None:
        msg = "WinCLIP needs open_clip_torch, the extra [peers]"
        raise ImportError(msg)
    return _NormalisingWinClip(class_name=wanted.category, k_shot=wanted.shots, **ONLY_MODEL)


def _ours(head: HeadName) -> Callable[[Wanted], AnomalibModule]:
    return lambda wanted: _sofs(wanted, head)


def _sofs(wanted: Wanted, head: HeadName) -> AnomalibModule:
    # its post-processor decides what is a defect
    model = Sofs(wanted.backbone, head=head, shot=wanted.shots, evaluator=False, visualizer=False)
    if wanted.random_weights:
        model.model.backbone.weights_loaded = True
    model.model.backbone.ensure_weights()
    return model


BUILDERS: dict[str, Callable[[Wanted], AnomalibModule]] = {
    **{name: _ours(head) for head, name in OURS.items()},
    "patchcore": _on_backbone("patchcore"),
    "padim": _on_backbone("padim"),
    "mhpatchcore": _on_backbone("mhpatchcore"),
    "anomalydino": _anomalydino,
    "rad": _rad,
    "foundad": _foundad,
    "winclip": _winclip,
}


def check_shots(name: str, shot: int) -> None:
    """Check that a model can work with so few images.

    Raises:
        PeerUnavailableError: If it cannot.
    """
    if shot < LEAST_SHOTS.get(name, 1):
        msg = f"needs {LEAST_SHOTS[name]} images: it estimates a covariance at each position"
        raise PeerUnavailableError(msg)


def build(name: str, wanted: Wanted) -> AnomalibModule:
    """Build a model with its pretrained weights; anomalib's models without post-processing, for it needs validation.

    Args:
        name: One of :data:`OURS` or a peer.
        wanted: What for.

    Raises:
        PeerUnavailableError: If the weights cannot be had, with the cause.
    """
    try:
        return BUILDERS[name](wanted)
    except Exception as error:
        msg = f"weights cannot be had ({type(error).__name__}: {' '.join(str(error).split())[:140]})"
        raise PeerUnavailableError(msg) from error
