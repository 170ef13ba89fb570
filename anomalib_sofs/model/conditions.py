"""Conditions: where, from which size on, and how rarely on good parts something is a defect, beside a support set."""

from dataclasses import dataclass

from .encoding import SupportEncoding
from .false_alarms import GoodImages, learn_limits, told_by, warn_of_limits
from .region_of_interest import RegionOfInterest
from .torch_model import SofsModel


@dataclass(frozen=True)
class Conditions:
    """Region of interest, least area and good images; what is ``None`` leaves an encoding as it is."""

    roi: RegionOfInterest | None = None
    least_area: int | None = None
    good: GoodImages | None = None

    def impose(self, model: SofsModel, encoding: SupportEncoding, good: GoodImages | None) -> None:
        """Let them count for an encoding, and let good images tell its limits, where there are any."""
        encoding.restrict(self.roi, self.least_area)
        if good is not None:
            learn_limits(model, [encoding], good)

    def adapt(self, model: SofsModel, encoding: SupportEncoding) -> bool:
        """Let them count for an encoding that others have made; return whether this changed anything."""
        changed = encoding.restrict(self.roi, self.least_area)
        if self.good is not None and (changed or not told_by(self.good, encoding)):
            learn_limits(model, [encoding], self.good)
            return True
        if changed:
            warn_of_limits(encoding)
        return changed
