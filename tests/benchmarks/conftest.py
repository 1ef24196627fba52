"""The scripts of ``benchmarks`` are imported as they import one another."""

from __future__ import annotations

import sys
from pathlib import Path

# At the end, so that none of their names hides a package.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
