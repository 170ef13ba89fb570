"""AUPRO over images of different sizes."""

import torch
from anomalib.metrics import AUPRO
from anomalib.metrics.pro import connected_components_cpu
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat


class NativeAUPRO(AUPRO):
    """anomalib's AUPRO, which wants all images of one size, on pixels instead of images.

    Regions are labelled per image when it arrives; what is kept are flat pixels, so that sizes may differ.
    """

    def update(self, *args: Tensor, **kwargs: Tensor) -> None:
        """Label the regions of each image and add its pixels; see :class:`anomalib.metrics.AUPRO`."""
        before = len(self.preds)
        super().update(*args, **kwargs)
        if len(self.preds) == before:  # not strict, and the batch has no mask
            return
        preds, target = self.preds.pop(), self.target.pop()
        preds = preds.reshape(-1, *preds.shape[-2:])
        target = target.reshape(-1, *target.shape[-2:])
        regions = connected_components_cpu(target[:, None].float()).reshape(target.shape).long()
        self.preds.append(preds.flatten())
        self.target.append(regions.flatten())

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


NativeAUPRO.__name__ = "AUPRO"  # the name in the table of results
