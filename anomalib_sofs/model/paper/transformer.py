"""Pre-norm transformer stages over the cells of one image (step 6)."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases.

    Args:
        dim: Width of a cell.
        heads: Number of heads; divides ``dim``.
        dropout: Dropout on the attention weights during training.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, cells: Tensor) -> Tensor:
        """Attend over ``(B, T, C)`` cells and return the same shape."""
        query, key, value = (
            projection(cells).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.out(attended.transpose(1, 2).flatten(2))


class TransformerStage(nn.Module):
    """Self-attention and a convolutional MLP, each with a residual connection.

    Args:
        dim: Width of a cell.
        heads: Attention heads.
        mlp_ratio: Width of the MLP relative to ``dim``.
        dropout: Dropout probability.
    """

    def __init__(self, dim: int, heads: int = 4, mlp_ratio: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = dim * mlp_ratio
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, heads, dropout)
        self.mlp_norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Conv2d(dim, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, dim, 1),
            nn.Dropout(dropout),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Transform ``(B, C, h, w)`` cells and return the same shape."""
        grid = cells.shape[-2:]
        tokens = cells.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.attention_norm(tokens))
        normed = self.mlp_norm(tokens).transpose(1, 2).unflatten(-1, grid)
        return tokens.transpose(1, 2).unflatten(-1, grid) + self.mlp(normed)
