"""What settings decide, derived from the marks on their fields: keys, identities, what is stale, what is shown.

One walk over a settings model answers all of it, so that no list of names is kept by hand anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from marauder.core.file_identity import identify
from marauder.core.files import hash_file
from marauder.core.plain import Plain
from marauder.core.sections import section_model
from marauder.core.settings import Decides, Settings


class ByContent:
    """Marks a path whose content decides, not where it lies: ``Annotated[Path, Decides.RESULT, BY_CONTENT]``.

    A file counts by its SHA-256, a folder by names, sizes and times of change. ``is_word``: which values are words
    that stand for a file still to be found; such a word counts as it is, whatever files there are.
    """

    def __init__(self, is_word: Callable[[Path], bool] | None = None) -> None:
        self.is_word = is_word


BY_CONTENT = ByContent()
OFF = "off"
"""What stands for a section without effect."""


@dataclass(frozen=True)
class _Leaf:
    """A single setting, or a section that is off. ``at_default``: it has its default, or is off.

    ``counts``: whether it is among what is decided; otherwise it only says how an older record may call it.
    """

    keys: tuple[str, ...]
    decides: Decides | None
    value: Any
    at_default: bool
    counts: bool = True


def marks(model: type[BaseModel]) -> dict[str, Decides | None]:
    """Every single setting of a model and its sections, by dotted name, with what it decides (``None``: unmarked)."""
    return dict(_marks(model, "", None))


def names(model: type[BaseModel], *wanted: Decides) -> frozenset[str]:
    """Dotted names of the single settings that decide what is ``wanted``."""
    return frozenset(name for name, mark in marks(model).items() if mark in wanted)


def decided(settings: Settings, *wanted: Decides, by_content: bool = True) -> Plain:
    """The settings that decide what is ``wanted``, as plain nested values; a section without effect is ``"off"``.

    ``by_content``: what counts by its content appears as a fingerprint of it (``None``: no such file), so that the same
    file elsewhere is the same setting; otherwise as its path.
    """
    found: Plain = {}
    for leaf in _leaves(settings, (), None, by_content):
        if leaf.counts and leaf.decides in wanted:
            *parents, last = leaf.keys
            place = found
            for key in parents:
                place = place.setdefault(key, {})
            place[last] = leaf.value
    return found


def at_default(settings: Settings, *wanted: Decides) -> frozenset[str]:
    """Dotted names of what ``decided`` gives that is at its default: an older record may lack it."""
    return frozenset(
        ".".join(leaf.keys) for leaf in _leaves(settings, (), None, False) if leaf.at_default and leaf.decides in wanted
    )


def named_files(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """The files and folders that settings name and that count by their content, by dotted name."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from named_files(value, f"{prefix}{name}.")
        elif isinstance(value, Path) and _is_file(field, value):
            yield f"{prefix}{name}", value


def _marks(model: type[BaseModel], prefix: str, above: Decides | None) -> Iterator[tuple[str, Decides | None]]:
    for name, field in model.model_fields.items():
        mark, inner = _mark(model, name, above), section_model(field.annotation)
        if inner is None:
            yield f"{prefix}{name}", mark
        else:
            yield from _marks(inner, f"{prefix}{name}.", mark)


def _leaves(settings: BaseModel, prefix: tuple[str, ...], above: Decides | None, by_content: bool) -> Iterator[_Leaf]:
    model = type(settings)
    plain: Plain | None = None
    for name, field in model.model_fields.items():
        value, mark = getattr(settings, name), _mark(model, name, above)
        keys = (*prefix, name)
        # Whatever else a section that is off says decides nothing, and must not make a result stale.
        if isinstance(value, Settings) and isinstance(settings, Settings) and settings.without_effect(name):
            yield _Leaf(keys, mark or type(value).decides, OFF, True)
        elif isinstance(value, BaseModel):
            if isinstance(value, Settings) and value.is_off and value == field.get_default(call_default_factory=True):
                yield _Leaf(keys, mark or type(value).decides, OFF, True, counts=False)
            yield from _leaves(value, keys, mark, by_content)
        else:
            # Dumped only where a single setting asks for it: dumping a section walks all sections below it, too.
            if plain is None:
                plain = settings.model_dump(mode="json")
            known = not field.is_required() and value == field.get_default(call_default_factory=True)
            shown = plain[name]
            if by_content and value is not None and _is_file(field, value):
                shown = _content(value)
            yield _Leaf(keys, mark, shown, known)


def _mark(model: type[BaseModel], name: str, above: Decides | None) -> Decides | None:
    """The mark of a field: its own, that of the field it overrides, its section's own, or the one from above."""
    # A subclass that restates a field, for another default, loses the marks that its base gave it.
    for holder in model.__mro__:
        field = holder.model_fields.get(name) if issubclass(holder, BaseModel) else None
        for mark in field.metadata if field is not None else ():
            if isinstance(mark, Decides):
                return mark
    return (model.decides if issubclass(model, Settings) else None) or above


def _is_file(field: FieldInfo, value: Any) -> bool:
    """Whether the field's value is a file or folder that counts by its content."""
    mark = _by_content(field)
    return mark is not None and not (mark.is_word is not None and mark.is_word(value))


def _by_content(field: FieldInfo) -> ByContent | None:
    # Of ``Annotated[Path, …] | None`` pydantic leaves the marks inside the union.
    inside = [mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ())]
    return next((mark for mark in [*field.metadata, *inside] if isinstance(mark, ByContent)), None)


def _content(path: Path) -> str | None:
    if not path.exists():
        return None
    # Reading every byte of a data set each time that settings are compared would take too long.
    return hash_file(path) if path.is_file() else identify(path, with_content=False).listing
