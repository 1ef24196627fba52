"""Contract tests of plug points, for those who write an implementation: subclass one in a test module of your own.

Needs the packages of the extra ``test``; nothing else in Marauder imports it.
"""

from __future__ import annotations

import pkgutil

import pytest

# pytest shows the values of a failed assert in test modules alone, and must hear of others before their import.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))
