"""Few-shot anomaly detection: every model through anomalib's Engine with the same k normal images."""

import logging
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.engine import Engine
from anomalib.models.components import AnomalibModule
from lightning.pytorch import seed_everything
from rich.progress import Progress

from anomalib_sofs.model.backbone import has_offline_weights

from .arguments import BenchmarkError
from .categories import detection_tables
from .few_normals import FewNormals, choose_support
from .machine import without_paths
from .peers import (
    BATCHES,
    EPOCHS,
    OURS,
    OWN_BACKBONES,
    PeerUnavailableError,
    Wanted,
    build,
    check_shots,
    go_offline_unless_reachable,
    our_heads,
)
from .raw_scores import RawScores
from .timing import BackboneClock, say

logger = logging.getLogger(__name__)

SEED = 0  # of PatchCore's and PaDiM's random choices
NOTHING: dict[str, Any] = dict.fromkeys(("image_auroc", "pixel_auroc", "aupro", "f1", "good_called_defective"))
"""The numbers of a model that could not run."""


def run(arguments: Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Run the benchmark.

    Args:
        arguments: See :func:`~anomalib_sofs.benchmark.arguments.parse`.
        progress: Where progress is shown.

    Returns:
        One row per category, method, number of shots and draw; a model that could not run has ``error``.

    Raises:
        BenchmarkError: If there is no such backbone, or something about the data would stop the run.
    """
    try:
        ours = [OURS[head] for head in our_heads(arguments.backbone)]
    except ValueError as error:
        raise BenchmarkError(error) from error
    tables = detection_tables(arguments.root, arguments.categories, max(arguments.shots))
    own_needs_hub = not has_offline_weights(arguments.backbone) and not arguments.random_weights
    if own_needs_hub or OWN_BACKBONES.keys() & set(arguments.peers):
        go_offline_unless_reachable()
    clock = BackboneClock(arguments.device)
    rows = []
    # asked for once: building a model only to miss its weights takes time
    missing: dict[str, PeerUnavailableError] = {}
    for (category, table), name, shots in product(tables.items(), [*ours, *arguments.peers], arguments.shots):
        wanted = Wanted(shots, category, arguments.backbone, arguments.random_weights)
        for draw in range(arguments.draws):
            title = f"{category}, {name}, {shots} shot, draw {draw}"
            try:
                check_shots(name, shots)
                model = _built(name, wanted, missing)
                support = choose_support(table, category, shots, draw)
                data = FewNormals(table, support, arguments.limit, SEED, BATCHES.get(name, 1))
                if name in EPOCHS:
                    say(progress, f"{title}: trains for {EPOCHS[name]} epochs")
                measured = measure(model, data, clock, progress, title, EPOCHS.get(name))
            except PeerUnavailableError as error:
                measured = NOTHING | {"error": without_paths(str(error))}
            except Exception as error:  # one peer must not cost the results of the others
                logger.debug("%s failed", title, exc_info=True)
                reason = without_paths(" ".join(str(error).split()))[:200]
                measured = NOTHING | {"error": f"failed ({type(error).__name__}: {reason})"}
            row = {"category": category, "method": name, "shots": shots, "draw": draw}
            rows.append(row | measured | {"backbone": OWN_BACKBONES.get(name, arguments.backbone)})
            say(progress, f"{title}: {measured.get('error') or _in_short(measured)}")
    return rows


def _built(name: str, wanted: Wanted, missing: dict[str, PeerUnavailableError]) -> AnomalibModule:
    if name in missing:
        raise missing[name]
    seed_everything(SEED, verbose=False)
    try:
        return build(name, wanted)
    except PeerUnavailableError as error:
        missing[name] = error
        raise


def _in_short(measured: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {measured[name]:.3f}" for name in NOTHING if measured[name] is not None)


def measure(
    model: AnomalibModule,
    data: FewNormals,
    clock: BackboneClock,
    progress: Progress,
    title: str,
    epochs: int | None = None,
) -> dict[str, Any]:
    """Fit and test one model.

    Args:
        model: Built by :func:`~anomalib_sofs.benchmark.peers.build`.
        data: Its support and test images.
        clock: Measures the time of a query in units of the bare backbone.
        progress: Where progress is shown.
        title: What is shown there.
        epochs: Of training; ``None`` where the model itself knows.
    """
    recorder = RawScores(data.masks, progress, title)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            callbacks=[recorder, ModelCheckpoint(save_top_k=0)],  # nothing is kept
            max_epochs=epochs,
            default_root_dir=folder,
            accelerator=torch.device(clock.device).type,
            devices=1,
            limit_val_batches=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        engine.fit(model, datamodule=data)
        engine.test(model, datamodule=data, verbose=False)
    model.to(clock.device).eval()  # Lightning leaves it on the CPU
    result = recorder.result()  # a model that gives no numbers needs no clock
    with torch.inference_mode():
        return result | {"backbone_ratio": clock.ratio(model)}
