"""Typed settings from YAML with dotted overrides, and one error that lists every mistake with its line."""

from __future__ import annotations

import copy
import enum
import reprlib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, Mistakes, MistakesError, mistakes_in, nearest
from marauder.core.plain import Plain, PlainMapping
from marauder.core.yaml_text import ParsedYaml, parse_yaml


class Decides(enum.Enum):
    """What a setting decides, said on its field: ``epochs: Annotated[int, Decides.LENGTH] = Field(100)``.

    A mark on a section's field holds for all settings below it that have none of their own.
    """

    RESULT = "the weights of a training, or the files that a job writes"
    LENGTH = "how long training lasts: a finished one can be extended"
    MEASUREMENT = "how finished weights are measured, compared and judged"
    PLACE = "where files are and who is notified"
    NOTHING = "speed, memory, or how failures are noticed"


def _nested(dotted: Mapping[str, Any]) -> Plain:
    found = Layer({}, {})
    for key, value in dotted.items():
        _put(found, tuple(key.split(".")), value, key)
    return found.content


HERE = "{here}"


class Settings(BaseModel):
    """Base of every settings model: unknown keys are mistakes, values do not change after reading."""

    # Numbers for text: classes, runs and projects may be called 7.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True)

    decides: ClassVar[Decides | None] = None
    """What the settings of this section decide that say nothing themselves; ``None``: what the section's field says."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Names that users look for here and that have another place, with words on it; ``HERE`` in them stands for the
    section's own dotted name."""

    @property
    def is_off(self) -> bool:
        """Whether this section has no effect, whatever its other settings say."""
        return False

    def without_effect(self, section: str) -> bool:
        """Whether ``section`` of these settings has no effect. Restated where others make use of one that is off."""
        value = getattr(self, section)
        return isinstance(value, Settings) and value.is_off

    def mistakes(self, places: Places) -> Iterable[Mistake]:
        """What is wrong with these settings though each value is of its kind: files, classes or metrics that are not
        there. Asked when settings are read; reads files and changes none. Sections speak for themselves."""
        return ()

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
    """Settings from one place: ``content`` as nested mappings, ``places`` the ``file:line`` of every key path.

    ``written``: single values as they stand there. ``mistakes``: what could not be taken in; ``validate_layer`` lists
    them with its own.
    """

    content: Plain
    places: dict[tuple[str, ...], str]
    name: str = "the settings"
    written: dict[tuple[str, ...], str] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where settings were given, for those who find mistakes in them beyond their form.

    ``prefix``: the section looked at. ``options``: names of options on the command line that are not those of their
    fields. ``made``: files and folders that are not there yet, but will be once they are read. ``class_names``: of the
    data set, where they are known before it is there.
    """

    layer: Layer = field(default_factory=lambda: Layer({}, {}))
    options: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    made: tuple[Path, ...] = ()
    class_names: tuple[str, ...] | None = None

    def below(self, section: str) -> Places:
        """The places of a section."""
        return replace(self, prefix=(*self.prefix, section))

    def at(self, key: str = "") -> str:
        """Where the setting ``key`` (dotted, from this section) was given; empty where it was not."""
        return _place_of(self._keys(key), self.layer.places)

    def mistake(self, key: str, words: str) -> Mistake:
        """A mistake in the setting ``key``."""
        return Mistake(f"{'.'.join(self._keys(key))}: {words}", self.at(key))

    def layer_of(self, key: str) -> Layer:
        """What was given below ``key``, with the same places."""
        keys = self._keys(key)
        content: Any = self.layer.content
        for one in keys:
            content = content.get(one) if isinstance(content, Mapping) else None
        cut = {path[len(keys) :]: place for path, place in self.layer.places.items() if path[: len(keys)] == keys}
        return Layer(dict(content) if isinstance(content, Mapping) else {}, cut, ".".join(keys))

    def missing(self, path: Path | None) -> bool:
        """Whether ``path`` is named, is not there, and will not be."""
        return path is not None and not path.expanduser().exists() and not self.is_made(path)

    def is_made(self, path: Path) -> bool:
        """Whether ``path``, or what is to lie in it, is only made, or made again, before it is read."""
        path, made = path.absolute(), [one.absolute() for one in self.made]
        return any(path.is_relative_to(one) or one.is_relative_to(path) for one in made)

    def _keys(self, key: str) -> tuple[str, ...]:
        return (*self.prefix, *(key.split(".") if key else ()))


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
    return Layer(content, places, layers[-1].name if layers else "the settings", written, mistakes)


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


def split_commas(value: Any) -> Any:
    """A list of words given as one text with commas, as several texts, or both; each once, spaces around them left out.

    What is neither text nor a list comes back as it is.
    """
    items = [value] if isinstance(value, (str, Path, int)) and not isinstance(value, bool) else value
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
    layer = read_layer_or_mistakes(path)
    return validate_layer(model, add_values(layer, overrides, options, values), options)


def add_values(
    layer: Layer, overrides: Sequence[str], options: Mapping[str, str] | None, values: PlainMapping
) -> Layer:
    """``layer`` with dotted overrides and then values (by dotted name; ``None`` is left out) put over it.

    Overrides that cannot be read become mistakes of the layer.
    """
    changed = Layer(copy.deepcopy(layer.content), dict(layer.places), layer.name, dict(layer.written))
    mistakes = Mistakes(layer.mistakes)
    for override in overrides:
        place = f"override {override!r}"
        key, found, text = override.partition("=")
        keys = tuple(key.strip().split("."))
        if not found or not all(keys):
            mistakes.add([Mistake("write it as key=value, for example epochs=20", place)])
            continue
        with mistakes.gathered():
            parsed = _parse_value(text, override)
            _put(changed, keys, parsed.content, place)
            changed.written.update({(*keys, *below): value for below, value in parsed.written.items()})
    for name, value in values.items():
        if value is not None:
            with mistakes.gathered():
                _put(changed, tuple(name.split(".")), value, option_place(name, options))
    return replace(changed, mistakes=tuple(mistakes.found))


def option_place(name: str, options: Mapping[str, str] | None = None) -> str:
    """What the option that gives the setting ``name`` is called: ``option --batch-size``."""
    return f"option {(options or {}).get(name, '--' + name.replace('_', '-'))}"


def validate_layer(model: type[AnySettings], layer: Layer, options: Mapping[str, str] | None = None) -> AnySettings:
    """The settings that ``layer`` states. Raises ``UserError`` that lists every mistake with its place."""
    settings, mistakes = examine_layer(model, layer, options)
    if mistakes:
        raise MistakesError(mistakes, layer.name)
    return settings


def examine_layer(
    model: type[AnySettings], layer: Layer, options: Mapping[str, str] | None = None
) -> tuple[AnySettings, list[Mistake]]:
    """The settings that ``layer`` states, and every mistake in their form.

    With mistakes, the settings are only good for finding more: what is wrong has its default, or ``None`` where there
    is none.
    """
    mistakes, content = list(layer.mistakes), copy.deepcopy(layer.content)
    wrong: list[tuple[str, ...]] = []
    while True:
        try:
            return model.model_validate(content), mistakes
        except ValidationError as error:
            found = [(tuple(str(part) for part in one["loc"]), one) for one in error.errors()]
        for location, one in found:
            # What holds for several settings together cannot be said while one of them is wrong, nor what is missing
            # while a file could not be read.
            follows = any(other[: len(location)] == location for other in wrong)
            if not follows and not (one["type"] == "missing" and layer.mistakes):
                mistakes.append(_describe(model, one, layer, options or {}))
        cut = [keys for location, _ in found if (keys := _cut(content, location))]
        wrong += [location for location, _ in found]
        if not cut:
            return _pieced_together(model, content), mistakes


def load_checked(
    model: type[AnySettings],
    path: Path | str | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    /,
    **values: Any,
) -> AnySettings:
    """As ``load_settings``, once all that the settings name is there, too. Raises one ``UserError`` with every mistake.
    Nothing is touched."""
    return check_layer(model, add_values(read_layer_or_mistakes(path), overrides, options, values), options)


def check_layer(model: type[AnySettings], layer: Layer, options: Mapping[str, str] | None = None) -> AnySettings:
    """As ``validate_layer``, once all that the settings name is there, too. Raises one ``UserError`` with every
    mistake."""
    settings, mistakes = examine_layer(model, layer, options)
    mistakes += further_mistakes(settings, Places(layer, options or {}))
    if mistakes:
        raise MistakesError(mistakes, layer.name)
    return settings


def further_mistakes(settings: Settings, places: Places) -> Iterator[Mistake]:
    """What ``Settings.mistakes`` says of ``settings`` and of all sections in them."""
    yield from settings.mistakes(places)
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        if isinstance(section, Settings):
            yield from further_mistakes(section, places.below(name))


def _cut(content: Plain, location: tuple[str, ...]) -> tuple[str, ...]:
    """Take the setting at ``location`` out of ``content``; returns its keys, none where nothing was given."""
    keys: list[str] = []
    holder: Any = content
    # pydantic's location goes on into lists and members of unions.
    for key in location:
        if not isinstance(holder, dict) or key not in holder:
            break
        keys.append(key)
        holder = holder[key]
    for key in keys[:-1]:
        content = content[key]
    if keys:
        del content[keys[-1]]
    return tuple(keys)


def _pieced_together(model: type[AnySettings], content: Plain) -> AnySettings:
    """Settings of which some are wrong or missing: each by itself, ``None`` where it cannot be made."""
    values: Plain = {}
    for name, field_info in model.model_fields.items():
        part = create_model("Part", __base__=Settings, **{name: (field_info.annotation, field_info)})  # type: ignore[call-overload]
        try:
            values[name] = getattr(part.model_validate({name: content[name]} if name in content else {}), name)
        except ValidationError:
            values[name] = None
    return cast("AnySettings", model.model_construct(**values))


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
    parsed = parse_yaml(text, lambda _: f"override {override!r}", number_keys_are_text=True)
    if parsed.odd_keys:
        raise MistakesError(parsed.odd_keys)
    return parsed


def _put(layer: Layer, keys: tuple[str, ...], value: Any, place: str) -> None:
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


def _place_of(keys: tuple[str, ...], places: Mapping[tuple[str, ...], str]) -> str:
    """Where ``keys`` were given, or the nearest section above, or the first setting below."""
    for length in range(len(keys), 0, -1):
        if keys[:length] in places:
            return places[keys[:length]]
    return next((place for below, place in places.items() if below[: len(keys)] == keys), "")


def _describe(model: type[BaseModel], mistake: Any, layer: Layer, options: Mapping[str, str]) -> Mistake:
    location = tuple(str(part) for part in mistake["loc"])
    location = _meant(model, location, mistake["msg"].removeprefix("Value error, "))
    name, place = ".".join(location) or "settings", _place_of(location, layer.places)
    kind, message = mistake["type"], mistake["msg"].removeprefix("Value error, ")
    if kind == "missing":
        option = options.get(location[0], "an option") if len(location) == 1 else "an option"
        return Mistake(f"{name}: is missing: give it in the settings file or as {option}")
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        return Mistake(f"{name}: expected 'key: value' lines below it, found {reprlib.repr(mistake['input'])}", place)
    if kind == "extra_forbidden":
        told = _elsewhere(model, location)
        if told:
            return Mistake(f"{name}: no such setting here: {told}", place)
        known = sorted(_fields_at(model, location[:-1]))
        return Mistake(f"{name}: no such setting{nearest(location[-1], known, WHOLE_LIST) if known else ''}", place)
    if mistake["msg"] == message and not isinstance(mistake["input"], (dict, list, tuple, BaseModel)):
        # What was typed, not what YAML read: ``yes`` is true to it, ``0100`` is 64.
        message += f", found {_written_at(location, layer) or reprlib.repr(mistake['input'])}"
    return Mistake(f"{name}: {message.removeprefix(f'{name}: ')}", place)


def _meant(model: type[BaseModel], location: tuple[str, ...], message: str) -> tuple[str, ...]:
    """What holds for several settings is said of the section; a message that begins with a name is of that one."""
    named = (*location, *message.partition(":")[0].split("."))
    return named if named[-1] in _fields_at(model, named[:-1]) else location


WHOLE_LIST = "`marauder config explain` lists all"


def _written_at(location: tuple[str, ...], layer: Layer) -> str:
    while location and location not in layer.written:
        location = location[:-1]
    return repr(layer.written[location]) if location else ""


def _elsewhere(model: type[BaseModel], location: tuple[str, ...]) -> str:
    # From the section outwards: a name that belongs elsewhere may be looked for at any depth.
    for depth in range(len(location) - 1, -1, -1):
        holder = _model_at(model, location[:depth])
        if holder is not None and issubclass(holder, Settings) and location[-1] in holder.elsewhere:
            return holder.elsewhere[location[-1]].replace(HERE, "".join(f"{name}." for name in location[:depth]))
    return ""


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
