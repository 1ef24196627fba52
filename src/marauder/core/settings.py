"""Typed settings from YAML with dotted overrides, and one error that lists every mistake with its line."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from marauder.core.clock import Clock
from marauder.core.layers import Layer, add_values, merge_layers, place_of, put_value, read_layer_or_mistakes
from marauder.core.mistakes import Mistake
from marauder.core.plain import Plain, PlainMapping
from marauder.core.sections import misplaced
from marauder.core.setting_mistakes import describe_mistake, missing_beside, mistake_in


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
        put_value(found, tuple(key.split(".")), value, key)
    return found.content


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


AnySettings = TypeVar("AnySettings", bound=Settings)


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
        return place_of(self._keys(key), self.layer.places)

    def gives(self, key: str) -> bool:
        """Whether the setting ``key`` itself was given by the user, to whom it is then said what is wrong with it."""
        return self._keys(key) in self.layer.places

    def mistake(self, key: str, words: str) -> Mistake:
        """A mistake in the setting ``key``."""
        return mistake_in(self.layer.name_of(self._keys(key), self.at(key)), words, self.at(key))

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
                mistakes.append(describe_mistake(model, one, layer, options or {}, missing_beside(location, found)))
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
            mistakes=(*layer.mistakes, describe_mistake(model, wrong, layer, {})),
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
