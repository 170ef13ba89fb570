"""Stand-ins for normal images where a category has none: windows without defect, cut from images of defects.

Those images are left out of everything else. The windows are smaller than a part and may lie beside a defect: what they
tell about false positives is a hint, not a measurement of good parts.
"""

from collections.abc import Iterator
from pathlib import Path

from pandas import DataFrame, concat
from PIL import Image
from torch import Tensor

from anomalib_sofs.annotations.labels import NORMAL
from anomalib_sofs.data.table import defects, normals
from anomalib_sofs.tensors import read_mask

SUPPORTS, QUERIES = 4, 20
"""Images of each class, the last by name, that give windows to the support and to the queries; at most half."""
STEP = 8  # pixels between positions that are tried


def with_windows(samples: DataFrame, folder: Path, side: int) -> DataFrame:
    """Give a category without normal images windows of its own background in their place.

    Args:
        samples: Table of one category, see :func:`~anomalib_sofs.data.table.combine`.
        folder: Where the windows are written.
        side: Their side in pixels.

    Returns:
        The same table if there are normal images; otherwise without the images that gave windows, neither queries nor
        supports any more, and with the windows as normal images.
    """
    if not normals(samples).empty:
        return samples
    folder.mkdir(parents=True, exist_ok=True)
    windows, used = [], []
    for label, rows in defects(samples).groupby("label"):
        reserved = rows.iloc[len(rows) - min(SUPPORTS + QUERIES, len(rows) // 2) :]
        used += list(reserved.index)
        for number, row in enumerate(reserved.itertuples()):
            corner = next(_clear(read_mask(str(row.mask_path)), side), None)
            if corner is None:
                continue
            y, x = corner
            # the number first: whoever takes the first by name gets every class
            file = folder / f"{number:03}_{label}_{Path(str(row.image_path)).stem}.png"
            Image.open(str(row.image_path)).crop((x, y, x + side, y + side)).save(file)
            split = "train" if number < SUPPORTS else "test"
            windows.append({"image_path": str(file), "mask_path": "", "label": NORMAL, "split": split})
    added = DataFrame(windows, columns=["image_path", "mask_path", "label", "split"])
    added["category"] = samples["category"].iloc[0]
    added = added.sort_values("image_path")
    return concat([samples.drop(index=used), added[samples.columns]], ignore_index=True)


def _clear(mask: Tensor, side: int) -> Iterator[tuple[int, int]]:
    """Yield the top left corners of all windows without defect."""
    height, width = mask.shape
    for y in range(0, height - side + 1, STEP):
        for x in range(0, width - side + 1, STEP):
            if not bool(mask[y : y + side, x : x + side].any()):
                yield y, x
