"""The layers of docs/architecture.md hold: packages import downwards, files in no circle, and privates stay private."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "marauder"


def layers() -> list[str]:
    """The packages in the order of the table."""
    table = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def modules_of(source: Path) -> dict[str, Path]:
    """Full name to file of every module below ``source``, the folder of the package."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, module: str) -> Iterator[tuple[str, str]]:
    """Every (module, name) that a file imports, at its top or inside a function; ``name`` is empty for ``import a.b``.

    Not those under ``if TYPE_CHECKING``: nothing is loaded for them.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            yield from ((".".join([*above, *filter(None, [node.module])]), alias.name) for alias in node.names)


def graph(source: Path) -> dict[str, set[str]]:
    """Module to the modules below ``source`` that it imports."""
    modules = modules_of(source)
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        wanted = (
            (f"{base}.{name}" if f"{base}.{name}" in modules else base) for base, name in imports(path, module)
        )  # the name may be a module of its own
        found[module] = {one for one in wanted if one in modules and one != module}
    return found


def upward(source: Path, order: list[str]) -> list[str]:
    """Imports of a package that stands below the importer's in the table ``order``."""
    rank = {f"{source.name}.{package}": number for number, package in enumerate(order)}
    package_of = {module: ".".join(module.split(".")[:2]) for module in modules_of(source)}
    return [
        f"{module} imports {other}"
        for module, others in graph(source).items()
        for other in sorted(others)
        if package_of[module] in rank and rank.get(package_of[other], -1) > rank[package_of[module]]
    ]


def circle(source: Path) -> list[str]:
    """The modules of one circle of imports, or nothing."""
    try:
        graphlib.TopologicalSorter(graph(source)).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def private(source: Path) -> list[str]:
    """Private names that a file takes from another one, by import or as an attribute of what it imported."""
    modules, found = modules_of(source), []
    for module, path in modules.items():
        ours = set()
        for base, name in imports(path, module):
            if base.split(".")[0] != source.name:
                continue
            ours.add(name or base)
            if re.match("_[^_]", name):
                found.append(f"{module} imports {base}.{name}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and ast.unparse(node.value) in ours:
                found.append(f"{module} uses {ast.unparse(node)}")
    return found


def test_the_table_names_every_package() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(layers())


def test_a_package_imports_only_those_above_it_in_the_table() -> None:
    assert upward(SOURCE, layers()) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(SOURCE) == []


def test_no_file_takes_a_private_name_of_another() -> None:
    assert private(SOURCE) == []


@pytest.mark.parametrize(
    "line",
    [
        "from house.roof.tiles import lay",
        "from house.roof import tiles",
        "from house import roof",
        "import house.roof.tiles",
        "from ..roof.tiles import lay",
        "from .. import roof",
        "def late() -> None:\n    from house.roof.tiles import lay",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(line: str, tmp_path: Path) -> None:
    house = write_house(tmp_path, {"cellar/beams.py": line, "roof/tiles.py": "def lay(): ..."})
    (found,) = upward(house, ["cellar", "roof"])
    assert found.startswith("house.cellar.beams imports house.roof")
    assert upward(house, ["roof", "cellar"]) == []


@pytest.mark.parametrize(
    "back",
    [
        "from house.cellar.beams import raise_it",
        "def late() -> None:\n    from house.cellar import beams",
        "from . import beams",
    ],
)
def test_a_circle_is_found_wherever_it_hides(back: str, tmp_path: Path) -> None:
    files = {"cellar/beams.py": "from house.cellar import wood", "cellar/wood.py": back}
    assert set(circle(write_house(tmp_path, files))) == {"house.cellar.beams", "house.cellar.wood"}
    assert circle(write_house(tmp_path, {**files, "cellar/wood.py": "import os"})) == []


@pytest.mark.parametrize(
    "line",
    ["from house.cellar.wood import _saw", "from house.cellar import wood\nwood._saw()", "from .wood import _saw"],
)
def test_a_private_name_is_found(line: str, tmp_path: Path) -> None:
    house = write_house(tmp_path, {"cellar/beams.py": line, "cellar/wood.py": "def _saw(): ..."})
    assert len(private(house)) == 1
    house = write_house(tmp_path, {"cellar/beams.py": "import os\nos._exit(0)"})
    assert private(house) == []


def write_house(folder: Path, files: dict[str, str]) -> Path:
    """A package ``house`` of these files."""
    for name, text in files.items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.joinpath("__init__.py").touch()
        path.write_text(text + "\n", encoding="utf-8")
    return folder / "house"
