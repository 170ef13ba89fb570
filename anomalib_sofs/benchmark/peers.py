"""The models that are compared in few-shot anomaly detection, each as anomalib builds it."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import huggingface_hub.constants
import timm
from anomalib.models import AnomalyDINO, Padim, Patchcore, WinClip
from anomalib.models.components import AnomalibModule

from anomalib_sofs.model import Sofs
from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, OFFLINE_WEIGHTS, default_layers, is_transformer

SOFS = "sofs"
HUB_TIMEOUT = 5  # seconds
LEAST_SHOTS = {"padim": 2}
"""PaDiM estimates a covariance at each position, which one image does not have."""
PADIM_FEATURES = 100  # of 176, as anomalib chooses for ResNet-18
ONLY_MODEL: dict[str, Any] = {"post_processor": False, "evaluator": False, "visualizer": False}


class PeerUnavailableError(Exception):
    """A peer cannot run; the message is its row."""


def go_offline_unless_reachable() -> None:
    """Tell the Hugging Face client to use its cache only where the hub does not answer.

    Its own retries take minutes per file without a network.
    """
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
    missing = extractor.load_state_dict(OFFLINE_WEIGHTS[backbone](), strict=False).missing_keys
    if missing:
        msg = f"the weights of {backbone} lack {missing[:3]}"
        raise RuntimeError(msg)
    return model


def build_on(name: str, backbone: str, *, random_weights: bool = False) -> AnomalibModule:
    """Build PatchCore or PaDiM on a backbone.

    PatchCore reads strides 8 and 16, as its own default takes layers 2 and 3 of a ResNet, PaDiM stride 4, too; of a
    transformer both read what the paper's head reads.

    Args:
        name: ``"patchcore"`` or ``"padim"``.
        backbone: timm name.
        random_weights: Whether not to load the backbone's weights.
    """
    hub = not random_weights and backbone not in OFFLINE_WEIGHTS
    # timm's indices, which anomalib takes but does not declare
    layers: list[Any] = [2, 3] if name == "patchcore" else [1, 2, 3]
    options = dict(ONLY_MODEL)
    if is_transformer(backbone):
        layers = default_layers(backbone)
        config: Any = timm.get_pretrained_cfg(backbone)
        side = config.input_size[-1]  # the only one that anomalib's extractor can take
        options["pre_processor"] = Patchcore.configure_pre_processor((side, side))
    if name == "patchcore":
        model: AnomalibModule = Patchcore(backbone, layers, pre_trained=hub, **options)
    else:
        model = Padim(backbone, layers, hub, PADIM_FEATURES, **options)
    return _with_offline_weights(model, backbone) if backbone in OFFLINE_WEIGHTS and not random_weights else model


def _patchcore(shot: int, category: str) -> AnomalibModule:
    del shot, category
    return build_on("patchcore", DEFAULT_BACKBONE)


def _padim(shot: int, category: str) -> AnomalibModule:
    del shot, category
    return build_on("padim", DEFAULT_BACKBONE)


def _anomalydino(shot: int, category: str) -> AnomalibModule:
    del shot, category
    return AnomalyDINO(**ONLY_MODEL)


def _winclip(shot: int, category: str) -> AnomalibModule:
    return WinClip(class_name=category, k_shot=shot, **ONLY_MODEL)


def _sofs(shot: int, category: str) -> AnomalibModule:
    del category
    model = Sofs(shot=shot, evaluator=False, visualizer=False)  # its post-processor decides what is a defect
    model.model.backbone.ensure_weights()
    return model


BUILDERS: dict[str, Callable[[int, str], AnomalibModule]] = {
    SOFS: _sofs,
    "patchcore": _patchcore,
    "padim": _padim,
    "anomalydino": _anomalydino,
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


def build(name: str, shot: int, category: str) -> AnomalibModule:
    """Build a model with its pretrained weights; anomalib's models without post-processing, for it needs validation.

    Args:
        name: ``"sofs"`` or a peer.
        shot: Support images.
        category: For WinCLIP's prompts.

    Raises:
        PeerUnavailableError: If the weights cannot be had, with the cause.
    """
    try:
        return BUILDERS[name](shot, category)
    except Exception as error:
        msg = f"weights cannot be had ({type(error).__name__}: {' '.join(str(error).split())[:140]})"
        raise PeerUnavailableError(msg) from error
