"""Feature reduction and the first meeting of query, support, prototypes and priors (step 5)."""

import torch
from torch import Tensor, nn

PRIOR_SCALE = 10.0  # the priors lie in [0, 2], reduced features are larger: the paper multiplies by ten


class Reduction(nn.Module):
    """1x1 convolutions that bring all layers to one width, then merge prototypes and priors into the cells.

    Args:
        in_channels: Sum of the channels of all layers.
        layers: Number of layers, hence of maps per prior.
        dim: Reduced width ``C``.
        merged_dim: Width ``C1`` of the cells that enter the transformer.
        abnormal_prior: Whether the abnormal prior enters the query cells (the paper's ablation switches it off).
    """

    def __init__(
        self, in_channels: int, layers: int, dim: int, merged_dim: int, *, abnormal_prior: bool = True
    ) -> None:
        super().__init__()
        self.query = self._reduce(in_channels, dim)
        self.support = self._reduce(in_channels, dim)
        self.prototype = self._reduce(in_channels, dim)
        maps = layers * (2 if abnormal_prior else 1)
        self.merge_query = nn.Sequential(nn.Conv2d(2 * dim + maps, merged_dim, 1, bias=False), nn.ReLU())
        self.merge_support = nn.Sequential(nn.Conv2d(2 * dim, merged_dim, 1, bias=False), nn.ReLU())

    @staticmethod
    def _reduce(in_channels: int, dim: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(in_channels, dim, 1, bias=False), nn.ReLU(), nn.Dropout2d(0.5))

    def forward_support(self, features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Merge each support image with its own prototype.

        Args:
            features: All layers concatenated ``(N, sum D, h, w)``.
            prototypes: Masked means, concatenated alike ``(N, sum D)``.

        Returns:
            Support cells ``(N, C1, h, w)`` and the reduced prototypes ``(N, C)``.
        """
        reduced_prototype = self.prototype(prototypes[..., None, None])
        reduced = self.support(features)
        cells = self.merge_support(torch.cat([reduced, reduced_prototype.expand_as(reduced)], dim=1))
        return cells, reduced_prototype.flatten(1)

    def forward_query(self, features: Tensor, prototype: Tensor, priors: Tensor) -> Tensor:
        """Merge the query with the support set's prototype and its priors.

        Args:
            features: All layers concatenated ``(B, sum D, h, w)``.
            prototype: Mean reduced prototype ``(C,)``, or one for each query ``(B, C)``.
            priors: Prior maps ``(B, maps, h, w)``: all target semantic priors, then all abnormal priors.

        Returns:
            Query cells ``(B, C1, h, w)``.
        """
        reduced = self.query(features)
        prototype = prototype[..., None, None].expand_as(reduced)
        return self.merge_query(torch.cat([reduced, prototype, PRIOR_SCALE * priors], dim=1))
