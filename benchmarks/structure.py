"""What the tree of sources looks like in figures: files, lines, circles, comments, loose types, shapes of plug points.

    python benchmarks/structure.py [CHECKOUT ...]

Prints one column a checkout (default: this one), so that a commit and the one before can stand side by side:
``git worktree add ../before COMMIT && python benchmarks/structure.py ../before .``
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

LONG = 60
"""Lines of a function from which it needs a reason."""
SHINGLE = 3
"""Lines in a row by which two modules are compared, with names, strings and numbers left out."""
LOOSE = r"(?<![\w.])Any(?!\w)"
ALIKE = 0.25
"""Share of the shorter module's shingles that makes two modules near-duplicates."""


class Tree:
    """The sources of a checkout, parsed."""

    def __init__(self, checkout: Path) -> None:
        self.root = checkout / "src" / "marauder"
        if not self.root.is_dir():
            raise SystemExit(f"{self.root}: no such folder; name a checkout of Marauder")
        self.text = {path: path.read_text(encoding="utf-8") for path in sorted(self.root.rglob("*.py"))}
        self.parsed = {path: ast.parse(text) for path, text in self.text.items()}
        self.modules = {self._module(path): path for path in self.text}

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self.root.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports(self, path: Path) -> set[Path]:
        """Files of the tree that a file imports, when it is loaded or in a function; not those for types alone."""
        found: set[Path] = set()
        for node in _outside_type_checking(self.parsed[path]):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            longest = [self.modules[name] for name in names if name in self.modules]
            found |= set(longest) - {path, self.root / "__init__.py"}
        return found

    def in_circles(self) -> set[Path]:
        """Files that import one another, directly or not (strongly connected components larger than one)."""
        graph = {path: self.imports(path) for path in self.text}
        reach = {path: _reachable(graph, path) for path in graph}
        return {path for path in graph if any(path in reach[other] for other in reach[path] if other != path)}

    def functions(self) -> Iterator[tuple[Path, ast.AST, int]]:
        """Every function with its number of lines."""
        for path, tree in self.parsed.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield path, node, (node.end_lineno or 0) - node.lineno + 1

    def comments(self) -> int:
        """Lines of comments, without those that speak to tools."""
        return sum(
            1
            for text in self.text.values()
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT and not re.match(r"#\s*(fmt|type|noqa|pragma|ruff)\b", token.string)
        )

    def words(self, pattern: str) -> int:
        """How often a pattern occurs."""
        return sum(len(re.findall(pattern, text)) for text in self.text.values())

    def private_imports(self) -> int:
        """Names with a leading underscore that one file takes from another."""
        return sum(
            1
            for tree in self.parsed.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("marauder")
            for alias in node.names
            if alias.name.startswith("_") and not alias.name.startswith("__")
        )

    def constructor_shapes(self) -> int:
        """How many kinds of parameter lists the constructors of plug-point implementations have."""
        table = (self.root / "core" / "plugins.py").read_text(encoding="utf-8")
        shapes = set()
        for module, name in re.findall(r'"(marauder[\w.]+):(\w+)"', table):
            shapes.add(self._constructor(module, name))
        return len(shapes)

    def _constructor(self, module: str, name: str) -> tuple[str, ...]:
        tree = self.parsed[self.modules[module]]
        node = next(one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == name)
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                return tuple(argument.arg for argument in [*part.args.args[1:], *part.args.kwonlyargs])
        for base in node.bases:
            plain = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(plain, ast.Name):
                home = self._home(tree, module, plain.id)
                if home is not None:
                    return self._constructor(home, plain.id)
        return ()

    def _home(self, tree: ast.Module, module: str, name: str) -> str | None:
        if any(isinstance(one, ast.ClassDef) and one.name == name for one in ast.walk(tree)):
            return module
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                return node.module if node.module in self.modules else None
        return None

    def near_duplicates(self) -> int:
        """Pairs of modules that share much of their shape."""
        shingles = {path: _shingles(text) for path, text in self.text.items()}
        large = [path for path, found in shingles.items() if len(found) >= 20]
        return sum(
            len(shingles[one] & shingles[other]) >= ALIKE * min(len(shingles[one]), len(shingles[other]))
            for place, one in enumerate(large)
            for other in large[place + 1 :]
        )

    def figures(self) -> dict[str, str]:
        """Name to figure."""
        lines = sum(text.count("\n") for text in self.text.values())
        comments = self.comments()
        lengths = [length for _, _, length in self.functions()]
        names = [path.name for path in self.text if path.name != "__init__.py"]
        return {
            "files": f"{len(self.text):,}",
            "lines": f"{lines:,}",
            "lines without comments": f"{lines - comments:,}",
            "comments, share of lines": f"{comments / lines:.1%}",
            "files in import circles": str(len(self.in_circles())),
            "private names taken from other files": str(self.private_imports()),
            "# fmt: skip": str(self.words(r"# fmt: skip")),
            "Any, uses per 1,000 lines": f"{1000 * self.words(LOOSE) / lines:.1f}",
            "model_copy": str(self.words(r"\.model_copy\(")),
            f"functions above {LONG} lines": str(sum(length > LONG for length in lengths)),
            "constructor shapes of plug points": str(self.constructor_shapes()),
            "near-duplicate modules, pairs": str(self.near_duplicates()),
            "file names that occur twice or more": str(len({name for name in names if names.count(name) > 1})),
        }


def _outside_type_checking(tree: ast.Module) -> Iterator[ast.AST]:
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return (node for node in ast.walk(tree) if node not in for_types)


def _reachable(graph: dict[Path, set[Path]], start: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = list(graph[start])
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += graph[path]
    return found


def _shingles(text: str) -> set[str]:
    plain = re.sub(r'"""(?:.|\n)*?"""', "", text)
    lines = [re.sub(r"\"[^\"]*\"|'[^']*'|\b\d+\b", "0", line).strip() for line in plain.splitlines()]
    code = [line for line in lines if line and not re.match(r"from\b|import\b|#", line)]
    lines = [re.sub(r"\b[a-z_]\w*\b", "n", line) for line in code]
    return {"\n".join(lines[at : at + SHINGLE]) for at in range(len(lines) - SHINGLE + 1)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1]])
    checkouts = parser.parse_args().checkouts
    columns = [Tree(checkout).figures() for checkout in checkouts]
    titles = [checkout.resolve().name for checkout in checkouts]
    print("| figure | " + " | ".join(titles) + " |")
    print("|---|" + "---|" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")


if __name__ == "__main__":
    main()
