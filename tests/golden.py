"""Our values beside the golden ones. ``python -m tests.golden [FOLDER]`` prints the largest deviation per file.

``ANOMALIB_SOFS_GOLDEN`` names another folder than ``../shared/golden`` beside the repository.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from anomalib_sofs.model import SofsModel
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.paper.loss import DEFECT_SHARE, mixed_normal_dice, sofs_loss
from anomalib_sofs.model.paper.priors import abnormal_prior, background_cells, defect_cells, target_semantic_prior
from anomalib_sofs.model.paper.prototypes import masked_mean
from anomalib_sofs.model.weights import load_into, published_to_ours

from .helpers_model import ShelfBackbone, support

FOLDER = Path(os.environ.get("ANOMALIB_SOFS_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
ABSOLUTE, RELATIVE = 1e-5, 1e-4

Comparison = tuple[str, Tensor, Tensor, bool]  # name, ours, golden, relative

GRID = (8, 8)
LAYERS = 6


def deviation(ours: Tensor, golden: Tensor, *, relative: bool) -> float:
    """Largest difference, absolute or as a share of the tensor's largest value."""
    if ours.shape != golden.shape:
        return float("inf")
    largest = float((ours - golden).abs().max())
    return largest / max(float(golden.abs().max()), 1e-12) if relative else largest


def priors(path: Path) -> Iterator[Comparison]:
    """Steps 1 to 4 for three queries with one or four support images each."""
    data = load_file(path)
    queries = data["query"].split(1)
    shots = len(data["support"]) // len(queries)
    masks = data["mask"][:, 0].float()
    area, bilinear = (downsample_mask(masks, GRID, mode) for mode in ("area", "bilinear"))
    yield "down_mask", area, data["down_mask"][:, 0], False
    yield "gap", masked_mean(data["support"], area), data["gap"][:, :, 0, 0], False
    for suffix, shares in {"": area, "_bilinear": bilinear}.items():
        if f"semantic{suffix}" not in data:
            continue
        grouped = zip(queries, data["support"].split(shots), shares.split(shots), strict=True)
        semantic, abnormal, single = [], [], []
        for query, features, share in grouped:
            cells = defect_cells(features, share)
            semantic.append(target_semantic_prior(query, cells))
            single.append(
                torch.stack(
                    [
                        target_semantic_prior(query, defect_cells(f[None], s[None]))
                        for f, s in zip(features, share, strict=True)
                    ]
                )
            )
            abnormal.append(abnormal_prior(query, background_cells(features, share)))
        yield f"semantic{suffix}", torch.stack(semantic), data[f"semantic{suffix}"], False
        yield f"abnormal{suffix}", torch.stack(abnormal), data[f"abnormal{suffix}"], False
        if f"semantic_per_shot{suffix}" in data:
            yield f"semantic_per_shot{suffix}", torch.stack(single), data[f"semantic_per_shot{suffix}"], False


def losses(path: Path) -> Iterator[Comparison]:
    """The mixed normal Dice and the total loss, with gradients."""
    data = load_file(path)
    target = data["target"].float()
    for smooth in (100000, 100, 1):
        probability = data["prob"].clone().requires_grad_()
        dice = mixed_normal_dice(probability, target, smooth)
        yield f"dice_none_smooth{smooth}", dice, data[f"dice_none_smooth{smooth}"], False
        yield f"dice_mean_smooth{smooth}", dice.mean(), data[f"dice_mean_smooth{smooth}"], False
        each = torch.stack([sofs_loss(p[None], t[None], smooth) for p, t in zip(probability, target, strict=True)])
        yield f"total_each_smooth{smooth}", each, data[f"total_each_smooth{smooth}"], False
        total = sofs_loss(probability, target, smooth)
        yield f"total_smooth{smooth}", total, data[f"total_smooth{smooth}"], False
        total.backward()
        yield f"total_grad_smooth{smooth}", probability.grad, data[f"total_grad_smooth{smooth}"], True


def published_state(data: dict[str, Tensor]) -> dict[str, Tensor]:
    """The head's weights under the authors' names."""
    return {key.removeprefix("state."): value for key, value in data.items() if key.startswith("state.")}


def head(data: dict[str, Tensor]) -> PaperHead:
    """The head of the golden file."""
    made = PaperHead([32] * LAYERS, 16, 16, window_size=112, multiple=14)
    load_into(made, published_to_ours(published_state(data)), "the golden file")
    return made.eval()


