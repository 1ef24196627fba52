"""YAML text to plain values with the line of every key; keys given twice and loops of anchors are mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, MistakesError

DEEPEST = 100
"""Levels of nesting that are read; copying and checking what is read take several Python frames for each."""

UNFOLDED, UNFOLDED_SHARE = 10_000, 20
"""Values that a text may hold once its anchors are unfolded: so many, and so many for each that is written."""

_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


@dataclass
class ParsedYaml:
    """What a text holds. ``lines``: of every key path, from 1. ``odd_keys``: a mistake for each key that is not text to
    YAML (``off``, ``null``), which is wrong among settings. ``written``: single values by key path, as they stand
    there."""

    content: Any
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    odd_keys: list[Mistake] = field(default_factory=list)
    written: dict[tuple[str, ...], str] = field(default_factory=dict)


class _AsWritten(yaml.SafeLoader):
    """Takes every scalar, keys too, for the text it is."""

    def text(self, node: Any) -> Any:
        return self.construct_scalar(node)


for _tag in ("null", "bool", "int", "float", "timestamp", "binary", "value", "merge"):
    _AsWritten.add_constructor(f"tag:yaml.org,2002:{_tag}", _AsWritten.text)


def parse_yaml(
    text: str, place: Callable[[int | None], str], as_written: bool = False, number_keys_are_text: bool = False
) -> ParsedYaml:
    """Parse ``text``; ``place`` says where a line (``None``: unknown) is. Raises ``UserError`` that lists every key
    given twice, or says what is not valid, nested too deeply, inside itself, or far more than is written once its
    anchors are unfolded. Merge keys (``<<``) are allowed.

    ``as_written``: scalars and keys are the text that is written there, without quotes: ``no``, ``0100``, ``1.10`` and
    ``~`` stay what they are, and nothing is ``""``. No key is odd then. ``number_keys_are_text``: keys that are numbers
    to YAML are the text that is written there: classes may be called ``7``.
    """
    try:
        loader = (_AsWritten if as_written else yaml.SafeLoader)(text)
        # The nodes first: once values are constructed, keys given twice have overwritten each other and lines are lost.
        node = loader.get_single_node()
        if node is None:
            return ParsedYaml(None)
        # Before anything walks or constructs what the anchors stand for.
        _demand_bounded(node, place)
        walk = _Walk(place, as_written, number_keys_are_text)
        walk.collect(node, (), ())
        if walk.repeated:
            raise MistakesError(walk.repeated, place(None))
        return ParsedYaml(loader.construct_document(node), walk.lines, walk.odd_keys, walk.written)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else None
        raise UserError(f"{place(line)}: not valid YAML ({getattr(error, 'problem', error)})") from None
    except RecursionError:
        raise UserError(f"{place(None)}: {_TOO_DEEP}") from None
    except ValueError as error:  # the constructors of dates and numbers: 2026-13-45
        raise UserError(f"{place(None)}: not valid YAML ({error}); put the value in quotes") from None


_TOO_DEEP = f"brackets or lists are nested more than {DEEPEST} deep; write it flatter"


def _demand_bounded(root: yaml.Node, place: Callable[[int | None], str]) -> None:
    """Raise ``UserError`` for a few anchors that stand for millions of values."""
    sizes: dict[int, int] = {}
    nodes: list[yaml.Node] = []

    def measure(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 1  # what a loop finds of the node it comes back to
            nodes.append(node)
            size = 1 + sum(measure(below) for _, _, below in _children(node))
            sizes[id(node)] = min(size, 1 << 60)  # doubled by each line of a long text, it would have a digit a line
        return sizes[id(node)]

    measure(root)
    limit = UNFOLDED + UNFOLDED_SHARE * len(nodes)
    large = [node for node in nodes if sizes[id(node)] > limit]
    if large:
        line = min(large, key=lambda node: sizes[id(node)]).start_mark.line + 1
        raise UserError(f"{place(line)}: anchors (&, *) unfold to more than {limit:,} values here; write it out")


class _Walk:
    """Goes through the nodes of a text, through those of an anchor as often as it is named."""

    def __init__(self, place: Callable[[int | None], str], as_written: bool, number_keys_are_text: bool) -> None:
        self.place, self.as_written, self.number_keys_are_text = place, as_written, number_keys_are_text
        self.lines: dict[tuple[str, ...], int] = {}
        self.written: dict[tuple[str, ...], str] = {}
        self.odd_keys: list[Mistake] = []
        self.repeated: list[Mistake] = []
        self._seen: set[int] = set()

    def collect(self, node: yaml.Node, prefix: tuple[str, ...], above: tuple[yaml.Node, ...]) -> None:
        """Note lines and mistakes of what is below ``node``; ``above``: the nodes around it."""
        line = self.lines.get(prefix, node.start_mark.line + 1)
        if any(node is other for other in above):
            name = ".".join(prefix)
            raise UserError(f"{self.place(line)}: {name}: contains itself through its anchor (&, *); write it out")
        if len(above) > DEEPEST:
            raise UserError(f"{self.place(line)}: {_TOO_DEEP}")
        # A mapping with an anchor is met as often as it is named; its mistakes are reported once.
        if isinstance(node, yaml.MappingNode) and id(node) not in self._seen:
            self._seen.add(id(node))
            self._look_at_keys(node, prefix)
        if isinstance(node, yaml.ScalarNode):
            self.written[prefix] = node.value
        for key, key_line, below in _children(node):
            self.lines[(*prefix, key)] = key_line
            self.collect(below, (*prefix, key), (*above, node))

    def _look_at_keys(self, node: yaml.MappingNode, prefix: tuple[str, ...]) -> None:
        first: dict[tuple[str, str], int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE or not isinstance(key_node, yaml.ScalarNode):
                continue
            line = key_node.start_mark.line + 1
            name = ".".join((*prefix, key_node.value))
            if self.number_keys_are_text and key_node.tag in _NUMBERS:
                key_node.tag = _TEXT
            same = ("" if self.as_written else key_node.tag, key_node.value)
            if same in first:
                known = first[same]
                words = f"{name}: given twice (first in line {known}); keep one"
                self.repeated.append(Mistake(words, self.place(line)))
                continue
            first[same] = line
            if key_node.tag != _TEXT and not self.as_written:
                remedy = f'put the key in quotes: "{key_node.value}"'
                remedy += ", or, for a list, write - before each value" if key_node.tag in _NUMBERS else ""
                words = f"{name}: YAML does not read the key as text; {remedy}"
                self.odd_keys.append(Mistake(words, self.place(line)))


def _children(node: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            # A key that is a list or mapping is refused later; as text it may be endless.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            yield key, key_node.start_mark.line + 1, value_node
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield str(index), item.start_mark.line + 1, item
