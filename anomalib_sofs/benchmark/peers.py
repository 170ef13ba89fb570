"""The models that are compared in few-shot anomaly detection, each as anomalib builds it."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import huggingface_hub.constants
from anomalib.models import AnomalyDINO, Padim, Patchcore, WinClip
from anomalib.models.components import AnomalibModule

from anomalib_sofs.model import Sofs
from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, OFFLINE_WEIGHTS

SOFS = "SOFS"
TITLES = {"patchcore": "PatchCore", "padim": "PaDiM", "anomalydino": "AnomalyDINO", "winclip": "WinCLIP"}
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


def _with_default_backbone(model: AnomalibModule) -> AnomalibModule:
    """Load the default backbone's weights into anomalib's feature extractor, without a hub."""
    extractor = model.get_submodule("model.feature_extractor.feature_extractor")
    missing = extractor.load_state_dict(OFFLINE_WEIGHTS[DEFAULT_BACKBONE](), strict=False).missing_keys
    if missing:
        msg = f"the weights of {DEFAULT_BACKBONE} lack {missing[:3]}"
        raise RuntimeError(msg)
    return model


def _patchcore(shot: int, category: str) -> AnomalibModule:
    """PatchCore on strides 8 and 16, as its own default takes layers 2 and 3 of a ResNet."""
    del shot, category
    layers: list[Any] = [2, 3]  # timm's indices, which anomalib takes but does not declare
    return _with_default_backbone(Patchcore(DEFAULT_BACKBONE, layers, pre_trained=False, **ONLY_MODEL))


def _padim(shot: int, category: str) -> AnomalibModule:
    """PaDiM on strides 4, 8 and 16, as its own default takes layers 1 to 3 of a ResNet."""
    del shot, category
    layers: list[Any] = [1, 2, 3]
    return _with_default_backbone(Padim(DEFAULT_BACKBONE, layers, False, PADIM_FEATURES, **ONLY_MODEL))  # noqa: FBT003


def _anomalydino(shot: int, category: str) -> AnomalibModule:
    del shot, category
    return AnomalyDINO(**ONLY_MODEL)


def _winclip(shot: int, category: str) -> AnomalibModule:
    return WinClip(class_name=category, k_shot=shot, **ONLY_MODEL)


def _sofs(shot: int, category: str) -> AnomalibModule:
    del category
    model = Sofs(shot=shot, **ONLY_MODEL)
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
    """Build a model with its pretrained weights, post-processing off: raw scores are compared.

    Args:
        name: :data:`SOFS` or a peer.
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
