"""What lies below what in a settings model, and where a section belongs that has a wrong name."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

Keys = tuple[str, ...]


def section_model(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's annotation such as ``Model`` or ``Model | None``; ``None`` for a single value."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := section_model(part)) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def model_at(model: type[BaseModel], keys: Keys) -> type[BaseModel] | None:
    """The model of the section at ``keys``, those of mappings (``dict[str, Model]``) included; ``None``: no section."""
    annotation: Any = model
    for key in keys:
        annotation = _below(annotation, key)
    return section_model(annotation)


def fields_at(model: type[BaseModel], keys: Keys) -> list[str]:
    """The names of the settings in the section at ``keys``; none where there is no section."""
    holder = model_at(model, keys)
    return list(holder.model_fields) if holder is not None else []


def leaves(model: type[BaseModel], prefix: Keys = ()) -> Iterator[Keys]:
    """The keys of every single setting of a model and of its sections."""
    for name, field in model.model_fields.items():
        inner = section_model(field.annotation)
        if inner is None:
            yield (*prefix, name)
        else:
            yield from leaves(inner, (*prefix, name))


def misplaced(model: type[BaseModel], content: Mapping[str, Any]) -> Iterator[tuple[Keys, Keys]]:
    """Each section in ``content`` whose name is none of ``model``'s, and the keys at which what it holds was meant:
    those of the nearest name, of the sections around it where it holds such, or of a mapping to whose values it is
    like. What cannot be placed is left out."""
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if key not in model.model_fields:
            meant = _meant(model, key, value)
            if meant is not None:
                yield (key,), meant
            continue
        annotation = model.model_fields[key].annotation
        inner, values = section_model(annotation), _values(annotation)
        below: list[tuple[Keys, type[BaseModel], Mapping[str, Any]]] = []
        if inner is not None:
            below = [((key,), inner, value)]
        if values is not None:
            below = [((key, str(name)), values, one) for name, one in value.items() if isinstance(one, Mapping)]
        for keys, holder, held in below:
            for old, new in misplaced(holder, held):
                yield (*keys, *old), (*keys, *new)


def _meant(model: type[BaseModel], key: str, value: Mapping[str, Any]) -> Keys | None:
    annotations = {name: field.annotation for name, field in model.model_fields.items()}
    mappings = {name: values for name, one in annotations.items() if (values := _values(one)) is not None}
    sections = {name.lower(): name for name, one in annotations.items() if section_model(one) or name in mappings}
    near = difflib.get_close_matches(key.lower(), sections, 1)
    if near:
        return (sections[near[0]],)
    if any(name in annotations for name in value):
        return ()
    alike = [name for name, values in mappings.items() if any(one in values.model_fields for one in value)]
    return (alike[0], key) if alike else None


def _below(annotation: Any, key: str) -> Any:
    inner = section_model(annotation)
    if inner is not None:
        return inner.model_fields[key].annotation if key in inner.model_fields else None
    return _values(annotation)


def _values(annotation: Any) -> type[BaseModel] | None:
    """The model of the values of a mapping such as ``dict[str, Model]``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := _values(part)) is not None), None)
    return section_model(get_args(annotation)[1]) if get_origin(annotation) is dict else None
