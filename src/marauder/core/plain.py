"""Plain values: what JSON and YAML hold, before a model or a class has made something typed of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Plain = dict[str, Any]
"""A mapping of names to text, numbers, truth values, ``None``, and lists and mappings of these."""
PlainMapping = Mapping[str, Any]
"""The same, only read."""
