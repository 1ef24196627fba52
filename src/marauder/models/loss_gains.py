"""How much each part of the detection loss counts where nothing else is set. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LossGains:
    """YOLOv8's own gains: of boxes (CIoU), of classes (binary cross-entropy), of the sides' distributions (DFL)."""

    box: float = 7.5
    cls: float = 0.5
    dfl: float = 1.5


GAINS = LossGains()
LOSS_NAMES = tuple(asdict(GAINS))
