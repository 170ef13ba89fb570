"""A vision transformer whose position embeddings follow the size of the input in exported graphs, too.

timm resamples them by an antialiased bicubic interpolation, which exporters get wrong or refuse. The same as products
with matrices exports; timm's rotary embeddings (DINOv3) do as they are.
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SHARPNESS = -0.5
"""Of the cubic kernel (Keys 1981), as torch has it where it is antialiased."""


class Resampled(VisionTransformer):
    """Adds position embeddings of any grid."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Join extra tokens and patches ``(B, h, w, D)``, positions added: ``(B, extra + h * w, D)``."""
        batch, height, width, channels = x.shape
        x = x.reshape(batch, -1, channels)
        extra = [token.expand(batch, -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        if self.pos_embed is None:
            return torch.cat([*extra, x], dim=1)
        own = 0 if self.no_embed_class else self.num_prefix_tokens
        table = self.pos_embed[0, own:].unflatten(0, self.patch_embed.grid_size)
        positions = resampled(table, height, width).flatten(0, 1)[None]
        if self.no_embed_class:
            x = x + positions
            return self.pos_drop(torch.cat([*extra, x], dim=1))
        return self.pos_drop(torch.cat([*extra, x], dim=1) + torch.cat([self.pos_embed[:, :own], positions], dim=1))


def resample_positions(net: nn.Module) -> None:
    """Let position embeddings follow the input, in place, where a model has a table of them."""
    for module in list(net.modules()):
        if type(module) is VisionTransformer:
            module.__class__ = Resampled


def resampled(table: Tensor, height: int, width: int) -> Tensor:
    """Resample a table ``(H, W, D)`` to ``(height, width, D)``: bicubic, antialiased, corners not aligned."""
    rows, columns = (_weights(old, new, table) for old, new in zip(table.shape[:2], (height, width), strict=True))
    along = (rows @ table.flatten(1)).unflatten(1, table.shape[1:])
    return columns @ along


def _weights(old: int, new: int, like: Tensor) -> Tensor:
    """Return what each of the old cells counts for each of the new ones ``(new, old)``."""
    centres = (torch.arange(new, device=like.device).to(like)[:, None] + 0.5) * (old / new)
    reach = torch.ones_like(centres[:1]) * (old / new)
    cells = torch.arange(old, device=like.device).to(like) + 0.5
    x = ((cells - centres) / reach.clamp(min=1)).abs()
    near = ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * SHARPNESS - 4 * SHARPNESS
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))  # noqa: PLR2004
    return weights / weights.sum(1, keepdim=True)
