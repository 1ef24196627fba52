"""What torch raises for files that are none of its own; one list for all that open weights and checkpoints."""

from __future__ import annotations

import struct
from pickle import UnpicklingError

UNREADABLE = (
    *(TypeError, RuntimeError, EOFError, OSError, ModuleNotFoundError, AttributeError, LookupError, ValueError),
    *(ArithmeticError, AssertionError, UnpicklingError, struct.error),
)
"""What torch's restricted loader raises for files that are not a checkpoint, whatever bytes they hold."""
