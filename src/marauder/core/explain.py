"""What a setting means: its kind, default, bounds, description, and where its present value was given."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from marauder.core.errors import UserError
from marauder.core.layers import Layer
from marauder.core.sections import section_model


@dataclass(frozen=True)
class Explanation:
    """One setting. ``default`` and ``value`` in YAML's words; ``place``: where the value was given, or ``default``."""

    key: str
    kind: str
    default: str
    description: str
    value: str
    place: str
    section: bool = False


def explain(model: type[BaseModel], key: str, layer: Layer) -> list[Explanation]:
    """The setting ``key`` (dotted), or, for a section, all settings below it. Raises ``UserError`` with near names."""
    known = {found.key: found for found in walk(model, layer)}
    if key in ("", "."):
        return list(known.values())
    chosen = [found for name, found in known.items() if name == key or name.startswith(f"{key}.")]
    if not chosen:
        near = difflib.get_close_matches(key, known, 3) or [name for name in known if name.endswith(f".{key}")]
        hint = f"; did you mean {', '.join(near)}?" if near else "; `marauder config explain` lists all"
        raise UserError(f"no setting named {key!r}{hint}")
    return chosen


def walk(model: type[BaseModel], layer: Layer, prefix: tuple[str, ...] = ()) -> Iterator[Explanation]:
    """Every setting of a model and of the models inside it, in their order."""
    for name, field in model.model_fields.items():
        keys = (*prefix, name)
        inner = section_model(field.annotation)
        yield _describe(keys, field, layer, inner is not None)
        if inner is not None:
            yield from walk(inner, layer, keys)


def _describe(keys: tuple[str, ...], field: FieldInfo, layer: Layer, section: bool) -> Explanation:
    description = field.description or ""
    inner = section_model(field.annotation)
    if inner is not None and not description:
        description = (inner.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    default = _default(field) if not section else "see below"
    given = _given(layer.content, keys)
    value = default if given is PydanticUndefined else _show(given)
    return Explanation(
        ".".join(keys),
        _kind(field, section),
        default,
        " ".join(description.split()),
        "see below" if section else value,
        layer.places.get(keys, "default" if given is PydanticUndefined else layer.name),
        section,
    )


def _given(content: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            # Not None: ``null`` is a value that may have been given.
            return PydanticUndefined
        content = content[key]
    return content


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none: must be given"
    return _show(field.get_default(call_default_factory=True))


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_show(item) for item in value)}]"
    return str(value)


def _kind(field: FieldInfo, section: bool) -> str:
    if section:
        return "section"
    words = _type_words(field.annotation)
    signs = {Ge: "at least", Gt: "more than", Le: "at most", Lt: "less than"}
    bounds = [
        f"{signs[type(bound)]} {next(iter(vars(bound).values()))}"
        if hasattr(bound, "__dict__")
        else _bound(bound, signs)
        for bound in field.metadata
        if type(bound) in signs
    ]
    return ", ".join([words, *bounds])


def _bound(bound: Any, signs: dict[Any, str]) -> str:
    # annotated_types gives its bounds slots, and vars() fails on those.
    value = next(getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name))
    return f"{signs[type(bound)]} {value}"


def _type_words(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_words(part) for part in parts)
    if origin is Annotated:
        return _type_words(parts[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin in (tuple, list):
        return f"list of {_type_words(parts[0])}" if parts else "list"
    if origin is dict:
        return "mapping"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    return names.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else str(annotation))
