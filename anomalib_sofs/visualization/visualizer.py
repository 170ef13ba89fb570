"""Write pictures of every query, and for predictions maps, masks and regions that machines can read."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anomalib.visualization import Visualizer
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from anomalib_sofs.batches import AnyBatch
from anomalib_sofs.results.names import free_folder, result_stems
from anomalib_sofs.results.regions import describe_regions
from anomalib_sofs.tensors import read_image, read_mask

from .panels import CLASS_COLOURS, FOUND, TRUTH, Picture, heat, outline, side_by_side

if TYPE_CHECKING:
    from anomalib_sofs.model.encoding import SupportEncoding

SIXTEEN_BITS = 65535


class SofsVisualizer(Visualizer):
    """Pictures at native resolution: support with its mask, query, truth, prediction side by side.

    ``test`` writes ``images/CATEGORY/CLASS/NAME.png``; ``predict`` writes, under ``predictions/`` in folders like the
    images' own (see :func:`result_stems`), ``NAME.png`` (the picture), ``NAME_probability.png`` (16 bits: 65535 is 1),
    ``NAME_mask.png`` (class index, 0 is background) and ``NAME.json``.

    Args:
        folder: Where to write; ``None`` means the run's folder.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.stems: dict[str, Path] = {}
        self.predictions = Path()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give every image a place for its picture."""
        del pl_module
        self.stems = result_stems(_image_files(trainer.test_dataloaders))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give every image a place for its results, never that of another image's."""
        del pl_module
        self.stems = result_stems(_image_files(trainer.predict_dataloaders))
        self.predictions = free_folder(self._root(trainer) / "predictions", self.stems)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: AnyBatch,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the pictures of a batch."""
        del outputs, batch_idx, dataloader_idx
        root = self._root(trainer) / "images"
        for row in range(len(batch.image_path)):
            classes = _numpy(batch.class_map[row]).astype(np.uint8) if hasattr(batch, "class_map") else None
            panels = [*self._support_panels(batch, row, pl_module), *self._panels(batch, row, classes)]
            stem = root / self._stem(batch, row)
            _save(side_by_side(panels, _legend(getattr(batch, "class_names", []))), stem.with_name(f"{stem.name}.png"))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: AnyBatch,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write pictures, maps, masks and regions of a batch."""
        del trainer, outputs, batch_idx, dataloader_idx
        names = getattr(batch, "class_names", None) or _support_of(pl_module).names or ["defect"]
        for row, path in enumerate(batch.image_path):
            score = _numpy(batch.anomaly_map[row]).clip(0, 1)
            found = batch.class_map if hasattr(batch, "class_map") else batch.pred_mask
            classes = _numpy(found[row]).astype(np.uint8)
            stem = self.predictions / self._stem(batch, row)
            panels = [*self._support_panels(batch, row, pl_module), *self._panels(batch, row, classes)]
            _save(side_by_side(panels, _legend(names)), stem.with_name(f"{stem.name}.png"))
            probability = Image.fromarray((score * SIXTEEN_BITS).round().astype(np.uint16))
            _save(probability, stem.with_name(f"{stem.name}_probability.png"))
            _save(Image.fromarray(classes), stem.with_name(f"{stem.name}_mask.png"))
            regions = [
                region for i, name in enumerate(names) for region in describe_regions(classes == i + 1, score, name)
            ]
            result = {
                "image": str(path),
                "height": score.shape[0],
                "width": score.shape[1],
                "score": round(float(batch.pred_score[row]), 4),
                "classes": list(names),
                "regions": regions,
            }
            _write(json.dumps(result, indent=1).encode(), stem.with_name(f"{stem.name}.json"))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the pictures are."""
        del pl_module
        _say(f"Pictures: {self._root(trainer) / 'images'}")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the results are."""
        del trainer, pl_module
        _say(f"Pictures, maps, masks and regions: {self.predictions}")

    def _root(self, trainer: Trainer) -> Path:
        return Path(self.folder or trainer.default_root_dir)

    def _stem(self, batch: AnyBatch, row: int) -> Path:
        """Place of a query's results: in a folder of its category and class, or as :func:`result_stems` says."""
        path = str(batch.image_path[row])
        if getattr(batch, "category", None) is None:
            return self.stems.get(path, Path(Path(path).parent.name, Path(path).stem))
        normal = batch.gt_label is not None and not bool(batch.gt_label[row])
        return Path(batch.category[row], "good" if normal else batch.defect_class[row], Path(path).stem)

    @staticmethod
    def _support_panels(batch: AnyBatch, row: int, pl_module: LightningModule) -> list[tuple[str, Picture]]:
        paths = getattr(batch, "support_paths", None)
        if paths is None:
            preview = _support_of(pl_module).preview
            return [("support", preview.permute(1, 2, 0).cpu().numpy())] if preview is not None else []
        image = _picture(paths[row][0])
        mask_path = batch.support_mask_paths[row][0]
        if mask_path:
            image = outline(image, _numpy(read_mask(mask_path)).astype(bool), TRUTH)
        caption = f"support ({batch.defect_class[row]})"
        return [(caption, image)]

    @staticmethod
    def _panels(batch: AnyBatch, row: int, classes: NDArray[np.uint8] | None = None) -> list[tuple[str, Picture]]:
        image = _picture(batch.image_path[row])
        panels = [("query", image)]
        if batch.gt_mask is not None:
            panels.append(("truth", outline(image, _numpy(batch.gt_mask[row]).astype(bool), TRUTH)))
        score = _numpy(batch.anomaly_map[row]).clip(0, 1)
        panels.append(("probability", heat(image, score)))
        found = _numpy(batch.pred_mask[row]).astype(np.uint8) if classes is None else classes
        drawn = image
        for value in sorted(set(np.unique(found)) - {0}):
            colour = FOUND if classes is None else CLASS_COLOURS[(int(value) - 1) % len(CLASS_COLOURS)]
            drawn = outline(drawn, found == value, colour)
        panels.append((f"prediction ({float(batch.pred_score[row]):.2f})", drawn))
        return panels


def _image_files(loaders: Any) -> list[str]:  # noqa: ANN401
    """List the image files behind Lightning's data loaders."""
    files: list[str] = []
    for loader in loaders if isinstance(loaders, list | tuple) else [loaders]:
        data = loader.dataset
        samples = getattr(data, "samples", None)
        files += map(str, getattr(data, "image_filenames", [] if samples is None else samples["image_path"]))
    return files


def _legend(names: Sequence[str]) -> str:
    return "  ".join(f"{i} {name}" for i, name in enumerate(names, start=1)) if len(names) > 1 else ""


def _support_of(pl_module: LightningModule) -> "SupportEncoding":
    model: Any = pl_module.model
    return model.support


@rank_zero_only
def _say(text: str) -> None:
    """Print a line as it is: a path must survive copying."""
    Console().print(text, soft_wrap=True, highlight=False)


def _numpy(tensor: Any) -> NDArray[Any]:  # noqa: ANN401
    return tensor.detach().float().cpu().numpy()


def _picture(path: str | Path) -> Picture:
    return (read_image(path).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def _save(image: Image.Image, path: Path) -> None:
    with tempfile.SpooledTemporaryFile() as buffer:
        image.save(buffer, format="PNG")
        buffer.seek(0)
        _write(buffer.read(), path)


def _write(content: bytes, path: Path) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
