"""Train a network of the packaged head on rendered parts alone: render, relate, then fit it to the cached maps.

python tools/train_head.py --cache FOLDER --out FILE.safetensors

It learns what is defect first, then what two larger networks say of the same parts.
"""

import argparse
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, cast

import torch
from larger_networks import LargerNetworks, imitation_loss
from rendered_groups import FILE_GROUPS, HELD_OUT, Picture, Pictures, Plan, groups, read
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs import Sofs
from anomalib_sofs.model.backbone import DEFAULT_BACKBONE
from anomalib_sofs.model.relation.head import RelationHead
from anomalib_sofs.model.relation.maps import RELATIONS
from anomalib_sofs.model.relation.marks import stacked
from anomalib_sofs.model.relation.network import RelationNet, inputs, relation_loss
from anomalib_sofs.model.torch_model import SofsModel

CONTRASTS = RELATIONS.index("local_sigma") + 1
"""The first maps: they grow with the contrast of the query's defect."""
TELLING = 0.75
"""Least share of pairs of a defect and a background cell in which the defect has the larger discriminant.

In episodes with less, the support says nothing about the query."""
BATCH, RATE, IMITATION_RATE = 8, 3e-3, 2e-3
"""Episodes of a training step, and the highest learning rates."""
ROUND = 10
"""Between the seeds of two rounds of imitation."""
REPORT = 200
"""Steps between two lines about the loss."""


class Item(NamedTuple):
    """One episode, related."""

    maps: Tensor  # (MAPS, h, w) half
    fine: Tensor  # (7, 2h, 2w) half
    target: Tensor  # (2h, 2w) half


class Part(NamedTuple):
    """One picture, encoded in every view; the first is the picture as it is."""

    crops: list[list[Tensor]]  # (1, 176, h, w) and (1, 40, 2h, 2w) each
    masks: list[Tensor]  # (4h, 4w)


def _encode(model: SofsModel, picture: Picture, *, every_view: bool) -> Part:
    device = model.head_trained.device
    pixels = model.normalise(picture.image.to(device)[None].float() / 255)
    pair = torch.cat([pixels, picture.mask.to(device)[None, None].float()], 1)
    head = cast("RelationHead", model.head)
    turns = head.turns if every_view else head.turns[:1]
    seen = [head.windows.fill(torch.rot90(pair, k, (-2, -1))) for k in turns]
    return Part([head.features(model.backbone, view[:, :3]) for view in seen], [view[0, 3] for view in seen])


def _episode(head: RelationHead, query: Part, supports: list[Part]) -> Item:
    crops, masks = ([one for support in supports for one in support[field]] for field in (0, 1))
    encoded = head.statistics(crops, masks, ["defect"] * len(masks))
    maps, fine = head.relate(query.crops[0], stacked([encoded["defect"]]))
    return Item(maps[0].half(), fine[0].half(), F.avg_pool2d(query.masks[0][None, None], 2)[0, 0].half())


def _episodes(model: SofsModel, rng: random.Random, pictures: Pictures) -> Iterator[Item]:
    """Yield the episodes of one group: marked and good parts as queries."""
    head = cast("RelationHead", model.head)
    marked = [_encode(model, one, every_view=True) for one in pictures.marked]
    for i, query in enumerate(marked):
        others = marked[:i] + marked[i + 1 :]
        for _ in range(1 + (rng.random() < 0.5)):
            shots = 1 if rng.random() < 0.7 else rng.randint(1, len(others))
            item = _episode(head, query, rng.sample(others, shots))
            if _telling(item) >= TELLING:
                yield item
    for one in pictures.good:
        yield _episode(head, _encode(model, one, every_view=False), rng.sample(marked, 1))


