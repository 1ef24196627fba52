"""Settings as they were given, in layers: YAML files, then what was typed; each value with the place it came from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.mistakes import ARGUMENT, OVERRIDE, Mistake, Mistakes, MistakesError, mistakes_in
from marauder.core.plain import Plain, PlainMapping
from marauder.core.yaml_text import ParsedYaml, parse_yaml


@dataclass(frozen=True)
class Layer:
    """Settings from one place: ``content`` as nested mappings, ``places`` the ``file:line`` of every key path.

    ``written``: single values as they stand there. ``mistakes``: what could not be taken in; ``validate_layer`` lists
    them with its own. ``typed``: places on the command line, in its order. ``prefixes``: by place, what is typed there
    before the names of these settings, where they are a section of others (``gate.``).
    """

    content: Plain
    places: dict[tuple[str, ...], str]
    name: str = "the settings"
    written: dict[tuple[str, ...], str] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    typed: tuple[str, ...] = ()
    prefixes: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, keys: Sequence[str], place: str) -> str:
        """The dotted name of a setting, as it is typed at ``place``."""
        return self.prefixes.get(place, "") + ".".join(keys)

    def demand_none(self, mistakes: Iterable[Mistake]) -> None:
        """Raise ``MistakesError`` if there are any, in the order of this layer's places."""
        found = tuple(mistakes)
        if found:
            raise MistakesError(found, self.name, self.typed)


def read_layer(path: Path | str) -> Layer:
    """The settings of a YAML file. Raises ``UserError`` with the place, also for keys that are not text."""
    parsed = _read_yaml(Path(path), number_keys_are_text=True)
    if parsed.odd_keys:
        raise MistakesError(parsed.odd_keys, str(path))
    places = {keys: f"{path}:{line}" for keys, line in parsed.lines.items()}
    return Layer(parsed.content, places, str(path), parsed.written)


def read_layer_or_mistakes(path: Path | str | None) -> Layer:
    """As ``read_layer``, but what is wrong with the file is kept in the layer, for one list with all other mistakes.
    Without a path there are no settings."""
    if path is None:
        return Layer({}, {})
    try:
        return read_layer(path)
    except UserError as error:
        return Layer({}, {}, str(path), mistakes=tuple(mistakes_in(error)))


def merge_layers(layers: Sequence[Layer]) -> Layer:
    """Later layers take precedence, key by key; a value that is not a mapping is replaced as a whole."""
    content: Plain = {}
    places: dict[tuple[str, ...], str] = {}
    written: dict[tuple[str, ...], str] = {}
    for layer in layers:
        for keys in _merge(content, layer.content, ()):
            # What stood below the old value is gone, and so are its places.
            for known, new in ((places, layer.places), (written, layer.written)):
                for old in [old for old in known if old[: len(keys)] == keys]:
                    del known[old]
                known |= {own: value for own, value in new.items() if own[: len(keys)] == keys}
        # Sections that were there already: the later place is the one to look at.
        places |= {keys: place for keys, place in layer.places.items() if keys in places}
    mistakes = tuple(mistake for layer in layers for mistake in layer.mistakes)
    typed = tuple(place for layer in layers for place in layer.typed)
    prefixes = {place: prefix for layer in layers for place, prefix in layer.prefixes.items()}
    return Layer(content, places, layers[-1].name if layers else "the settings", written, mistakes, typed, prefixes)


def _merge(base: Plain, over: PlainMapping, prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Put ``over`` into ``base``; yields the keys of what was put in as a whole."""
    for name, value in over.items():
        known = base.get(name)
        if isinstance(value, Mapping) and isinstance(known, dict):
            yield from _merge(known, value, (*prefix, str(name)))
            continue
        # Later layers are merged into this copy; the layer it comes from stays as it was read.
        base[name] = copy.deepcopy(value)
        yield (*prefix, str(name))


def add_values(
    layer: Layer, overrides: Sequence[str], options: Mapping[str, str] | None, values: PlainMapping
) -> Layer:
    """``layer`` with dotted overrides and then values (by dotted name; ``None`` is left out) put over it.

    Overrides that cannot be read become mistakes of the layer.
    """
    changed = replace(
        layer, content=copy.deepcopy(layer.content), places=dict(layer.places), written=dict(layer.written)
    )
    mistakes, typed = Mistakes(layer.mistakes), list(layer.typed)
    for override in overrides:
        place = override_place(override)
        typed.append(place)
        key, found, text = override.partition("=")
        keys = tuple(key.strip().split("."))
        if not found or not all(keys):
            mistakes.add([Mistake("write it as key=value, for example training.epochs=20", place)])
            continue
        with mistakes.gathered():
            parsed = _parse_value(text, override)
            put_value(changed, keys, parsed.content, place)
            changed.written.update({(*keys, *below): value for below, value in parsed.written.items()})
    for name, value in values.items():
        if value is not None:
            place = option_place(name, options)
            typed.append(place)
            with mistakes.gathered():
                put_value(changed, tuple(name.split(".")), value, place)
    return replace(changed, mistakes=tuple(mistakes.found), typed=tuple(typed))


def override_place(override: str) -> str:
    """What ``key=value`` on the command line is called where it is wrong."""
    return f"{OVERRIDE}{override!r}"


def option_place(name: str, options: Mapping[str, str] | None = None) -> str:
    """What the option that gives the setting ``name`` is called: ``option --batch-size``; or the argument of a Python
    function, where ``options`` names one (``argument data``)."""
    flag = (options or {}).get(name, "--" + name.replace("_", "-"))
    return flag if flag.startswith(ARGUMENT) else f"option {flag}"


def read_yaml_mapping(path: Path) -> tuple[Plain, dict[tuple[str, ...], int]]:
    """Read a YAML mapping and the line (from 1) of every key path in it. Raises ``UserError`` with the place."""
    parsed = _read_yaml(path)
    return parsed.content, parsed.lines


def _read_yaml(path: Path, number_keys_are_text: bool = False) -> ParsedYaml:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    parsed = parse_yaml(
        text,
        lambda line: f"{path}:{line}" if line is not None else str(path),
        number_keys_are_text=number_keys_are_text,
    )
    # An empty file, or one of comments alone, means all defaults.
    if parsed.content is None:
        return ParsedYaml({})
    if not isinstance(parsed.content, dict):
        raise UserError(f"{path}:1: expected 'key: value' lines, found {type(parsed.content).__name__}")
    return parsed


def _parse_value(text: str, override: str) -> ParsedYaml:
    parsed = parse_yaml(text, lambda _: override_place(override), number_keys_are_text=True)
    if parsed.odd_keys:
        raise MistakesError(parsed.odd_keys)
    return parsed


def put_value(layer: Layer, keys: tuple[str, ...], value: Any, place: str) -> None:
    content = layer.content
    for count, key in enumerate(keys[:-1], 1):
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            words = f"{'.'.join(keys[:count])} is a single value and has no keys below it"
            raise MistakesError([Mistake(words, place)])
    content[keys[-1]] = value
    for known in (layer.places, layer.written):
        for old in [old for old in known if old[: len(keys)] == keys]:
            del known[old]
    layer.places[keys] = place


def place_of(keys: tuple[str, ...], places: Mapping[tuple[str, ...], str]) -> str:
    """Where ``keys`` were given, or the nearest section above, or the first setting below."""
    for length in range(len(keys), 0, -1):
        if keys[:length] in places:
            return places[keys[:length]]
    return next((place for below, place in places.items() if below[: len(keys)] == keys), "")
