"""The layers of docs/architecture.md hold: a package imports only those above it in the table, and none in a circle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "marauder"


def layers() -> list[str]:
    """The packages in the order of the table."""
    table = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def imported(path: Path) -> set[str]:
    """Packages of Marauder that a file imports, when it is loaded or in a function; not those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    modules = [
        name
        for node in ast.walk(tree)
        if node not in for_types
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if isinstance(node, ast.Import) else []
        )
    ]  # fmt: skip
    return {name.split(".")[1] for name in modules if name.startswith("marauder.")}


def test_the_table_names_every_package() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(layers())


@pytest.mark.parametrize("package", layers())
def test_a_package_imports_only_those_above_it(package: str) -> None:
    order = layers()
    allowed = set(order[: order.index(package) + 1])
    wrong = []
    for path in sorted((SOURCE / package).rglob("*.py")):
        wrong += [f"{path.relative_to(SOURCE)} imports {other}" for other in sorted(imported(path) - allowed)]
    assert not wrong
