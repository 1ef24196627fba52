"""Marauder: training detectors where labels are scarce, machines get interrupted and mistakes cost.

Importing this package is fast and loads no optional dependency; import the subpackage you need.
"""

__version__ = "0.1.0"
