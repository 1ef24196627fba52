"""Typed settings from YAML with dotted overrides, and one error that lists every mistake with its line."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from marauder.core.errors import UserError


class Settings(BaseModel):
    """Base of every settings model: unknown keys are mistakes, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


AnySettings = TypeVar("AnySettings", bound=Settings)


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
    content, lines = read_yaml_mapping(Path(path)) if path is not None else ({}, {})
    origins: dict[tuple[str, ...], str] = {}
    for override in overrides:
        key, found, text = override.partition("=")
        keys = tuple(key.strip().split("."))
        if not found or not all(keys):
            raise UserError(f"override {override!r}: write it as key=value, for example epochs=20")
        _assign(content, keys, _parse_value(text, override), override)
        origins[keys] = f"override {override!r}"
    renamed = options or {}
    for name, value in values.items():
        if value is not None:
            content[name] = value
            origins[(name,)] = f"option {renamed.get(name, '--' + name.replace('_', '-'))}"
    origins |= {(name,): f"option {option}" for name, option in renamed.items() if name not in content}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = [_describe(model, mistake, path, lines, origins) for mistake in error.errors()]
        where = str(path) if path is not None else "the settings"
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError(f"{count} in {where}:\n" + "\n".join(f"  {mistake}" for mistake in mistakes)) from None


def read_yaml_mapping(path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """Read a YAML mapping and the line (from 1) of every key path in it. Raises ``UserError`` with the place."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise UserError(f"{place}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if content is None:
        return {}, {}
    if not isinstance(content, dict):
        raise UserError(f"{path}:1: expected 'key: value' lines, found {type(content).__name__}")
    lines: dict[tuple[str, ...], int] = {}
    if node is not None:
        _collect_lines(node, (), lines)
    return content, lines


def _collect_lines(node: yaml.Node, prefix: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = (*prefix, str(key_node.value))
            lines[key] = key_node.start_mark.line + 1
            _collect_lines(value_node, key, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*prefix, str(index))] = item.start_mark.line + 1
            _collect_lines(item, (*prefix, str(index)), lines)


def _parse_value(text: str, override: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"override {override!r}: the value is not valid YAML; put it in quotes") from None


def _assign(content: dict[str, Any], keys: tuple[str, ...], value: Any, override: str) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
        if not isinstance(content, dict):
            raise UserError(f"override {override!r}: {key!r} is a single value and has no keys below it")
    content[keys[-1]] = value


def _describe(
    model: type[BaseModel],
    mistake: Any,
    path: Path | str | None,
    lines: dict[tuple[str, ...], int],
    origins: dict[tuple[str, ...], str],
) -> str:
    location = tuple(str(part) for part in mistake["loc"])
    below = [origin for keys, origin in origins.items() if keys[: len(location)] == location]
    place = below[0] if below else ""
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            place = origins[location[:length]]
            break
        if location[:length] in lines:
            place = f"{path}:{lines[location[:length]]}"
            break
    if mistake["type"] == "missing":
        option = origins.get(location, "an option").removeprefix("option ")
        return f"{'.'.join(location)}: is missing: give it in the settings file or as {option}"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        known = sorted(_fields_at(model, location[:-1]))
        message = f"no such setting; known here: {', '.join(known)}" if known else "no such setting"
    return f"{place + ': ' if place else ''}{'.'.join(location) or 'settings'}: {message}"


def _fields_at(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    current: Any = model
    for part in location:
        if not (isinstance(current, type) and issubclass(current, BaseModel)) or part not in current.model_fields:
            return []
        current = _model_in(current.model_fields[part].annotation)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    """The settings model inside an annotation such as ``Model | None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((part for part in get_args(annotation) if isinstance(part, type)), None)
    return annotation
