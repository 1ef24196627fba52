"""Which training a checkpoint belongs to, and how another one differs from it, in words."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from marauder.core.decides import OFF
from marauder.core.errors import UserError
from marauder.core.plain import Plain


def describe_differences(stored: Plain, current: Plain, at_default: Collection[str] = ()) -> str:
    """The differences between two training identities, in words; empty when there are none.

    ``at_default``: dotted names of current settings that have their default; where ``stored`` knows none of that name,
    it is older than the setting, and nothing differs. The same holds for a section of that name that ``stored`` calls
    off and that counts by now.
    """
    differences = []
    if stored.get("data") != current["data"]:
        differences.append("other pictures, labels or weights to start from")
    before, after = _flat(stored.get("settings", {})), _flat(current["settings"])
    for key in sorted(before.keys() | after.keys()):
        # A setting added after the checkpoint was made decides nothing as long as its default is what was done before.
        older = key not in before or (key not in after and before[key] == OFF)
        if before.get(key) != after.get(key) and not (older and key in at_default):
            differences.append(f"{key} was {before.get(key)}, is {after.get(key)}")
    return "; ".join(differences)


def refuse_other_training(where: Path | str, stored: Plain, current: Plain, at_default: Collection[str] = ()) -> None:
    """Raise ``UserError`` where the checkpoint ``where``, of the identity ``stored``, is of another training."""
    differences = describe_differences(stored, current, at_default)
    if differences:
        raise UserError(
            f"{where} belongs to a training with other settings or data ({differences}); "
            "start over with --fresh, or give back the former settings"
        )


def _flat(settings: Plain, prefix: str = "") -> Plain:
    flat: Plain = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
