"""What heads that neither calibrate nor weigh evidence have in common: the published form, methods to compare with."""

from collections.abc import Sequence

from torch import Tensor, nn

from .encoding import Encoding


class PlainHead(nn.Module):
    """A head that cuts at 0.5 whatever the class."""

    @staticmethod
    def calibrated(encodings: dict[str, Encoding], *support: object) -> dict[str, Encoding]:
        """Leave the encodings as they are."""
        del support
        return encodings

    @staticmethod
    def refined(features: list[Tensor], logits: Tensor, encodings: Sequence[Encoding]) -> Tensor:
        """Leave the first opinion as it is."""
        del features, encodings
        return logits

    @staticmethod
    def confirmed(logits: Tensor, encodings: Sequence[Encoding]) -> Tensor:
        """Leave the logits as they are."""
        del encodings
        return logits
