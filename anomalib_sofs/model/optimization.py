"""Optimization of a head: AdamW with polynomial decay (Zhang et al. 2024)."""

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn


def polynomial_decay(head: nn.Module, lr: float, steps: int) -> OptimizerLRScheduler:
    """Return AdamW whose rates fall to 0 in so many steps; the transformer at ``lr``, the rest at twice that."""
    slow = {id(p) for name, p in head.named_parameters() if name.startswith("stages.")}
    parameters = list(head.parameters())
    groups = [
        {"params": [p for p in parameters if id(p) in slow], "lr": lr},
        {"params": [p for p in parameters if id(p) not in slow], "lr": 2 * lr},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=max(steps, 1), power=0.9)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