def _telling(item: Item) -> float:
    share = F.avg_pool2d(item.target[None, None].float(), 2).flatten()
    x = item.maps[RELATIONS.index("all")].float().flatten()
    defect = x[share >= min(0.5, 0.7 * float(share.max()))]
    background = x[share == 0]
    background = background[:: max(1, len(background) // 500)]
    return float((defect[:, None] > background).float().mean()) if len(background) else 0.0


def _model(backbone: str, device: str, *, random_weights: bool) -> SofsModel:
    torch.manual_seed(0)  # of random weights: those of all files are the same
    model = Sofs(backbone, weights=None).eval().model
    model.backbone.weights_loaded |= random_weights
    model.backbone.ensure_weights()
    return model.to(device)


def _relate(backbone: str, device: str, file: Path, *, random_weights: bool = False) -> Path:
    """Write the episodes of a file of groups, whole or not at all; each group draws from a stream of its own."""
    made_with = f"{'random-' if random_weights else ''}{backbone}"
    related = file.with_name(file.name.replace("groups", f"episodes-{made_with}"))
    if related.exists():
        return related
    if device == "cpu":
        torch.set_num_threads(1)
    model = _model(backbone, device, random_weights=random_weights)
    items: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for number, pictures in read([file]):
            episodes = _episodes(model, random.Random(f"episodes {number}"), pictures)
            items += [tuple(tensor.clone() for tensor in item) for item in episodes]
    part = related.with_suffix(".part")
    torch.save([tuple(tensor.cpu() for tensor in item) for item in items], part)
    part.replace(related)
    return related


def _weight(item: Item) -> float:
    """How often an episode is drawn: large defects are rare among rendered ones."""
    percent = 100 * float(item.target.float().mean())
    return min(max(percent, 0.3), 20) ** 0.6 if item.target.any() else 0.7


def _turned(item: Item, k: int) -> Item:
    """Mirror and transpose an episode, one of eight ways."""

    def turn(x: Tensor) -> Tensor:
        x = x.transpose(-1, -2) if k & 4 else x
        x = x.flip(-1) if k & 1 else x
        return x.flip(-2) if k & 2 else x

    return Item(*map(turn, item))


def _batches(items: list[Item], size: int, rng: random.Random) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches for ever: images of one shape, mirrored and turned at random."""
    by_shape: dict[tuple[int, ...], list[Item]] = {}
    for item in items:
        by_shape.setdefault(tuple(sorted(item.maps.shape[-2:])), []).append(item)
    weights = {shape: [_weight(item) for item in rows] for shape, rows in by_shape.items()}
    shapes, totals = list(by_shape), [sum(w) for w in weights.values()]
    while True:
        shape = rng.choices(shapes, totals)[0]
        wide = rng.random() < 0.5
        rows = []
        for item in rng.choices(by_shape[shape], weights[shape], k=size):
            h, w = item.maps.shape[-2:]
            turn = rng.random() < 0.5 if h == w else (h > w) == wide
            rows.append(_turned(item, rng.getrandbits(2) | 4 * turn))
        maps, fine, target = (torch.stack(t).float() for t in zip(*rows, strict=True))
        yield maps, fine, target[:, None]


def _varied(maps: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
    """Vary the contrast of the query, the level of every map, and how well the support tells the share of defect."""
    maps, device = maps.clone(), maps.device
    gain = torch.exp(torch.empty(len(maps), device=device).uniform_(-0.4, 0.9))
    gain = torch.where(torch.rand(len(maps), device=device) < 0.7, gain, 1.0)[:, None, None, None]
    maps[:, :CONTRASTS] *= gain
    maps[:, RELATIONS.index("log_spread")] += gain[:, 0].log()
    relations, odds = maps[:, :-1], maps[:, -1:]
    odds = odds + 0.5 * torch.randn(len(maps), 1, 1, 1, device=device)
    return torch.cat([_jittered(relations), odds], 1), _jittered(fine * gain)


def _jittered(maps: Tensor) -> Tensor:
    gain, offset = torch.randn(2, *maps.shape[:2], 1, 1, device=maps.device)
    return maps * torch.exp(0.2 * gain) + 0.05 * offset


def fit(
    items: list[Item],
    steps: int,
    seed: int,
    device: str = "cpu",
    *,
    net: RelationNet | None = None,
    imitated: LargerNetworks | None = None,
) -> RelationNet:
    """Train a network: AdamW, short warm-up, polynomial decay (power 0.9).

    Args:
        items: Episodes.
        steps: Of training.
        seed: Of everything that is drawn.
        device: Where it trains.
        net: The network, if it is not a new one.
        imitated: Networks whose logits it learns, instead of what is defect.
    """
    torch.manual_seed(seed)
    net = (RelationNet() if net is None else net).train().to(device, memory_format=torch.channels_last)
    rate, weight_decay = (RATE, 0.01) if imitated is None else (IMITATION_RATE, 0.005)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=weight_decay)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: min(1, (n + 1) / 50) * max(0, 1 - n / steps) ** 0.9)
    batches, total = _batches(items, BATCH, random.Random(seed)), torch.zeros((), device=device)
    for step in range(1, steps + 1):
        *maps, target = next(batches)
        seen = inputs(*_varied(*maps))
        found = net(*seen)
        loss = relation_loss(*found, target) if imitated is None else imitation_loss(*found, *imitated(*seen))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        decay.step()
        total += loss.detach()
        if step % REPORT == 0:
            print(f"seed {seed} step {step} loss {total.item() / REPORT:.4f}", flush=True)
            total.zero_()
    return net.eval()


@torch.no_grad()
def check(net: nn.Module, items: list[Item]) -> str:
    """Look at other episodes: the mean IoU of those with a defect, and the share of the others with a region."""
    ious, alarms = [], []
    for item in items:
        maps, fine, target = (part[None].float() for part in item)
        found, truth = net(*inputs(maps, fine))[0][0, 0] > 0, target[0] > 0.5
        if truth.any():
            ious.append(float((found & truth).sum() / (found | truth).sum()))
        else:
            alarms.append(float(found.any()))
    return f"mIoU {100 * fmean(ious):.1f} %, good with a region {100 * fmean(alarms):.0f} %"


def _load(files: list[Path], device: str) -> list[Item]:
    # mapped: on a CPU they need not fit into memory all at once
    return [Item(*(part.to(device) for part in item)) for file in files for item in torch.load(file, mmap=True)]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is rendered, about 7 MB a group")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE, help="timm name; a cache serves several")
    parser.add_argument("--random-weights", action="store_true", help="of the backbone: shows that everything runs")
    parser.add_argument("--seed", type=int, default=1, help="of the training; the groups are always the same ones")
    parser.add_argument("--groups", type=int, default=2400, help=f"a multiple of {FILE_GROUPS}")
    parser.add_argument("--checked", type=int, default=60, help="groups of other surfaces to look at, likewise")
    parser.add_argument("--large", type=float, default=0.0, help="share of the groups with pictures of a whole window")
    parser.add_argument("--plain", type=float, default=0.15, help="share of the groups with plain parts")
    parser.add_argument("--steps", type=int, default=6000, help="in which it learns what is defect")
    parser.add_argument(
        "--imitation",
        type=int,
        nargs="*",
        default=[5000, 4500],
        help="steps of each round in which it learns what the two larger networks say; the rate starts anew in each",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for option in ("groups", "checked"):
        if getattr(args, option) < 1 or getattr(args, option) % FILE_GROUPS:
            parser.error(f"--{option} {getattr(args, option)}: choose a multiple of {FILE_GROUPS}")
    return args


def main() -> None:
    """Run from the command line."""
    args = _parse()
    plan = Plan(large=args.large, plain=args.plain)
    files = groups(args.cache, plan, args.groups, args.workers)
    held_out = groups(args.cache / "held-out", plan._replace(surfaces=HELD_OUT, plain=0), args.checked, args.workers)
    relate = partial(_relate, args.backbone, args.device, random_weights=args.random_weights)
    related = []
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        for path in pool.map(relate, [*files, *held_out]):
            print(path, flush=True)
            related.append(path)
    if args.device == "cpu":
        torch.set_num_threads(1)  # the same weights on every machine
    items = _load(related[: len(files)], args.device)
    print(f"{len(items)} episodes", flush=True)
    others = _load(related[len(files) :], args.device)
    net = fit(items, args.steps, args.seed, args.device)
    print(f"surfaces that are never trained on: {check(net, others)}", flush=True)
    for number, steps in enumerate(args.imitation):
        larger = LargerNetworks().to(args.device, memory_format=torch.channels_last)
        net = fit(items, steps, args.seed + ROUND * number, args.device, net=net, imitated=larger)
        print(f"surfaces that are never trained on: {check(net, others)}", flush=True)
    save(net, args)


def save(net: RelationNet, args: argparse.Namespace) -> None:
    """Write the network, and how it was trained."""
    how = (
        f"tools/train_head.py --backbone {args.backbone} --seed {args.seed} --groups {args.groups} "
        f"--large {args.large} --plain {args.plain} --steps {args.steps} "
        f"--imitation {' '.join(map(str, args.imitation))}"
    )
    state = {f"nets.0.{name}": value.cpu().contiguous() for name, value in net.state_dict().items()}
    part = args.out.with_suffix(".part")
    save_file(state, part, metadata={"format": "pt", "trained_by": how})
    part.replace(args.out)


if __name__ == "__main__":
    main()
