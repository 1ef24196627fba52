"""What a version of TensorRT's ONNX parser reads, as its authors publish it: one table (``facts/``) for each version.

The tables hold facts, with their source, of the parser's own list of operators. They say what can be parsed; whether an
engine is then built, and whether it is right, only the board can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from marauder.core.files import read_json
from marauder.core.plain import PlainMapping

FACTS = Path(__file__).parent / "facts"
VERSIONS = ("8.2", "8.5", "8.6", "10.1")
"""TensorRT versions that there is a published table for, oldest first."""


@dataclass(frozen=True)
class ParserTable:
    """What one version reads.

    ``version``: of TensorRT. ``source``: where it is published. ``oldest_opset``, ``newest_opset``: of ONNX.
    ``operators``: by name the element types that they take (FP32, FP16, INT8 …). ``narrowed``: element types that the
    parser turns into another by itself. ``rules``: further conditions by operator, as the file has them.
    """

    version: str
    source: str
    oldest_opset: int
    newest_opset: int
    operators: dict[str, frozenset[str]]
    narrowed: dict[str, str]
    rules: dict[str, tuple[PlainMapping, ...]]

    @classmethod
    def of(cls, content: Any) -> ParserTable:
        """The table in a file of ``facts``."""
        rules: dict[str, list[PlainMapping]] = {}
        for rule in content["rules"]:
            rules.setdefault(rule["operator"], []).append(rule)
        oldest, newest = content["opset"]
        return cls(
            content["tensorrt"],
            f"{content['source']} at {content['commit'][:12]}",
            oldest,
            newest,
            {name: frozenset(types) for name, types in content["operators"].items()},
            dict(content["narrowed"]),
            {name: tuple(ones) for name, ones in rules.items()},
        )


@cache
def parser_table(version: str) -> ParserTable:
    """The table of a version of ``VERSIONS``."""
    return ParserTable.of(read_json(FACTS / f"tensorrt_{version}.json"))


def table_for(tensorrt: str) -> str:
    """The version whose table stands for ``tensorrt`` ("8.5.2", "10.3"): the newest published that is not newer.

    Of TensorRT 10 only 10.1 is published, which stands for all of it. Raises ``ValueError`` for one that is older than
    every table.
    """
    wanted = _numbers(tensorrt)
    fitting = [version for version in VERSIONS if _numbers(version) <= wanted]
    if not fitting:
        raise ValueError(f"TensorRT {tensorrt} is older than {VERSIONS[0]}, the oldest with a published table")
    return fitting[-1]


def stands_for_others(tensorrt: Sequence[str]) -> list[str]:
    """Of ``tensorrt`` those that a table of another version stands for, in order."""
    return [one for one in tensorrt if _numbers(one)[:2] != _numbers(table_for(one))]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
