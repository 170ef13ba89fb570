"""Train the packaged head on rendered parts alone: render, relate, then fit small networks to the cached maps.

python tools/train_head.py --cache FOLDER --out FILE.safetensors
"""

import argparse
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs import Sofs
from anomalib_sofs.data.surfaces import SURFACES, defect_classes, render
from anomalib_sofs.model.relation.head import MEMBERS, RelationHead
from anomalib_sofs.model.relation.maps import RELATIONS
from anomalib_sofs.model.relation.marks import stacked
from anomalib_sofs.model.relation.network import RelationNet, relation_loss
from anomalib_sofs.model.torch_model import SofsModel

HELD_OUT = ("ground_steel", "woven_fabric", "ceramic", "plastic", "board", "tablets")
"""Surfaces that are never trained on."""
SIZES = ((208, 208), (256, 256), (256, 256), (288, 288), (224, 320), (256, 352), (160, 320), (128, 288))
NEARER = (1, 1, 1, 1, 1.5, 2, 2, 3, 4)
"""How much nearer than the whole part the camera stands: defects from hairlines to a third of the image."""
PRODUCTS = (1, 1, 1, 1, 1, 2, 2, 12, 12, 12)
"""From how many products the parts of a group come: real parts of one class vary more than rendered ones."""
MARKED, GOOD = 3, 2
"""Parts of a group: many groups tell more than many parts."""
FILE_GROUPS = 20
"""Groups whose episodes are in one file; an interrupted run goes on with the missing files."""
CONTRASTS = RELATIONS.index("local_sigma") + 1
"""The first maps: they grow with the contrast of the query's defect."""
TELLING = 0.75
"""Least share of pairs of a defect and a background cell in which the defect has the larger discriminant.

In episodes with less, the support says nothing about the query."""
BATCH, RATE = 8, 3e-3
"""Episodes of a training step, and the highest learning rate."""


class Item(NamedTuple):
    """One episode, related."""

    maps: Tensor  # (MAPS, h, w) half
    fine: Tensor  # (7, 2h, 2w) half
    target: Tensor  # (2h, 2w) half


class Part(NamedTuple):
    """One picture, encoded in every view; the first is the picture as it is."""

    crops: list[list[Tensor]]  # (1, 176, h, w) and (1, 40, 2h, 2w) each
    masks: list[Tensor]  # (4h, 4w)


