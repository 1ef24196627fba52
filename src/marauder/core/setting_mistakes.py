"""What is said of a setting that is wrong: pydantic's findings in plain words, with place, nearest name and remedy."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from marauder.core.layers import Layer, place_of
from marauder.core.mistakes import ARGUMENT, OPTION, Mistake, abbreviated, is_typed, nearest
from marauder.core.sections import fields_at, leaves, model_at

HERE = "{here}"
"""In what a validator or ``Settings.elsewhere`` says: what goes before the names of the section's settings."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Of names that files, trackers and registries all take."""
NAME_WORDS = "give 1 to 63 letters (a to z), digits, dots, underscores and hyphens, the first a letter or a digit"
WHOLE_LIST = "`marauder config explain` lists all"
_WHOLE, _NUMBER, _TRUTH = "must be a whole number", "must be a number", "must be true or false"
PLAIN_WORDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _TRUTH),
}
"""What to say where pydantic's words are a programmer's, by its kind of mistake."""


def missing_beside(location: tuple[str, ...], found: Iterable[tuple[tuple[str, ...], Any]]) -> list[str]:
    """The names of all that is missing in the section of ``location``."""
    return [other[-1] for other, one in found if one["type"] == "missing" and other[:-1] == location[:-1]]


def describe_mistake(
    model: type[BaseModel], mistake: Any, layer: Layer, options: Mapping[str, str], missing: Sequence[str] = ()
) -> Mistake:
    """``missing``: all that is missing in the same section, said at once; the same mistake again is dropped."""
    location = tuple(str(part) for part in mistake["loc"])
    location = _meant(model, location, mistake["msg"].removeprefix("Value error, "))
    place = place_of(location, layer.places)
    name = layer.name_of(location, place) or "settings"
    section = layer.name_of((), place) + "".join(f"{one}." for one in location[:-1])
    kind, message = mistake["type"], mistake["msg"].removeprefix("Value error, ").replace(HERE, section)
    if kind == "missing":
        if len(location) > 1 and place:
            words = f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing"
            return Mistake(f"{layer.name_of(location[:-1], place)}: {words}", place)
        option = options.get(location[0], "an option") if len(location) == 1 else "an option"
        if option.startswith(ARGUMENT):
            return Mistake(f"{name}: is missing: give the {option}")
        return Mistake(f"{name}: is missing: give it in the settings file or as {option}")
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        if is_typed(place):
            example = next(iter(fields_at(model, location)), "NAME")
            if difflib.get_close_matches(str(mistake["input"]).lower(), ["off"]):
                return mistake_in(name, f"no such value as {mistake['input']!r}; did you mean {name}=off?", place)
            words = f"is a section of settings, not a single value ({mistake['input']!r}); name one of them: "
            return mistake_in(name, f"{words}{name}.{example}", place)
        return mistake_in(name, f"expected 'key: value' lines below it, found {reprlib.repr(mistake['input'])}", place)
    if kind == "extra_forbidden":
        prefix = layer.name_of((), place)
        told = _elsewhere(model, location, prefix)
        if told:
            return Mistake(f"{name}: no such setting here: {told}", place)
        known = sorted(fields_at(model, location[:-1]))
        near = (_deeper(model, location, known, prefix) or nearest(location[-1], known, WHOLE_LIST)) if known else ""
        return Mistake(f"{name}: no such setting{near}", place)
    if kind == "string_pattern_mismatch" and mistake["ctx"]["pattern"] == NAME_PATTERN:
        words = f"{NAME_WORDS}, not {_written_at(location, layer) or repr(mistake['input'])}"
        return mistake_in(name, words, place)
    if kind in PLAIN_WORDS and not isinstance(mistake["input"], (dict, list, tuple, BaseModel)):
        found = _written_at(location, layer) or reprlib.repr(mistake["input"])
        return mistake_in(name, f"{PLAIN_WORDS[kind]}, not {found}", place)
    if mistake["msg"] == message and not isinstance(mistake["input"], (dict, list, tuple, BaseModel)):
        # What was typed, not what YAML read: ``yes`` is true to it, ``0100`` is 64.
        message += f", found {_written_at(location, layer) or reprlib.repr(mistake['input'])}"
    return mistake_in(name, message.removeprefix(".".join(location) + ": "), place)


def mistake_in(name: str, words: str, place: str) -> Mistake:
    """A mistake in the setting ``name``, which the place of an option or an argument names already."""
    return Mistake(words if place.startswith((ARGUMENT, OPTION)) else f"{name}: {words}", place)


def _meant(model: type[BaseModel], location: tuple[str, ...], message: str) -> tuple[str, ...]:
    """What holds for several settings is said of the section; a message that begins with a name is of that one."""
    named = (*location, *message.partition(":")[0].split("."))
    return named if named[-1] in fields_at(model, named[:-1]) else location


def _deeper(model: type[BaseModel], location: tuple[str, ...], known: Sequence[str], prefix: str) -> str:
    """The setting that is called so in a section, and Ultralytics' word that was perhaps mistyped; empty: none.
    ``prefix`` goes before the names of settings."""
    word = location[-1].lower()
    if difflib.get_close_matches(word, known, 1):
        return ""
    below: dict[str, list[str]] = {}
    for keys in leaves(model):
        below.setdefault(keys[-1], []).append(prefix + ".".join(keys))
    near = abbreviated(word, below) or difflib.get_close_matches(word, below, 1, 0.8)
    meant = below[near[0]][:3] if near else difflib.get_close_matches(word, getattr(model, "elsewhere", ()), 1, 0.8)
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def typed_as(model: type[BaseModel], word: str) -> str:
    """How the setting is typed that somebody looked for as an option ``--word``; empty where nothing is known of it."""
    if told := _elsewhere(model, (word,), ""):
        return told
    meant = [".".join(keys) for keys in leaves(model) if keys[-1] == word][:3]
    return f"it is a setting, typed as {' or '.join(f'{name}=VALUE' for name in meant)}" if meant else ""


def _written_at(location: tuple[str, ...], layer: Layer) -> str:
    while location and location not in layer.written:
        location = location[:-1]
    return repr(layer.written[location]) if location else ""


def _elsewhere(model: type[BaseModel], location: tuple[str, ...], prefix: str) -> str:
    # From the section outwards: a name that belongs elsewhere may be looked for at any depth.
    for depth in range(len(location) - 1, -1, -1):
        # Of ``Settings.elsewhere``; other models of pydantic have none.
        told: Mapping[str, str] = getattr(model_at(model, location[:depth]), "elsewhere", {})
        if location[-1] in told:
            here = prefix + "".join(f"{name}." for name in location[:depth])
            return told[location[-1]].replace(HERE, here)
    return ""
