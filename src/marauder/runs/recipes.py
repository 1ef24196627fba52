"""Recipes: what a training is made of, kept in a library, extending one another, put under the settings of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from marauder.core.decides import names
from marauder.core.errors import UserError
from marauder.core.layers import Layer, add_values, merge_layers, override_place, read_layer, read_layer_or_mistakes
from marauder.core.mistakes import Mistake, Mistakes, MistakesError, nearest
from marauder.core.plain import PlainMapping
from marauder.core.plugins import is_known
from marauder.core.settings import Decides, Places, examine_layer, put_right, validate_layer
from marauder.runs.settings import RunSettings, names_a_file
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


def recipe_layers(name: str, place: str = "", beside: Path | None = None, key: str = "recipe") -> list[Layer]:
    """The layers of a recipe, what it extends first. ``beside``: the settings file that names it; ``key``: the dotted
    name of the setting that does.

    Raises ``UserError`` that lists every mistake: unknown name, a circle, foreign keys.
    """
    layers: list[Layer] = []
    met: list[str] = []
    found = Mistakes()
    wanted: str | None = name
    while wanted is not None:
        with found.gathered():
            path = _find(wanted, place, beside, key)
            # By file: a recipe can be named by its name and by its path.
            if str(path) in met:
                circle = " -> ".join([*met, str(path)])
                raise MistakesError([Mistake(f"recipe {wanted!r} extends itself: {circle}", place or str(path))])
            met.append(str(path))
            layer = read_layer(path)
            found.add(_foreign_keys(layer))
            own = {key: value for key, value in layer.content.items() if key not in OWN_KEYS}
            layers.append(replace(layer, content=own, places={k: v for k, v in layer.places.items() if k[0] in own}))
            wanted, place, key = _extended(layer), layer.places.get(("extends",), ""), "extends"
            continue
        break  # what it extends is not known
    found.demand_none()
    return layers[::-1]


def _foreign_keys(layer: Layer) -> Iterator[Mistake]:
    known = (*recipe_fields(), *OWN_KEYS)
    for key in layer.content:
        if key not in known:
            words = f"{key}: a recipe sets only {', '.join(known)}; the rest goes into train.yaml"
            yield Mistake(words, layer.places.get((key,), layer.name))


def _extended(layer: Layer) -> str | None:
    above = layer.content.get("extends")
    if above is not None and not isinstance(above, str):
        words = f"extends: name one recipe, not {type(above).__name__}"
        raise MistakesError([Mistake(words, layer.places[("extends",)])])
    return above


def run_layer(
    path: Path | None,
    overrides: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    values: PlainMapping | None = None,
) -> Layer:
    """All settings of a run with their places: recipe, then the file, then overrides and options.

    What cannot be read is among the layer's mistakes, so that all are reported at once.
    """
    given = _with_values(read_layer_or_mistakes(path), overrides, options, values or {})
    recipe = given.content.get("recipe")
    if recipe is None:
        return given
    place, found = given.places.get(("recipe",), ""), Mistakes(given.mistakes)
    layers: list[Layer] = []
    with found.gathered():
        if not isinstance(recipe, str):
            raise MistakesError([Mistake("recipe: name one recipe", place)])
        layers = recipe_layers(recipe, place, path)
    return replace(merge_layers([*layers, given]), name=given.name, mistakes=tuple(found.found))


def _with_values(
    layer: Layer, overrides: Sequence[str], options: Mapping[str, str] | None, values: PlainMapping
) -> Layer:
    """As ``add_values``, which cannot know what is meant by a setting below ``gates``, the name of a file."""
    meant = [one for one in overrides if one.startswith("gates.")]
    changed = add_values(layer, [one for one in overrides if one not in meant], options, values)
    wrong = [
        Mistake(f"gates: {names_a_file([one.partition('=')[0].split('.')[1]])}", override_place(one)) for one in meant
    ]
    return replace(changed, mistakes=(*changed.mistakes, *wrong))


def load_run_settings(
    model: type[AnyRun],
    path: Path | None,
    overrides: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    /,
    **values: Any,
) -> AnyRun:
    """The settings of a run. Raises one ``UserError`` that lists every mistake in their form with its file and line."""
    return validate_layer(model, run_layer(path, overrides, options, values), options)


def load_settings_of_task(path: Path | None, overrides: Sequence[str] = ()) -> RunSettings:
    """The settings of a run of the kind that ``task`` names. Raises one ``UserError`` that lists every mistake in their
    form."""
    layer = run_layer(path, overrides)
    return validate_layer(model_of_task(layer), layer)


def check_run(
    layer: Layer, options: Mapping[str, str] | None = None, model: type[RunSettings] | None = None
) -> RunSettings:
    """The settings that ``layer`` states, once all that they name is there and means something: files, models, metrics,
    classes, gates. ``model``: by default that of the task that they name.

    Raises one ``UserError`` that lists every mistake of every file and of the command line. Nothing is touched.
    """
    # Where there is no such task, its field says so, and the rest is looked at as that of the default.
    task = layer.content.get("task")
    known = task is None or is_known("task", str(task))
    asked = model or model_of_task(layer if known else Layer({}, {}))
    layer = put_right(asked, layer)
    settings, mistakes = examine_layer(asked, layer, options)
    layer.demand_none([*mistakes, *describe_task(settings.task).mistakes(settings, Places(layer, options or {}))])
    return settings


def model_of_task(layer: Layer) -> type[RunSettings]:
    """The settings model of the task that ``layer`` names. Raises ``UserError`` for one that there is not."""
    named = layer.content.get("task", RunSettings.model_fields["task"].default)
    try:
        return describe_task(str(named)).settings_model
    except UserError as error:
        raise MistakesError([Mistake(f"task: {error}", layer.places.get(("task",), layer.name))]) from None


def file_and_overrides(first: str, others: Sequence[str] | None) -> tuple[Path | None, list[str]]:
    """The words of a command line whose first one is a settings file, or, where no file is needed, a setting."""
    # A file may have "=" in its name.
    if "=" in first and not Path(first).exists():
        return None, [first, *(others or ())]
    return Path(first), list(others or ())


def as_yaml(settings: RunSettings) -> str:
    """Settings as they were used, every default written out, without what the pipeline says of its own steps: whoever
    reads them starts a run by itself."""
    content = settings.model_dump(mode="json", exclude={"step", "workspace"})
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _shipped() -> Path:
    return Path(str(files("marauder.runs"))) / "recipes"


def _find(name: str, place: str, beside: Path | None, key: str) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise MistakesError([Mistake(f"{key}: {name}: no such file; check the path", place)])
        return path
    folders = [*([beside.parent / USER_FOLDER] if beside is not None else []), USER_FOLDER, _shipped()]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = [path.stem for folder in folders for path in sorted(folder.glob("*.yaml"))]
    told = nearest(name, known, "`marauder config recipes` lists them")
    raise MistakesError([Mistake(f"{key}: no recipe named {name!r}{told}", place)])
