"""How metrics on tensors are fed with batches."""

from typing import Any

from anomalib.metrics import AnomalibMetric
from torchmetrics import Metric

from anomalib_sofs.batches import AnyBatch

PIXELS = "gt_mask"


class FromBatch(AnomalibMetric, Metric):
    """anomalib's way to name the fields of a batch, for metrics that run in several processes.

    anomalib's own leaves out the collective where a process has seen nothing, and the others wait for it. Pixels of
    ``batch.ignore_mask``, where there is one, are passed on as the third argument of a pixel metric.
    """

    def update(self, batch: AnyBatch, *args: Any, **kwargs: Any) -> None:
        """Add a batch; one that lacks a field is left out, or refused if the metric is strict.

        Raises:
            ValueError: If a field is missing and the metric is strict.
        """
        del args, kwargs
        values = [getattr(batch, name, None) for name in self.fields]
        missing = [name for name, value in zip(self.fields, values, strict=True) if value is None]
        if missing and self.strict:
            msg = f"{type(self).__name__} needs {' and '.join(missing)}, which the batch does not have."
            raise ValueError(msg)
        if missing:
            return
        if PIXELS in self.fields:
            values.append(getattr(batch, "ignore_mask", None))
        metric: Any = super(AnomalibMetric, self)
        metric.update(*values)

    def compute(self) -> Any:  # noqa: ANN401
        """Return the value over all processes, whether or not this one has seen anything."""
        metric: Any = super(AnomalibMetric, self)
        return metric.compute()
