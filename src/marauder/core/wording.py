"""Numbers, times and commands as people read them: counted things in the right number, times in the zone of this
machine, commands that can be pasted.

Files keep seconds since 1970, or UTC.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from datetime import datetime


def counted(count: int, one: str, more: str = "") -> str:
    """``1 clip``, ``1,234 clips``. ``more``: what several are called, where that is not ``one`` with an s."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def to_type(*words: object) -> str:
    """A command of ours as it is typed, words quoted where a shell needs it: ``marauder data check --input 'a b'``."""
    return shlex.join(["marauder", *map(str, words)])


def joined(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def units(pictures: bool, videos: bool) -> str:
    """What is counted in files that are pictures, videos, or both."""
    return " and ".join(["pictures"] * (pictures or not videos) + ["frames"] * videos)


def local_time(moment: float | datetime, zone: bool = False) -> str:
    """``2026-11-30 23:58`` where this machine is, with ``zone`` also which time that is (``CET``).

    ``moment``: seconds since 1970, or a time with its zone.
    """
    seconds = moment.timestamp() if isinstance(moment, datetime) else moment
    return time.strftime("%Y-%m-%d %H:%M %Z" if zone else "%Y-%m-%d %H:%M", time.localtime(seconds))