def full_head(path: Path) -> Iterator[Comparison]:
    """From features to logits, probabilities, loss and gradients."""
    data = load_file(path)
    model = head(data)
    masks = data["support_mask"][:, :, 0].float()
    queries = [[data[f"query.{i}"][b : b + 1] for i in range(LAYERS)] for b in range(3)]
    supports = [[data[f"support.{i}"][4 * b : 4 * b + 4] for i in range(LAYERS)] for b in range(3)]
    encodings = [model.encode_class(features, mask) for features, mask in zip(supports, masks, strict=True)]
    shares = downsample_mask(masks.flatten(0, 1), GRID)
    yield "down_mask", shares, data["down_mask"].flatten(0, 2), False
    prototypes = torch.cat([masked_mean(data[f"support.{i}"], shares) for i in range(LAYERS)], dim=1)
    yield "gap", prototypes, data["gap"][:, :, 0, 0], False
    semantic, abnormal = (torch.cat(maps) for maps in zip(*map(model.priors, queries, encodings), strict=True))
    yield "semantic", semantic, data["semantic"], False
    yield "abnormal", abnormal, data["abnormal"], False
    yield "decoded_query", torch.cat(list(map(model.decode, queries, encodings))), data["decoded_query"], True
    yield "prototype", torch.stack([e["class_vector"] for e in encodings]), data["prototype"], True
    all_supports = torch.cat([data[f"support.{i}"] for i in range(LAYERS)], dim=1)
    cells, _ = model.reduction.forward_support(all_supports, prototypes)
    yield "fused_support", cells, data["fused_support"], True
    both = torch.cat([semantic, abnormal], dim=1)
    rows = [
        model.reduction.forward_query(torch.cat(queries[b], 1), encodings[b]["prototype"], both[b : b + 1])
        for b in range(3)
    ]
    yield "fused_query", torch.cat(rows), data["fused_query"], True
    logits = torch.cat([model.classify(q, [e]) for q, e in zip(queries, encodings, strict=True)])
    yield "logits", logits[:, 0], data["logits"], True
    training = interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False).sigmoid()[:, 0]
    yield "train_label", (training > 0.5).float(), data["train_label"].float(), False
    yield "prob", probabilities(model, queries, supports, masks), data["prob"], False
    target = (downsample_mask(data["target"][:, 0].float(), GRID) > DEFECT_SHARE).float()
    yield "target_grid", target, data["target_grid"].float(), False
    loss = model.grid_loss(logits[:, 0], data["target"][:, 0].float())
    yield "train_loss", loss, data["train_loss"], False
    loss.backward()
    gradients = published_to_ours({k.removeprefix("grad."): v for k, v in data.items() if k.startswith("grad.")})
    for name, parameter in model.named_parameters():
        yield f"grad.{name}", parameter.grad, gradients[name], True


@torch.no_grad()
def probabilities(head: PaperHead, queries: list[list[Tensor]], supports: list[list[Tensor]], masks: Tensor) -> Tensor:
    """What the whole model makes of images that have these features; with normal support only, step 10."""
    shelf = [[layer[j : j + 1] for layer in layers] for layers in supports for j in range(4)] + queries
    model = SofsModel(ShelfBackbone(shelf), head)
    model.head_trained.fill_(value=True)
    model.backbone.unnormalise = lambda image: image * model.std + model.mean
    images = [torch.full((3, *masks.shape[-2:]), i / 100) for i in range(len(shelf))]
    maps = []
    for b in range(len(queries)):
        encoding = model.encode(support(*zip(images[4 * b : 4 * b + 4], masks[b], strict=True)))
        query = model.normalise(images[12 + b])[None]
        if encoding.normal:  # step 10, before the support's own limits bring it to [0, 1]
            maps.append(model.detector.detect(model.backbone, query, encoding)[0][:, 0])
        else:
            maps.append(model(query, encoding).anomaly_map)
    return torch.cat(maps)


FILES: dict[str, Callable[[Path], Iterator[Comparison]]] = {
    "priors_1shot.safetensors": priors,
    "priors_4shot.safetensors": priors,
    "losses.safetensors": losses,
    "head_4shot.safetensors": full_head,
}


def main(folder: Path) -> None:
    """Print the largest deviations per file."""
    for name, compare in FILES.items():
        rows = [
            (relative, deviation(ours.detach(), golden, relative=relative), key)
            for key, ours, golden, relative in compare(folder / name)
        ]
        for relative in (False, True):
            found = [(value, key) for kind, value, key in rows if kind == relative]
            if found:
                kind = "relative" if relative else "absolute"
                sys.stdout.write(f"{name}: {kind} {max(found)[0]:.1e} ({max(found)[1]}; {len(found)} tensors)\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
