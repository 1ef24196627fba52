"""Typed settings from YAML with dotted overrides, and one error that lists every mistake with its line."""

from __future__ import annotations

import copy
import difflib
import enum
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.mistakes import (
    ARGUMENT,
    OPTION,
    OVERRIDE,
    Mistake,
    Mistakes,
    MistakesError,
    abbreviated,
    is_typed,
    mistakes_in,
    nearest,
)
from marauder.core.plain import Plain, PlainMapping
from marauder.core.sections import fields_at, leaves, misplaced, model_at
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


@dataclass(frozen=True)
class OnThisMachine:
    """On a field: ``lacking`` says in words what of the value, or of each of several, this machine does not have;
    ``None``: nothing.

    Asked with ``Settings.mistakes``, not when settings are read: a file may be written for another machine.
    """

    lacking: Callable[[Any], str | None]


@dataclass(frozen=True)
class Existing:
    """On a field of one path or several: what must be there once it is read. ``why_not`` says in words why one cannot
    be read that is missing, where it knows more than that."""

    why_not: Callable[[Path], str | None] = lambda _: None

    def missing(self, path: Path) -> str:
        """What to say of a ``path`` that is not there."""
        return self.why_not(path) or f"{path}: no such file or folder; check the path"


def _nested(dotted: Mapping[str, Any]) -> Plain:
    found = Layer({}, {})
    for key, value in dotted.items():
        _put(found, tuple(key.split(".")), value, key)
    return found.content


HERE = "{here}"
"""In what a validator or ``Settings.elsewhere`` says: what goes before the names of the section's settings."""


class Settings(BaseModel):
    """Base of every settings model: unknown keys are mistakes, values do not change after reading."""

    # Numbers for text: classes, runs and projects may be called 7.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True)

    decides: ClassVar[Decides | None] = None
    """What the settings of this section decide that say nothing themselves; ``None``: what the section's field says."""
    elsewhere: ClassVar[Mapping[str, str]] = {}
    """Names that users look for here and that have another place, with words on it, which may hold ``HERE``."""

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


NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
"""Of names that files, trackers and registries all take."""
NAME_WORDS = "give 1 to 63 letters (a to z), digits, dots, underscores and hyphens, the first a letter or a digit"
AnySettings = TypeVar("AnySettings", bound=Settings)


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


