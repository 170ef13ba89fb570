"""Pre-norm transformer stages over the cells of one image (step 6)."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

HEADS = 4
MLP_RATIO = 4
"""Width of the MLP in widths of a cell."""
DROPOUT = 0.1
"""Of attention weights and MLP, while training."""


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases.

    Args:
        dim: Width of a cell, a multiple of :data:`HEADS`.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Attend over ``(B, T, C)`` cells and return the same shape."""
        query, key, value = (
            projection(cells).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        dropout = DROPOUT if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.out(attended.transpose(1, 2).flatten(2))


class TransformerStage(nn.Module):
    """Self-attention and a convolutional MLP, each with a residual connection.

    Args:
        dim: Width of a cell.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim * MLP_RATIO
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Conv2d(hidden, dim, 1),
            nn.Dropout(DROPOUT),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)`` cells and return the same shape."""
        grid = cells.shape[-2:]
        tokens = cells.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.attention_norm(tokens))
        normed = self.mlp_norm(tokens).transpose(1, 2).unflatten(-1, grid)
        return tokens.transpose(1, 2).unflatten(-1, grid) + self.mlp(normed)
