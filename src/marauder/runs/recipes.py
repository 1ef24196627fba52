"""Recipes: what a training is made of, kept in a library, extending one another, put under the settings of a run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from marauder.core.decides import names
from marauder.core.errors import UserError
from marauder.core.plain import PlainMapping
from marauder.core.settings import Decides, Layer, add_values, merge_layers, read_layer, validate_layer
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import all_tasks, describe_task

AnyRun = TypeVar("AnyRun", bound=RunSettings)
OWN_KEYS = ("description", "extends")
USER_FOLDER = Path("recipes")
"""Recipes of a project, looked for before those that ship with Marauder."""


@dataclass(frozen=True)
class Recipe:
    """A recipe's name, what it says of itself, what it extends, and its file."""

    name: str
    description: str
    extends: str | None
    path: Path


def library() -> list[Recipe]:
    """The recipes of the folder ``recipes`` here and of Marauder, by name; the former hide the latter."""
    found: dict[str, Recipe] = {}
    # The user's last, so that they replace shipped ones of the same name.
    for folder in (_shipped(), USER_FOLDER):
        for path in sorted(folder.glob("*.yaml")):
            content = read_layer(path).content
            found[path.stem] = Recipe(path.stem, str(content.get("description", "")), content.get("extends"), path)
    return [found[name] for name in sorted(found)]


def recipe_fields() -> tuple[str, ...]:
    """What a recipe may set, whatever it trains: all that decides the weights. The rest belongs to the run."""
    models = [task.settings_model for task in all_tasks()]
    deciding = {name.partition(".")[0] for model in models for name in names(model, Decides.RESULT, Decides.LENGTH)}
    return tuple(dict.fromkeys(name for model in models for name in model.model_fields if name in deciding))


def recipe_layers(name: str, place: str = "") -> list[Layer]:
    """The layers of a recipe, what it extends first. Raises ``UserError``: unknown name, a circle, foreign keys."""
    layers: list[Layer] = []
    met: list[str] = []
    wanted: str | None = name
    while wanted is not None:
        path = _find(wanted, place)
        # By file: a recipe can be named by its name and by its path.
        if str(path) in met:
            raise UserError(f"{place or path}: recipe {wanted!r} extends itself: {' -> '.join([*met, str(path)])}")
        met.append(str(path))
        layer = read_layer(path)
        known = (*recipe_fields(), *OWN_KEYS)
        mistakes = [
            f"  {layer.places.get((key,), str(path))}: {key}: a recipe sets only {', '.join(known)}"
            for key in layer.content
            if key not in known
        ]
        if mistakes:
            raise UserError(f"{path}: settings that belong into train.yaml:\n" + "\n".join(mistakes))
        above = layer.content.get("extends")
        if above is not None and not isinstance(above, str):
            raise UserError(f"{layer.places[('extends',)]}: extends: name one recipe, not {type(above).__name__}")
        place = layer.places.get(("extends",), "")
        content = {key: value for key, value in layer.content.items() if key not in OWN_KEYS}
        layers.append(Layer(content, {k: v for k, v in layer.places.items() if k[0] not in OWN_KEYS}, str(path)))
        wanted = above
    return layers[::-1]


def run_layer(
    path: Path | None,
    overrides: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    values: PlainMapping | None = None,
) -> Layer:
    """All settings of a run with their places: recipe, then the file, then overrides and options."""
    own = read_layer(path) if path is not None else Layer({}, {})
    given = add_values(own, overrides, options, values or {})
    recipe = given.content.get("recipe")
    if recipe is None:
        return given
    if not isinstance(recipe, str):
        raise UserError(f"{given.places.get(('recipe',), 'recipe')}: recipe: name one recipe")
    merged = merge_layers([*recipe_layers(recipe, given.places.get(("recipe",), "")), given])
    return Layer(merged.content, merged.places, given.name)


def load_run_settings(
    model: type[AnyRun],
    path: Path | None,
    overrides: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    /,
    **values: Any,
) -> AnyRun:
    """The settings of a run. Raises one ``UserError`` that lists every mistake with its file and line."""
    return validate_layer(model, run_layer(path, overrides, options, values), options)


def load_settings_of_task(path: Path | None, overrides: Sequence[str] = ()) -> RunSettings:
    """The settings of a run of the kind that ``task`` names. Raises one ``UserError`` that lists every mistake."""
    layer = run_layer(path, overrides)
    return validate_layer(model_of_task(layer), layer)


def model_of_task(layer: Layer) -> type[RunSettings]:
    """The settings model of the task that ``layer`` names. Raises ``UserError`` for one that there is not."""
    named = layer.content.get("task", RunSettings.model_fields["task"].default)
    try:
        return describe_task(str(named)).settings_model
    except UserError as error:
        raise UserError(f"{layer.places.get(('task',), layer.name)}: task: {error}") from None


def file_and_overrides(first: str, others: Sequence[str] | None) -> tuple[Path | None, list[str]]:
    """The words of a command line whose first one is a settings file, or, where no file is needed, a setting."""
    # A file may have "=" in its name.
    if "=" in first and not Path(first).exists():
        return None, [first, *(others or ())]
    return Path(first), list(others or ())


def as_yaml(settings: RunSettings) -> str:
    """Settings as they were used, every default written out."""
    return str(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _shipped() -> Path:
    return Path(str(files("marauder.runs"))) / "recipes"


def _find(name: str, place: str) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{place + ': ' if place else ''}recipe {name}: no such file; check the path")
        return path
    for folder in (USER_FOLDER, _shipped()):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = [recipe.name for recipe in library()]
    near = difflib.get_close_matches(name, known, 1)
    raise UserError(
        f"{place + ': ' if place else ''}no recipe named {name!r}"
        + (f", did you mean {near[0]}?" if near else "")
        + f"; known: {', '.join(known)} (`marauder config recipes` tells more)"
    )
