"""AUPRO over images of different sizes."""

from typing import Any

import cv2
import numpy as np
import torch
from anomalib.metrics import AUPRO
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat


class NativeAUPRO(AUPRO):
    """anomalib's AUPRO, which wants all images of one size, on pixels instead of images.

    Regions are labelled per image when it arrives; what is kept are flat pixels, so that sizes may differ.
    """

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Label the regions of each image and add its pixels; see :class:`anomalib.metrics.AUPRO`."""
        before = len(self.preds)
        super().update(*args, **kwargs)
        if len(self.preds) == before:  # not strict, and the batch has no mask
            return
        preds, target = self.preds.pop(), self.target.pop()
        preds = preds.reshape(-1, *preds.shape[-2:])
        target = target.reshape(-1, *target.shape[-2:])
        self.preds.append(preds.flatten())
        self.target.append(_regions(target).flatten())

    def _compute(self) -> tuple[Tensor, Tensor]:
        """Compute the curve from flat pixels; region labels become unique over all images."""
        offset, labels = 0, []
        for regions in self.target if isinstance(self.target, list) else [self.target]:
            found, compact = regions.unique(return_inverse=True)
            # background stays 0 even in an image that is defect all over
            compact = compact + (1 if int(found[0]) > 0 else 0)
            labels.append(torch.where(regions > 0, compact + offset, 0))
            offset += int(compact.max())
        return self.compute_pro(cca=torch.cat(labels), preds=dim_zero_cat(self.preds))


def _regions(masks: Tensor) -> Tensor:
    """Number the 8-connected regions of ``(B, H, W)`` masks over all of them; 0 is background.

    anomalib's own labelling takes an image that is defect all over for background.
    """
    labels, offset = [], 0
    for mask in masks:
        count, found = cv2.connectedComponents(mask.cpu().numpy().astype(np.uint8))
        labels.append(torch.from_numpy(np.where(found > 0, found + offset, 0)).long())
        offset += count - 1
    return torch.stack(labels).to(masks.device)


NativeAUPRO.__name__ = "AUPRO"  # the name in the table of results
