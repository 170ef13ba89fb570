"""Print what a training step of the default head takes, part by part, in units of the backbone's forward pass.

    python tools/training_step.py [--batch 4] [--side 256] [--rounds 9] [--threads 1]

The backbone sees the same crops as the step does, enlarged as the head enlarges them. Crops are shared, as by default:
each is the query of one episode and supports the others. CPU time, medians; what is compared takes turns.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from anomalib_sofs import Sofs
from anomalib_sofs.model.episodes import shared_crops
from anomalib_sofs.model.relation import description
from anomalib_sofs.model.relation.head import RelationHead

METHODS = {"features": "backbone", "relate": "maps", "decide": "networks"}
"""Methods of the head that are timed, and what they are called."""
FUNCTIONS = {"reduce_crop": "statistics of crops", "merge": "statistics of episodes"}
"""Likewise, of :mod:`anomalib_sofs.model.relation.description`."""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=256, help="of a crop, in pixels")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = Sofs().train()
    head, backbone = model.model.head, model.model.backbone
    assert isinstance(head, RelationHead)  # noqa: S101 - the default
    backbone.ensure_weights()
    optimizer = torch.optim.AdamW(head.parameters(), lr=model.lr)
    images = torch.rand(arguments.batch, 3, arguments.side, arguments.side)
    masks = torch.zeros(arguments.batch, arguments.side, arguments.side)
    masks[:, 100:120, 60:90] = 1
    episodes = shared_crops(images, masks, ~torch.eye(arguments.batch, dtype=torch.bool))

    spent: dict[str, list[float]] = {}
    for owner, names in ((head, METHODS), (description, FUNCTIONS)):
        for function, name in names.items():
            spent[name] = [0.0]
            setattr(owner, function, _clocked(getattr(owner, function), spent[name]))
    wholes: dict[str, list[float]] = {"backbone": [], "step": [], "backward": [], "optimizer": []}
    parts: dict[str, list[float]] = {name: [] for name in spent}
    for _ in range(arguments.rounds):
        start = time.process_time()
        head.features(backbone, images)
        wholes["backbone"].append(time.process_time() - start)
        for clock in spent.values():
            clock[0] = 0.0
        began = time.process_time()
        optimizer.zero_grad()
        loss = head.loss(backbone, episodes)
        forward = time.process_time()
        loss.backward()
        backward = time.process_time()
        optimizer.step()
        end = time.process_time()
        wholes["step"].append(end - began)
        wholes["backward"].append(backward - forward)
        wholes["optimizer"].append(end - backward)
        for name, clock in spent.items():
            parts[name].append(clock[0])
    unit = median(wholes["backbone"])
    print(f"{arguments.batch} crops of {arguments.side} px, {arguments.threads} threads; backbone {1000 * unit:.0f} ms")
    for name, times in {"whole step": wholes.pop("step"), **parts, **wholes}.items():
        print(f"{name:24} {1000 * median(times):6.0f} ms {median(times) / unit:6.2f}")


def _clocked(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def clocked(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        found = function(*arguments, **options)
        spent[0] += time.process_time() - start
        return found

    return clocked


if __name__ == "__main__":
    main()
