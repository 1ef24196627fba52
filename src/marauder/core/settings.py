"""Typed settings from YAML with dotted overrides, and one error that lists every mistake with its line."""

from __future__ import annotations

import copy
import difflib
import enum
import reprlib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.core.yaml_text import ParsedYaml, listed, parse_yaml


class Decides(enum.Enum):
    """What a setting decides, said on its field: ``epochs: Annotated[int, Decides.LENGTH] = Field(100)``.

    A mark on a section's field holds for all settings below it that have none of their own.
    """

    RESULT = "the weights of a training, or the files that a job writes"
    LENGTH = "how long a training goes on: a finished one can be made longer"
    MEASUREMENT = "how finished weights are measured, compared and judged"
    PLACE = "where files lie and who hears of them"
    NOTHING = "speed, memory, or how failures are noticed"


def _nested(dotted: Mapping[str, Any]) -> Plain:
    found: Plain = {}
    for key, value in dotted.items():
        _put(found, {}, tuple(key.split(".")), value, key)
    return found


class Settings(BaseModel):
    """Base of every settings model: unknown keys are mistakes, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    decides: ClassVar[Decides | None] = None
    """What the settings of this section decide that say nothing themselves; ``None``: what the section's field says."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Names that users look for here and that have another place, with words on it."""

    @property
    def is_off(self) -> bool:
        """Whether this section has no effect, whatever its other settings say."""
        return False

    def without_effect(self, section: str) -> bool:
        """Whether ``section`` of these settings has no effect. Restated where others make use of one that is off."""
        value = getattr(self, section)
        return isinstance(value, Settings) and value.is_off

    def changed(self, changes: PlainMapping) -> Self:
        """These settings with other values, by dotted name, all of them validated. Raises ``ValidationError``."""
        values: Plain = {name: getattr(self, name) for name in type(self).model_fields}
        below: dict[str, Plain] = {}
        for key, value in changes.items():
            name, _, rest = key.partition(".")
            if rest:
                below.setdefault(name, {})[rest] = value
            else:
                values[name] = value
        for name, inner in below.items():
            section = values[name]
            values[name] = section.changed(inner) if isinstance(section, Settings) else _nested(inner)
        # Not model_copy(update=…): it validates nothing.
        return type(self).model_validate(values)


AnySettings = TypeVar("AnySettings", bound=Settings)


@dataclass(frozen=True)
class Layer:
    """Settings from one place: ``content`` as nested mappings, ``places`` the ``file:line`` of every key path."""

    content: Plain
    places: dict[tuple[str, ...], str]
    name: str = "the settings"


def read_layer(path: Path | str) -> Layer:
    """The settings of a YAML file. Raises ``UserError`` with the place, also for keys that are not text."""
    parsed = _read_yaml(Path(path))
    if parsed.odd_keys:
        raise UserError(listed(parsed.odd_keys, str(path)))
    return Layer(parsed.content, {keys: f"{path}:{line}" for keys, line in parsed.lines.items()}, str(path))


def merge_layers(layers: Sequence[Layer]) -> Layer:
    """Later layers take precedence, key by key; a value that is not a mapping is replaced as a whole."""
    content: Plain = {}
    places: dict[tuple[str, ...], str] = {}
    for layer in layers:
        _merge(content, layer.content, (), layer.places, places)
    return Layer(content, places, layers[-1].name if layers else "the settings")


def _merge(
    base: Plain,
    over: PlainMapping,
    prefix: tuple[str, ...],
    new_places: Mapping[tuple[str, ...], str],
    places: dict[tuple[str, ...], str],
) -> None:
    for name, value in over.items():
        keys = (*prefix, str(name))
        known = base.get(name)
        if isinstance(value, Mapping) and isinstance(known, dict):
            places |= {keys: new_places[keys]} if keys in new_places else {}
            _merge(known, value, keys, new_places, places)
            continue
        # Later layers are merged into this copy; the layer it comes from stays as it was read.
        base[name] = copy.deepcopy(value)
        # What stood below the old value is gone, and so are its places.
        for old in [old for old in places if old[: len(keys)] == keys]:
            del places[old]
        places |= {own: place for own, place in new_places.items() if own[: len(keys)] == keys}


def split_commas(value: Any) -> Any:
    """A list of words given as one text with commas, as several texts, or both; each once, spaces around them left out.

    What is neither text nor a list comes back as it is.
    """
    items = [value] if isinstance(value, (str, Path)) else value
    if not isinstance(items, (list, tuple)):
        return value
    parts = (part.strip() for item in items for part in str(item).split(","))
    return list(dict.fromkeys(part for part in parts if part))


COMMAS = BeforeValidator(split_commas)
"""On a field: its list may be given as one text with commas."""
PLAIN_OFF = BeforeValidator(lambda value: "off" if value is False else value)
"""On a field with the choice ``off``, for YAML reads a bare off as false."""


def load_settings(
    model: type[AnySettings],
    path: Path | str | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    /,
    **values: Any,
) -> AnySettings:
    """Read ``model`` from a YAML file, then dotted overrides (``"optimizer.lr=0.01"``), then keyword values.

    Keyword values that are ``None`` are left out, so that command-line options which were not given do not count.
    ``options``: fields whose option on the command line has another name than the field, and that name (``--imgsz``).
    Raises ``UserError`` that lists every mistake, each with the file's line or the override it stands in.
    """
    layer = read_layer(path) if path is not None else Layer({}, {})
    return validate_layer(model, add_values(layer, overrides, options, values), options)


