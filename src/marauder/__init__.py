"""Marauder: training detectors where labels are scarce, machines get interrupted and mistakes cost.

``open_dataset``, ``train``, ``evaluate``, ``predict``, ``export``, ``ensemble``, ``teach`` and ``calibrate`` are its
commands as functions. Importing this package is fast and loads no optional dependency; each function imports what it
needs when it is called.
"""

from marauder.api import calibrate, ensemble, evaluate, export, open_dataset, predict, teach, train
from marauder.core.version import __version__

__all__ = ["__version__", "calibrate", "ensemble", "evaluate", "export", "open_dataset", "predict", "teach", "train"]