class Group:
    """Parts that a camera sees, with one class of defect.

    Args:
        rng: What is drawn.
        surfaces: Kinds of surface to choose from.
    """

    def __init__(self, rng: random.Random, surfaces: tuple[str, ...]) -> None:
        self.rng = rng
        self.surface = rng.choice(surfaces)
        self.defect = rng.choice(defect_classes(self.surface))
        self.look = rng.randrange(10**6)
        self.styles = [self.look + i for i in range(rng.choice(PRODUCTS))]
        self.size = rng.choice(SIZES)
        self.nearer = rng.choice(NEARER)
        zoom = rng.choice((1, 1, 1, 0.7, 1.4, 2))
        self.zoom = 1 if min(self.size) / zoom < 96 or self.nearer > 1 else zoom
        self.grey = rng.random() < 0.5
        self.generous = rng.choice((0, 0, 0, 1, 2, 3))  # people draw around a defect, all in their own way

    def picture(self, *, good: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return image ``(H, W, 3)`` and mask ``(H, W)`` of another part."""
        rng, (h, w) = self.rng, self.size
        near = min(self.nearer, 2) * rng.uniform(0.9, 1.1) if self.nearer > 1 else 1
        size = round(h * near / self.zoom), round(w * near / self.zoom)
        image, mask = render(
            self.surface, None if good else self.defect, style=rng.choice(self.styles), seed=rng.randrange(10**6),
            size=size, look=self.look,
        )  # fmt: skip
        if self.nearer > 1:
            nearer = self.nearer * rng.uniform(0.9, 1.1)
            window = _window(rng, mask, int(size[0] / nearer), int(size[1] / nearer))
            image, mask = image[window], mask[window]
        if image.shape[:2] != (h, w):
            how = cv2.INTER_AREA if image.shape[0] > h else cv2.INTER_LINEAR
            image = cv2.resize(image, (w, h), interpolation=how)
            mask = (cv2.resize(mask.astype(np.float32), (w, h), interpolation=how) > 0.4).astype(np.uint8)
        if self.grey:
            image = np.repeat(image.mean(2, keepdims=True), 3, 2).astype(np.uint8)
        if self.generous:
            mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * self.generous + 1,) * 2))
        return _photographed(image, rng), mask


def _window(rng: random.Random, mask: np.ndarray, h: int, w: int) -> tuple[slice, slice]:
    """Choose a window that shows some of the defect, and not only the defect."""
    rows, columns = np.nonzero(mask)
    h, w = min(h, mask.shape[0]), min(w, mask.shape[1])
    for _ in range(8):
        if len(rows):
            k = rng.randrange(len(rows))
            y, x = int(rows[k] - rng.uniform(0.1, 0.9) * h), int(columns[k] - rng.uniform(0.1, 0.9) * w)
        else:
            y, x = rng.randint(0, mask.shape[0] - h), rng.randint(0, mask.shape[1] - w)
        y, x = min(max(y, 0), mask.shape[0] - h), min(max(x, 0), mask.shape[1] - w)
        if mask[y : y + h, x : x + w].mean() < 0.6:
            break
    return slice(y, y + h), slice(x, x + w)


def _photographed(image: np.ndarray, rng: random.Random) -> np.ndarray:
    """Vary light and camera of one picture; support and query get their own."""

    def often(probability: float) -> bool:
        return rng.random() < probability

    x = image.astype(np.float32) / 255
    if often(0.65):
        x = x ** (rng.uniform(0.75, 1.35) if often(0.77) else rng.uniform(0.45, 2.2))
    if often(0.5):
        contrast = rng.uniform(0.75, 1.25) if often(0.7) else rng.uniform(0.4, 1.6)
        x = (x - 0.5) * contrast + 0.5 + rng.uniform(-0.1, 0.1)
    if often(0.3):
        x = x * rng.uniform(0.4, 1.2)
    if often(0.25):
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.2))
    if often(0.25):
        x = x + np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0.005, 0.03), x.shape)
    if often(0.3):
        down, across = (np.linspace(-1, 1, side) * rng.uniform(-0.25, 0.25) for side in x.shape[:2])
        x = x * (1 + down[:, None, None] + across[None, :, None])
    x = (np.clip(x, 0, 1) * 255).astype(np.uint8)
    if often(0.5):
        x = cv2.imdecode(cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(60, 95)])[1], cv2.IMREAD_COLOR)
    return x


def _encode(model: SofsModel, image: np.ndarray, mask: np.ndarray, *, every_view: bool) -> Part:
    pixels = model.normalise(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    pair = torch.cat([pixels, torch.from_numpy(mask)[None, None].float()], 1)
    head = cast("RelationHead", model.head)
    turns = head.turns if every_view else head.turns[:1]
    seen = [head.windows.fill(torch.rot90(pair, k, (-2, -1))) for k in turns]
    return Part([head.features(model.backbone, view[:, :3]) for view in seen], [view[0, 3] for view in seen])


def _episode(head: RelationHead, query: Part, supports: list[Part]) -> Item:
    crops, masks = ([one for support in supports for one in support[field]] for field in (0, 1))
    encoded = head.statistics(crops, masks, ["defect"] * len(masks))
    maps, fine = head.relate(query.crops[0], stacked([encoded["defect"]]))
    return Item(maps[0].half(), fine[0].half(), F.avg_pool2d(query.masks[0][None, None], 2)[0, 0].half())


def _parts(model: SofsModel, group: Group, count: int, *, good: bool) -> list[Part]:
    parts = []
    for _ in range(3 * count):
        try:
            image, mask = group.picture(good=good)
        except RuntimeError:  # a defect that shows nowhere on this part
            continue
        if len(parts) < count and (good or mask.any()):
            parts.append(_encode(model, image, mask, every_view=not good))
        if len(parts) == count:
            break
    return parts


def _episodes(model: SofsModel, rng: random.Random, surfaces: tuple[str, ...]) -> Iterator[Item]:
    """Yield the episodes of one group: marked and good parts as queries."""
    group = Group(rng, surfaces)
    marked = _parts(model, group, MARKED, good=False)
    if len(marked) < 2:
        return
    for i, query in enumerate(marked):
        others = marked[:i] + marked[i + 1 :]
        for _ in range(1 + (rng.random() < 0.5)):
            shots = 1 if rng.random() < 0.7 else rng.randint(1, len(others))
            item = _episode(cast("RelationHead", model.head), query, rng.sample(others, shots))
            if _telling(item) >= TELLING:
                yield item
    for query in _parts(model, group, GOOD, good=True):
        yield _episode(cast("RelationHead", model.head), query, rng.sample(marked, 1))


def _telling(item: Item) -> float:
    share = F.avg_pool2d(item.target[None, None].float(), 2).flatten()
    x = item.maps[RELATIONS.index("all")].float().flatten()
    defect = x[share >= min(0.5, 0.7 * float(share.max()))]
    background = x[share == 0]
    background = background[:: max(1, len(background) // 500)]
    return float((defect[:, None] > background).float().mean()) if len(background) else 0.0


def _render(job: tuple[int, Path]) -> Path:
    """Write the episodes of :data:`FILE_GROUPS` groups to a file, whole or not at all.

    Each group draws from a stream of its own, by its number: more groups leave the others as they were.
    """
    first, path = job
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    model = Sofs(weights=None).eval().model
    model.backbone.ensure_weights()
    surfaces = tuple(s for s in SURFACES if s not in HELD_OUT)
    items: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for number in range(first, first + FILE_GROUPS):
            episodes = _episodes(model, random.Random(number), surfaces)
            items += [tuple(tensor.clone() for tensor in item) for item in episodes]
    part = path.with_suffix(".part")
    torch.save(items, part)
    part.replace(path)
    return path


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
    maps = maps.clone()
    gain = torch.exp(torch.empty(len(maps)).uniform_(-0.4, 0.9))
    gain = torch.where(torch.rand(len(maps)) < 0.7, gain, 1.0)[:, None, None, None]
    maps[:, :CONTRASTS] *= gain
    maps[:, RELATIONS.index("log_spread")] += gain[:, 0].log()
    relations, odds = maps[:, :-1], maps[:, -1:]
    odds = odds + 0.5 * torch.randn(len(maps), 1, 1, 1)
    return torch.cat([_jittered(relations), odds], 1), _jittered(fine * gain)


def _jittered(maps: Tensor) -> Tensor:
    shape = (*maps.shape[:2], 1, 1)
    return maps * torch.exp(0.2 * torch.randn(shape)) + 0.05 * torch.randn(shape)


def fit(items: list[Item], steps: int, seed: int) -> RelationNet:
    """Train the network: AdamW, short warm-up, polynomial decay (power 0.9)."""
    torch.manual_seed(seed)
    net = RelationNet().train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: min(1, (n + 1) / 50) * max(0, 1 - n / steps) ** 0.9)
    batches, total = _batches(items, BATCH, random.Random(seed)), 0.0
    for step in range(1, steps + 1):
        *maps, target = next(batches)
        inputs = (varied.contiguous(memory_format=torch.channels_last) for varied in _varied(*maps))
        loss = relation_loss(*net(*inputs), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        decay.step()
        total += loss.item()
        if step % 200 == 0:
            print(f"seed {seed} step {step} loss {total / 200:.4f}", flush=True)
            total = 0.0
    return net.eval()


def _fit_member(job: tuple[list[Path], int, int]) -> dict[str, Tensor]:
    """Train one network, on one thread: the same weights whatever the number of workers."""
    paths, steps, seed = job
    torch.set_num_threads(1)
    # mapped: they need not fit into memory all at once
    items = [Item(*item) for path in paths for item in torch.load(path, mmap=True)]
    print(f"seed {seed}: {len(items)} episodes", flush=True)
    return {name: value.contiguous() for name, value in fit(items, steps, seed).state_dict().items()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the episodes, about 2.5 MB a group")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first network, the next follow; the groups are always the same ones"
    )
    parser.add_argument("--groups", type=int, default=2400, help=f"a multiple of {FILE_GROUPS}")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.groups < 1 or args.groups % FILE_GROUPS:
        parser.error(f"--groups {args.groups} is not a multiple of {FILE_GROUPS}")
    jobs = [(first, args.cache / f"groups-{first:05d}.pt") for first in range(0, args.groups, FILE_GROUPS)]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        for path in pool.map(_render, [job for job in jobs if not job[1].exists()]):
            print(path, flush=True)
        trainings = [([path for _, path in jobs], args.steps, args.seed + i) for i in range(MEMBERS)]
        members = list(pool.map(_fit_member, trainings))
    state = {f"nets.{i}.{name}": value for i, member in enumerate(members) for name, value in member.items()}
    how = f"tools/train_head.py --seed {args.seed} --groups {args.groups} --steps {args.steps}"
    save_file(state, args.out, metadata={"format": "pt", "trained_by": how})


if __name__ == "__main__":
    main()
