"""Head weights: those that come with the package, our checkpoints, and the authors' published file."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from anomalib_sofs.annotations.notices import warn_once

from .backbone import DEFAULT_BACKBONE

logger = logging.getLogger(__name__)

PACKAGED = Path(__file__).parent / "pretrained"
RELATION = "relation"
"""The head whose weights fit any backbone."""
LISTED = 10
"""Of what does not fit, how much is listed."""
BUILT = "built"
"""Name in the metadata of a ``.safetensors`` file of the :class:`Built` that it fits, as JSON."""
PUBLISHED_PREFIX = "feature_recorrect."
PUBLISHED_BACKBONE_PREFIXES = ("backbone.", "encoder.")

NORMS_FROZEN = "norms_frozen"
"""Buffer of a head that says whether its batch statistics are to be kept."""

# names of the published checkpoint, longest first, and what we call the same thing
PUBLISHED_NAMES = {
    "query_semantic_transformer.mix_transformer.sa_layers": "stages",
    "query_semantic_transformer.mix_transformer.support_prototype": "classifier",
    "query_merge_semantic": "reduction.merge_query",
    "supp_merge_semantic": "reduction.merge_support",
    "down_supp_semantic": "reduction.prototype",
    "down_supp": "reduction.support",
    "down_query": "reduction.query",
    "attn.attn.linear_q": "attention.query",
    "attn.attn.linear_k": "attention.key",
    "attn.attn.linear_v": "attention.value",
    "attn.attn.linear_o": "attention.out",
    "ffn.layers": "mlp",
    "norm1": "attention_norm",
    "norm2": "mlp_norm",
}


def published_to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the key names of the authors' published checkpoint; backbone keys are left out.

    Args:
        state: State dict with keys ``feature_recorrect.…`` and possibly the backbone's.

    Returns:
        State dict of :class:`~anomalib_sofs.model.paper.head.PaperHead`; unknown keys keep their name.
    """
    translated = {}
    for key, value in state.items():
        if key.startswith(PUBLISHED_BACKBONE_PREFIXES):
            continue
        name = key.removeprefix(PUBLISHED_PREFIX)
        for theirs, ours in PUBLISHED_NAMES.items():
            name = name.replace(theirs, ours)
        translated[name] = value
    return translated


def packaged_weights(head: str, backbone: str) -> Path | None:
    """Return the trained head that comes with the package for a backbone, if there is one.

    The networks of the default head see relations only, no features: they suit other backbones, too. Says so.
    """
    path = PACKAGED / f"{head}-{backbone.split('.', maxsplit=1)[0]}.safetensors"
    if path.is_file():
        return path
    if head != RELATION:
        return None
    path = PACKAGED / f"{head}-{DEFAULT_BACKBONE}.safetensors"
    warn_once(
        backbone,
        "The head was trained on relations of %s: it reads those of %s untrained anew. To train it for a backbone: "
        "tools/train_head.py --backbone NAME, then weights=FILE.",
        DEFAULT_BACKBONE,
        backbone,
    )
    return path


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read the head's weights from a file, whatever wrote it.

    Args:
        path: A ``.safetensors`` file, one of our Lightning checkpoints, or the authors' ``.pth``.

    Returns:
        State dict with our names, head only.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"The weights file {path} does not exist."
        raise FileNotFoundError(msg)
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        msg = f"{path} could not be read as a checkpoint with weights_only=True ({error}). Save plain tensors only."
        raise ValueError(msg) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        msg = f"{path} holds no state dict (a mapping of names to tensors)."
        raise ValueError(msg)
    state = {key.removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}
    if any(key.startswith(PUBLISHED_PREFIX) for key in state):
        return published_to_ours(state)
    ours = {key.removeprefix("model.head."): value for key, value in state.items() if key.startswith("model.head.")}
    return ours or state


class Built(NamedTuple):
    """Arguments of :class:`~anomalib_sofs.model.Sofs` that weights depend on; ``None`` is its own choice."""

    layers: list[int] | None
    window_size: int | None
    head_options: dict[str, Any]


def built_for(path: str | Path, given: Built) -> Built:
    """Fill in what a weights file was trained with, where nothing else is given; says so.

    Args:
        path: A readable weights file; only ``.safetensors`` can tell.
        given: What the user asks for.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return given
    with safe_open(path, "pt") as file:
        told = json.loads((file.metadata() or {}).get(BUILT, "{}"))
    layers, window_size, options = told.get("layers"), told.get("window_size"), told.get("head_options", {})
    for name, value in given.head_options.items():
        if name in options and options[name] != value:
            warn_once(
                f"{path} {name}",
                "%s was trained with head_options.%s %s: with %s its figures do not hold.",
                path.name,
                name,
                options[name],
                value,
            )
    if told:
        logger.info("%s was trained with %s: taken where nothing else is given.", path.name, told)
    return Built(
        layers if given.layers is None else given.layers,
        window_size if given.window_size is None else given.window_size,
        {**options, **given.head_options},
    )


def load_into(head: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load weights into a head.

    Raises:
        ValueError: If they are of another version, or keys are unknown, missing or of another shape; the first
            :data:`LISTED` of them are listed.
    """
    expected = head.state_dict()
    for key, value in expected.items():
        if key.endswith("version") and key in state and not torch.equal(state[key], value):
            msg = (
                f"The weights in {source} are of version {state[key].item()} of this head, and the package has version "
                f"{value.item()}: take those that come with it (weights='default'), or train anew."
            )
            raise ValueError(msg)
    if NORMS_FROZEN in expected:
        # whoever brings weights brings the statistics of their batches, too
        state = {**state, NORMS_FROZEN: torch.tensor(data=True)}
    problems = [f"unknown: {key}" for key in state if key not in expected]
    problems += [f"missing: {key}" for key in expected if key not in state]
    problems += [
        f"shape of {key}: {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        msg = (
            f"The weights in {source} do not fit this head (another backbone, other layers, options or another head? "
            "weights=None starts untrained):\n  " + "\n  ".join(problems[:LISTED])
        )
        msg += f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise ValueError(msg)
    head.load_state_dict(dict(state))
