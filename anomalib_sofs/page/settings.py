"""What is remembered beside the decisions: thresholds, colours, and where and from which size on defects count."""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from anomalib_sofs.model.false_alarms import FALSE_ALARMS
from anomalib_sofs.results.files import write_json

from .finds import step_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What is remembered beside the decisions."""

    step: int = step_of(0.5)
    """Of the threshold, 1 to 255, see :mod:`.finds`."""
    colours: dict[str, str] = field(default_factory=dict)
    """Of the classes, as ``#rrggbb``."""
    good: str | None = None
    """Folder of good parts that tell the threshold."""
    false_alarms: float = FALSE_ALARMS
    """Share of good parts that may get a region."""
    limits: dict[str, int] = field(default_factory=dict)
    """By class the step from which on good parts say that it is a defect."""
    roi: str | None = None
    """Mask, or folder of masks, of the region of interest."""
    least_area: int = 1
    """Pixels of the smallest region that counts."""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what was written; where there is nothing that can be read, begin anew."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s cannot be read (%s): threshold and colours start anew.", file, error)
            return cls()

    def write(self, file: Path) -> None:
        """Write it, whole or not at all."""
        write_json(self.__dict__, file)
