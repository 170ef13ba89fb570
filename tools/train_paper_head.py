"""Train the published form (`head="paper"`) on rendered parts alone: render, then episodes of windows on one device.

python tools/train_paper_head.py --cache FOLDER --out FILE.safetensors

The last options leave out one idea of the paper each, for the table of ablations.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from picture_bank import Group, PictureBank
from rendered_groups import HELD_OUT, Plan, groups, read
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from anomalib_sofs.model.backbone import DEFAULT_BACKBONE, IMAGE_MEAN, IMAGE_STD, Backbone, default_layers
from anomalib_sofs.model.downsampling import downsample_mask
from anomalib_sofs.model.episodes import Features
from anomalib_sofs.model.heads import build_head
from anomalib_sofs.model.paper.background import encode_background
from anomalib_sofs.model.paper.fusion import fuse
from anomalib_sofs.model.paper.head import PaperHead
from anomalib_sofs.model.paper.priors import defect_cells
from anomalib_sofs.model.paper.prototypes import masked_mean
from anomalib_sofs.model.support_windows import covers_much
from anomalib_sofs.model.weights import BUILT

LARGE = 0.5
"""Share of the groups with pictures as large as a window: defects are small there, as on real parts."""
GOOD_QUERIES = 0.3
"""Share of the queries that show no defect, once the head can tell one."""
FIRST_GOOD = 175
"""Steps before the first of them, however many there are: the loss of good windows is least where nothing is found
anywhere, and a head that has learned nothing yet goes there, and stays."""
MORE_SHOTS = 0.3
"""Share of the steps with two support pictures instead of one."""
JITTER = 0.15
"""Of brightness and contrast of each window, beside what the renderer varies."""
WARM_UP = 100
"""Steps."""
RESIZED = 256
"""Pixels of a picture where the ablation resizes it."""


class Batch(NamedTuple):
    """Episodes with the same number of supports each."""

    queries: Tensor  # (E, 3, s, s) in [0, 1]
    masks: Tensor  # (E, s, s)
    supports: Tensor  # (E * S, 3, s, s), S of each episode in turn
    support_masks: Tensor  # (E * S, s, s)


class Trainer:
    """A head, what it sees with, and what it learns from.

    Args:
        head: The head.
        backbone: The frozen backbone.
        bank: The pictures.
        side: Of a window in pixels.
        seed: Of everything that is drawn.
    """

    def __init__(self, head: PaperHead, backbone: Backbone, bank: PictureBank, side: int, seed: int) -> None:
        self.head, self.backbone, self.bank, self.side = head, backbone, bank, side
        self.rng = random.Random(seed)
        self.generator = torch.Generator(bank.device).manual_seed(seed)
        self.mean, self.std = (torch.tensor(v, device=bank.device)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))

    def draw(self, episodes: int, good: float) -> Batch:
        """Draw episodes: query and supports of a group, mirrored and turned alike half of the time.

        Args:
            episodes: How many.
            good: Share of them whose query shows no defect.
        """
        rng = self.rng
        shots = 2 if rng.random() < MORE_SHOTS else 1
        chosen = [self._episode(rng.choice(self.bank.groups), shots, good) for _ in range(episodes)]
        turn = rng.randrange(8)
        other = turn if rng.random() < 0.5 else rng.randrange(8)
        queries, masks = self.bank.windows([query for query, _ in chosen], self.side, rng, turn)
        supports = [support for _, supports in chosen for support in supports]
        return Batch(self._jittered(queries), masks, *self._supports(supports, other))

    def _episode(self, group: Group, shots: int, good: float) -> tuple[Any, list[Any]]:
        rng = self.rng
        query, *others = rng.sample(group.marked, len(group.marked))
        if group.good and rng.random() < good:
            query = rng.choice(group.good)
        return query, [others[i % len(others)] for i in range(shots)]

    def _supports(self, places: Sequence[Any], turn: int) -> tuple[Tensor, Tensor]:
        images, masks = self.bank.windows(places, self.side, self.rng, turn)
        return self._jittered(images), masks

    def _jittered(self, images: Tensor) -> Tensor:
        gain, level = (
            JITTER * (2 * torch.rand(len(images), 1, 1, 1, generator=self.generator, device=images.device) - 1)
            for _ in range(2)
        )
        return (images * (1 + gain) + level).clamp(0, 1)

    def features(self, images: Tensor) -> Features:
        """Extract features of images ``(n, 3, s, s)`` in [0, 1]."""
        return self.head.features(self.backbone, (images - self.mean) / self.std)

    def loss(self, batch: Batch) -> Tensor:
        """Compute the loss of a batch."""
        query, support = self.features(batch.queries), self.features(batch.supports)
        shares = downsample_mask(batch.support_masks, query[0].shape[-2:], self.head.mask_downsampling)
        return self.head.grid_loss(episode_logits(self.head, query, support, shares), batch.masks)

    @torch.no_grad()
    def check(self, bank: PictureBank) -> str:
        """Look at other groups: the mean IoU of their defects, and the share of good pictures with a region."""
        ious, alarms = [], []
        self.head.eval()
        for group in bank.groups:
            support, *marked = group.marked
            encoding = self.head.encode_class(*self._encoded(bank, [support]))
            both = torch.zeros(2, device=bank.device)
            for query in (*marked, *group.good):
                image, truth = bank.windows([query], self.side)
                logits = self.head.classify(self.features(image), [encoding])
                found = F.interpolate(logits.float(), truth.shape[-2:], mode="bilinear")[:, 0] > 0
                if query in marked:
                    both += torch.stack([(found & (truth > 0)).sum(), (found | (truth > 0)).sum()])
                else:
                    alarms.append(float(found.any()))
            ious += [float(both[0] / both[1])] if both[1] else []
        self.head.train()
        return f"held out: mIoU {100 * _mean(ious):.1f} %, good with a region {100 * _mean(alarms):.0f} %"

    def _encoded(self, bank: PictureBank, places: Sequence[Any]) -> tuple[Features, Tensor]:
        images, masks = bank.windows(places, self.side)
        return self.features(images), masks


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def episode_logits(head: PaperHead, query: Features, support: Features, shares: Tensor) -> Tensor:
    """Run episodes through steps 2 to 9 side by side; the same as each by itself, in fewer and larger operations.

    Args:
        head: The head.
        query: Features of E queries, one ``(E, D_l, h, w)`` per layer.
        support: Features of their supports, S of each in turn, one ``(E * S, D_l, h, w)`` per layer.
        shares: Defect share of each cell of the supports ``(E * S, h, w)``.

    Returns:
        Logits ``(E, h, w)``.
    """
    episodes = len(query[0])
    priors = _priors(head, query, support, shares)
    joined = torch.cat(support, dim=1)
    cells, prototypes = head.reduction.forward_support(joined, masked_mean(joined, shares))
    prototypes = prototypes.unflatten(0, (episodes, -1)).mean(dim=1)
    queries = head.reduction.forward_query(torch.cat(query, dim=1), prototypes, priors)
    # nearly all of the time, and layer norms keep it in range; the priors differ by less than bfloat16 can tell
    with torch.autocast(shares.device.type, torch.bfloat16, enabled=shares.is_cuda and head.training):
        both = head.stages(torch.cat([queries, cells])).float()
    queries, cells = both.split([episodes, len(cells)])
    vectors = masked_mean(head.classifier(cells), shares).unflatten(0, (episodes, -1)).mean(dim=1)
    rows = zip(queries.split(1), *(t.chunk(episodes) for t in (cells, shares)), strict=True)
    fused = [fuse(one, own.permute(0, 2, 3, 1)[share > 0], share[share > 0]) for one, own, share in rows]
    return torch.einsum("ec,echw->ehw", vectors, torch.cat(fused))


@torch.no_grad()
def _priors(head: PaperHead, query: Features, support: Features, shares: Tensor) -> Tensor:
    """Compute the priors of each episode ``(E, maps, h, w)`` (steps 3 and 4)."""
    episodes = len(query[0])
    found = []
    for i in range(episodes):
        supports = [layer.chunk(episodes)[i] for layer in support]
        own = shares.chunk(episodes)[i]
        encoding = {f"defect_cells_{n}": defect_cells(layer, own) for n, layer in enumerate(supports)}
        encoding |= encode_background(supports, own)
        semantic, abnormal = head.priors([layer[i : i + 1] for layer in query], encoding)
        found.append(torch.cat([semantic, abnormal], dim=1) if head.use_abnormal_prior else semantic)
    return torch.cat(found)


def fit(trainer: Trainer, steps: int, batch: int, rate: float, watch: PictureBank, every: int) -> Iterator[int]:
    """Train: AdamW, the transformer at ``rate`` and the rest at twice that, warm-up, polynomial decay (power 0.9).

    Yields:
        The step, after every look at other groups and at the end.
    """
    head = trainer.head.train()
    slow = list(head.stages.parameters())
    rest = [p for name, p in head.named_parameters() if not name.startswith("stages.")]
    optimiser = torch.optim.AdamW([{"params": slow, "lr": rate}, {"params": rest, "lr": 2 * rate}], weight_decay=0.01)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda n: min(1, (n + 1) / WARM_UP) * max(0, 1 - n / steps) ** 0.9
    )
    total, start = torch.zeros((), device=trainer.bank.device), time.perf_counter()
    for step in range(1, steps + 1):
        loss = trainer.loss(trainer.draw(batch, GOOD_QUERIES if step > FIRST_GOOD else 0))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        decay.step()
        total += loss.detach()
        if step % 100 == 0:
            spent = (time.perf_counter() - start) / step
            print(f"step {step} loss {total.item() / 100:.4f} ({spent:.3f} s a step)", flush=True)
            total.zero_()
        if every and (step % every == 0 or step == steps):
            print(f"step {step} {trainer.check(watch)}", flush=True)
            yield step
    yield steps


def load(files: Sequence[Path], device: torch.device, head: PaperHead) -> PictureBank:
    """Load groups as the head sees them: large defects on the whole picture, all others at native scale."""
    bank = PictureBank(device)
    for _, pictures in read(files):
        large = all(covers_much(picture.mask) for picture in pictures.marked)
        resized = head.resizes_all or (head.resizes_large and large)
        bank.add(pictures, head.windows.size if resized else None)
    return bank


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "dim": args.dim,
        "merged_dim": args.dim,
        "scale_features": True,
        "abnormal_prior": not args.no_abnormal_prior,
        "mask_downsampling": args.mask_downsampling,
        "dice_smooth": args.dice_smooth,
        "resizes_all": args.resize,
    }


def build(args: argparse.Namespace) -> tuple[PaperHead, Backbone]:
    """Build what is trained, and what it sees with."""
    torch.manual_seed(args.seed)
    backbone = Backbone(DEFAULT_BACKBONE, args.layers)
    backbone.ensure_weights()
    head = build_head("paper", backbone, RESIZED if args.resize else args.window, **_options(args))
    return cast("PaperHead", head).to(args.device), backbone.to(args.device)


def save(head: PaperHead, args: argparse.Namespace) -> None:
    """Write the weights in half precision, and beside them how a head has to be built to hold them."""
    state = {name: value.half().cpu().contiguous() for name, value in head.state_dict().items()}
    built = {"layers": args.layers, "window_size": head.windows.size, "head_options": _options(args)}
    how = f"tools/train_paper_head.py --seed {args.seed} --groups {args.groups} --steps {args.steps}"
    metadata = {"format": "pt", "trained_by": how, BUILT: json.dumps(built)}
    part = args.out.with_suffix(".part")
    save_file(state, part, metadata=metadata)
    part.replace(args.out)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the pictures, about 3 MB a group")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--groups", type=int, default=2400)
    parser.add_argument("--checked", type=int, default=20, help="groups of other surfaces on which it is watched")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=16, help="episodes of a step")
    parser.add_argument("--rate", type=float, default=3e-4, help="highest learning rate of the transformer")
    parser.add_argument("--seed", type=int, default=1, help="of the training; the groups are always the same ones")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--window", type=int, default=512, help="pixels")
    parser.add_argument("--layers", type=int, nargs="+", default=default_layers(DEFAULT_BACKBONE))
    parser.add_argument("--dim", type=int, default=256, help="width of the cells")
    parser.add_argument("--check-every", type=int, default=500, help="steps; 0 for never")
    parser.add_argument("--resize", action="store_true", help=f"every picture to {RESIZED} pixels, not at native scale")
    parser.add_argument("--mask-downsampling", choices=("area", "bilinear"), default="area")
    parser.add_argument("--no-abnormal-prior", action="store_true")
    parser.add_argument("--dice-smooth", type=float, default=1e5, help="1 is plain Dice")
    return parser.parse_args()


def main() -> None:
    """Run from the command line."""
    args = _parse()
    torch.set_float32_matmul_precision("high")
    device = torch.device(args.device)
    files = groups(args.cache / "trained", Plan(large=LARGE), args.groups, args.workers)
    watched = groups(args.cache / "held-out", Plan(HELD_OUT, large=LARGE), args.checked, args.workers)
    head, backbone = build(args)
    bank, watch = (load(some, device, head) for some in (files, watched))
    print(f"{len(bank.groups)} groups, {sum(p.numel() for p in head.parameters())} weights", flush=True)
    trainer = Trainer(head, backbone, bank, head.windows.size, args.seed)
    for _ in fit(trainer, args.steps, args.batch, args.rate, watch, args.check_every):
        save(head, args)


if __name__ == "__main__":
    main()
