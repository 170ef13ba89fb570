"""Place of the results of every query, batch by batch."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anomalib_sofs.annotations.labels import NORMAL

from .names import result_stems, shortened

logger = logging.getLogger(__name__)


def image_files(loaders: Any) -> list[str]:  # noqa: ANN401 - Lightning's data loader, or a list of them
    """List the image files behind data loaders, as far as their datasets tell."""
    files: list[str] = []
    for loader in loaders if isinstance(loaders, list | tuple) else [loaders]:
        data = getattr(loader, "dataset", None)
        samples = getattr(data, "samples", None)
        files += map(str, getattr(data, "image_filenames", [] if samples is None else samples["image_path"]))
    return files


class QueryNames:
    """Gives each query a place for its results, never that of another one.

    Args:
        files: Image files of the run, as far as they are known.
        rank: Number of the process.
        processes: How many there are.
    """

    def __init__(self, files: Iterable[str] = (), rank: int = 0, processes: int = 1) -> None:
        self.stems = result_stems(files)
        self._taken: dict[Path, str] = {stem: image for image, stem in self.stems.items()}
        self._next = rank
        self._step = processes
        self._said = False

    def of(self, batch: Any) -> list[Path]:  # noqa: ANN401 - a batch of anomalib's or of ours
        """Return folder and name of the results of each query in a batch.

        Episodes go to a folder of their category and class; queries without a file are called ``query_00000``, ...
        """
        paths = getattr(batch, "image_path", None)
        stems = []
        for row in range(len(batch.image)):
            number, self._next = self._next, self._next + self._step
            if paths is None or not paths[row]:
                stems.append(self._numbered(number))
            elif getattr(batch, "category", None) is not None:
                stems.append(self._episode(batch, row))
            else:
                stems.append(self._of_file(str(paths[row])))
        return stems

    def _numbered(self, number: int) -> Path:
        if not self._said:
            self._said = True
            logger.warning(
                "The batches do not say which files their images come from (image_path): results are called "
                "query_00000, query_00001, ..., and there are no LabelMe files."
            )
        return Path(f"query_{number:05}")

    def _of_file(self, path: str) -> Path:
        if path not in self.stems:  # a dataset that does not list its files
            file = Path(path)
            (stem,) = shortened({path: Path(file.parent.name, file.stem)}).values()
            while self._taken.setdefault(stem, path) != path:
                stem = stem.with_name(f"{stem.name}_")
            self.stems[path] = stem
        return self.stems[path]

    def _episode(self, batch: Any, row: int) -> Path:  # noqa: ANN401
        label = getattr(batch, "gt_label", None)
        normal = label is not None and not bool(label[row])
        name = self._of_file(str(batch.image_path[row])).name  # shortened, and with its suffix where it needs it
        return Path(batch.category[row], NORMAL if normal else batch.defect_class[row], name)