@dataclass(frozen=True)
class Places:
    """Where settings were given, for those who find mistakes in them beyond their form.

    ``prefix``: the section looked at. ``options``: names of options on the command line that are not those of their
    fields. ``made``: files and folders that are not there yet, but will be once they are read. ``class_names`` and
    ``unlabelled`` tell the classes of the data set, and how many of its pictures have no labels, where that is known
    before it is there; they may have to read the sources. ``clock``: asked by whoever reads for long.
    """

    layer: Layer = field(default_factory=lambda: Layer({}, {}))
    options: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    made: tuple[Path, ...] = ()
    class_names: Callable[[], Sequence[str] | None] = lambda: None
    unlabelled: Callable[[], int | None] = lambda: None
    clock: Clock = field(default_factory=Clock)

    def below(self, section: str) -> Places:
        """The places of a section."""
        return replace(self, prefix=(*self.prefix, section))

    def at(self, key: str = "") -> str:
        """Where the setting ``key`` (dotted, from this section) was given; empty where it was not."""
        return _place_of(self._keys(key), self.layer.places)

    def gives(self, key: str) -> bool:
        """Whether the setting ``key`` itself was given by the user, to whom it is then said what is wrong with it."""
        return self._keys(key) in self.layer.places

    def mistake(self, key: str, words: str) -> Mistake:
        """A mistake in the setting ``key``."""
        return _mistake_in(self.layer.name_of(self._keys(key), self.at(key)), words, self.at(key))

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
    Raises ``UserError`` that lists every mistake, each with the file's line or the override that holds it.
    """
    layer = read_layer_or_mistakes(path)
    return validate_layer(model, add_values(layer, overrides, options, values), options)


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
            _put(changed, keys, parsed.content, place)
            changed.written.update({(*keys, *below): value for below, value in parsed.written.items()})
    for name, value in values.items():
        if value is not None:
            place = option_place(name, options)
            typed.append(place)
            with mistakes.gathered():
                _put(changed, tuple(name.split(".")), value, place)
    return replace(changed, mistakes=tuple(mistakes.found), typed=tuple(typed))


def override_place(override: str) -> str:
    """What ``key=value`` on the command line is called where it is wrong."""
    return f"{OVERRIDE}{override!r}"


def option_place(name: str, options: Mapping[str, str] | None = None) -> str:
    """What the option that gives the setting ``name`` is called: ``option --batch-size``; or the argument of a Python
    function, where ``options`` names one (``argument data``)."""
    flag = (options or {}).get(name, "--" + name.replace("_", "-"))
    return flag if flag.startswith(ARGUMENT) else f"option {flag}"


def validate_layer(model: type[AnySettings], layer: Layer, options: Mapping[str, str] | None = None) -> AnySettings:
    """The settings that ``layer`` states. Raises ``UserError`` that lists every mistake with its place."""
    settings, mistakes = examine_layer(model, layer, options)
    layer.demand_none(mistakes)
    return settings


def examine_layer(
    model: type[AnySettings], layer: Layer, options: Mapping[str, str] | None = None
) -> tuple[AnySettings, list[Mistake]]:
    """The settings that ``layer`` states, and every mistake in their form.

    With mistakes, the settings are only good for finding more: what is wrong has its default, or ``None`` where there
    is none.
    """
    unread = bool(layer.mistakes)
    layer = put_right(model, layer)
    mistakes, content = list(layer.mistakes), copy.deepcopy(layer.content)
    wrong: list[tuple[str, ...]] = []
    while True:
        try:
            return model.model_validate(content), mistakes
        except ValidationError as error:
            found = [(tuple(str(part) for part in one["loc"]), one) for one in error.errors()]
        below = [location for location, _ in found]
        for location, one in found:
            # What holds for several settings together cannot be said while one of them is wrong (nor the length of a
            # list, which pydantic counts without those that are), nor what is missing while a file could not be read.
            follows = any(other[: len(location)] == location for other in wrong)
            follows = follows or any(other != location and other[: len(location)] == location for other in below)
            if not follows and not (one["type"] == "missing" and unread):
                mistakes.append(_describe(model, one, layer, options or {}, _missing_beside(location, found)))
        cut = [keys for location, _ in found if (keys := _cut(content, location))]
        wrong += [location for location, _ in found]
        if not cut:
            return _pieced_together(model, content), mistakes


def put_right(model: type[BaseModel], layer: Layer) -> Layer:
    """``layer`` with every section that has a wrong name where it was meant, so that what it holds is looked
    at, too; each is a mistake of the layer. What was given there as well takes precedence."""
    while (found := next(misplaced(model, layer.content), None)) is not None:
        old, new = found
        rest, value = copy.deepcopy(layer.content), layer.content
        for key in old:
            value = value[key]
        _cut(rest, old)
        for key in reversed(new):
            value = {key: value}
        wrong = {"loc": old, "type": "extra_forbidden", "msg": "", "input": value}
        layer = replace(
            layer,
            content=merge_layers([Layer(value, {}), Layer(rest, {})]).content,
            places=_moved(layer.places, old, new),
            written=_moved(layer.written, old, new),
            mistakes=(*layer.mistakes, _describe(model, wrong, layer, {})),
        )
    return layer


def _moved(
    known: Mapping[tuple[str, ...], str], old: tuple[str, ...], new: tuple[str, ...]
) -> dict[tuple[str, ...], str]:
    below = {(*new, *keys[len(old) :]): value for keys, value in known.items() if keys[: len(old)] == old}
    return below | {keys: value for keys, value in known.items() if keys[: len(old)] != old}


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
    # Here, too: what is found later has its place where the section is, whatever it is called there.
    layer = put_right(model, layer)
    settings, mistakes = examine_layer(model, layer, options)
    mistakes += further_mistakes(settings, Places(layer, options or {}))
    layer.demand_none(mistakes)
    return settings


def further_mistakes(settings: Settings, places: Places) -> Iterator[Mistake]:
    """What ``Settings.mistakes`` says of ``settings`` and of all sections in them, and what this machine lacks."""
    yield from settings.mistakes(places)
    for name, one in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from further_mistakes(value, places.below(name))
        elif value is not None:
            for mark, item in product(one.metadata, value if isinstance(value, tuple) else (value,)):
                if isinstance(mark, OnThisMachine) and (words := mark.lacking(item)):
                    yield replace(places.mistake(name, words), of_this_machine=True)
                if isinstance(mark, Existing) and places.missing(item) and places.gives(name):
                    yield places.mistake(name, mark.missing(item))


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
    parsed = parse_yaml(text, lambda _: override_place(override), number_keys_are_text=True)
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


_WHOLE, _NUMBER, _TRUTH = "must be a whole number", "must be a number", "must be true or false"
PLAIN_WORDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _TRUTH),
}
"""What to say where pydantic's words are a programmer's, by its kind of mistake."""


def _missing_beside(location: tuple[str, ...], found: Iterable[tuple[tuple[str, ...], Any]]) -> list[str]:
    """The names of all that is missing in the section of ``location``."""
    return [other[-1] for other, one in found if one["type"] == "missing" and other[:-1] == location[:-1]]


def _describe(
    model: type[BaseModel], mistake: Any, layer: Layer, options: Mapping[str, str], missing: Sequence[str] = ()
) -> Mistake:
    """``missing``: all that is missing in the same section, said at once; the same mistake again is dropped."""
    location = tuple(str(part) for part in mistake["loc"])
    location = _meant(model, location, mistake["msg"].removeprefix("Value error, "))
    place = _place_of(location, layer.places)
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
                return _mistake_in(name, f"no such value as {mistake['input']!r}; did you mean {name}=off?", place)
            words = f"is a section of settings, not a single value ({mistake['input']!r}); name one of them: "
            return _mistake_in(name, f"{words}{name}.{example}", place)
        return _mistake_in(name, f"expected 'key: value' lines below it, found {reprlib.repr(mistake['input'])}", place)
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
        return _mistake_in(name, words, place)
    if kind in PLAIN_WORDS and not isinstance(mistake["input"], (dict, list, tuple, BaseModel)):
        found = _written_at(location, layer) or reprlib.repr(mistake["input"])
        return _mistake_in(name, f"{PLAIN_WORDS[kind]}, not {found}", place)
    if mistake["msg"] == message and not isinstance(mistake["input"], (dict, list, tuple, BaseModel)):
        # What was typed, not what YAML read: ``yes`` is true to it, ``0100`` is 64.
        message += f", found {_written_at(location, layer) or reprlib.repr(mistake['input'])}"
    return _mistake_in(name, message.removeprefix(".".join(location) + ": "), place)


def _mistake_in(name: str, words: str, place: str) -> Mistake:
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


WHOLE_LIST = "`marauder config explain` lists all"


def _written_at(location: tuple[str, ...], layer: Layer) -> str:
    while location and location not in layer.written:
        location = location[:-1]
    return repr(layer.written[location]) if location else ""


def _elsewhere(model: type[BaseModel], location: tuple[str, ...], prefix: str) -> str:
    # From the section outwards: a name that belongs elsewhere may be looked for at any depth.
    for depth in range(len(location) - 1, -1, -1):
        holder = model_at(model, location[:depth])
        if holder is not None and issubclass(holder, Settings) and location[-1] in holder.elsewhere:
            here = prefix + "".join(f"{name}." for name in location[:depth])
            return holder.elsewhere[location[-1]].replace(HERE, here)
    return ""