def add_values(
    layer: Layer, overrides: Sequence[str], options: Mapping[str, str] | None, values: PlainMapping
) -> Layer:
    """``layer`` with dotted overrides and then values (by dotted name; ``None`` is left out) put over it."""
    content, places = copy.deepcopy(layer.content), dict(layer.places)
    for override in overrides:
        key, found, text = override.partition("=")
        keys = tuple(key.strip().split("."))
        if not found or not all(keys):
            raise UserError(f"override {override!r}: write it as key=value, for example epochs=20")
        _put(content, places, keys, _parse_value(text, override), f"override {override!r}")
    for name, value in values.items():
        if value is not None:
            place = f"option {(options or {}).get(name, '--' + name.replace('_', '-'))}"
            _put(content, places, tuple(name.split(".")), value, place)
    return Layer(content, places, layer.name)


def validate_layer(model: type[AnySettings], layer: Layer, options: Mapping[str, str] | None = None) -> AnySettings:
    """The settings that ``layer`` states. Raises ``UserError`` that lists every mistake with its place."""
    try:
        return model.model_validate(layer.content)
    except ValidationError as error:
        mistakes = [_describe(model, mistake, layer.places, options or {}) for mistake in error.errors()]
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        # A file is not to blame for words that were typed.
        typed = [mistake for mistake in mistakes if mistake.startswith(TYPED)]
        where = " and ".join(
            [f"in {layer.name}"] * (len(typed) < len(mistakes)) + ["on the command line"] * bool(typed)
        )
        raise UserError(f"{count} {where}:\n" + "\n".join(f"  {mistake}" for mistake in mistakes)) from None


TYPED = ("override ", "option ")
"""How the places of settings begin that come from no file."""


def read_yaml_mapping(path: Path) -> tuple[Plain, dict[tuple[str, ...], int]]:
    """Read a YAML mapping and the line (from 1) of every key path in it. Raises ``UserError`` with the place."""
    parsed = _read_yaml(path)
    return parsed.content, parsed.lines


def _read_yaml(path: Path) -> ParsedYaml:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    parsed = parse_yaml(text, lambda line: f"{path}:{line}" if line is not None else str(path))
    # An empty file, or one of comments alone, means all defaults.
    if parsed.content is None:
        return ParsedYaml({})
    if not isinstance(parsed.content, dict):
        raise UserError(f"{path}:1: expected 'key: value' lines, found {type(parsed.content).__name__}")
    return parsed


def _parse_value(text: str, override: str) -> Any:
    parsed = parse_yaml(text, lambda _: f"override {override!r}")
    if parsed.odd_keys:
        raise UserError(listed(parsed.odd_keys, f"override {override!r}"))
    return parsed.content


def _put(content: Plain, places: dict[tuple[str, ...], str], keys: tuple[str, ...], value: Any, place: str) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            raise UserError(f"{place}: {key!r} is a single value and has no keys below it")
    content[keys[-1]] = value
    for old in [old for old in places if old[: len(keys)] == keys]:
        del places[old]
    places[keys] = place


def _describe(
    model: type[BaseModel], mistake: Any, places: Mapping[tuple[str, ...], str], options: Mapping[str, str]
) -> str:
    location = tuple(str(part) for part in mistake["loc"])
    below = [place for keys, place in places.items() if keys[: len(location)] == location]
    place = below[0] if below else ""
    # pydantic's location also has positions in lists and members of unions, which have no place of their own.
    for length in range(len(location), 0, -1):
        if location[:length] in places:
            place = places[location[:length]]
            break
    if mistake["type"] == "missing":
        option = options.get(location[0], "an option") if len(location) == 1 else "an option"
        return f"{'.'.join(location)}: is missing: give it in the settings file or as {option}"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        message = f"expected 'key: value' lines below it, found {reprlib.repr(mistake['input'])}"
    if mistake["type"] == "extra_forbidden":
        told = _elsewhere(model, location)
        if told:
            return f"{place + ': ' if place else ''}{'.'.join(location)}: no such setting here: {told}"
        known = sorted(_fields_at(model, location[:-1]))
        near = difflib.get_close_matches(location[-1], known, 1)
        message = "no such setting" + (f", did you mean {near[0]}?" if near else "")
        message += f"; known here: {', '.join(known)}" if known else ""
    return f"{place + ': ' if place else ''}{'.'.join(location) or 'settings'}: {message}"


def _elsewhere(model: type[BaseModel], location: tuple[str, ...]) -> str:
    holder = _model_at(model, location[:-1])
    return holder.elsewhere.get(location[-1], "") if holder is not None and issubclass(holder, Settings) else ""


def _fields_at(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    holder = _model_at(model, location)
    return list(holder.model_fields) if holder is not None else []


def _model_at(model: type[BaseModel], location: tuple[str, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        if current is None or part not in current.model_fields:
            return None
        current = section_model(current.model_fields[part].annotation)
    return current


def section_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's annotation such as ``Model`` or ``Model | None``; ``None`` for a single value."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := section_model(part)) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
