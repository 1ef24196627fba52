"""``marauder config``: what every setting of a run, a step or a gate means, and which recipes there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from marauder.core.errors import UserError
from marauder.core.explain import Explanation
from marauder.core.mistakes import nearest

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Explain the settings of a run; list recipes.")

Config = Annotated[Path | None, typer.Option(help="train.yaml whose values are shown with their lines")]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings as key=value, as for `marauder train`")]


@app.command("explain")
def explain_command(
    key: Annotated[str, typer.Argument(help="dotted name (training.optimizer.learning_rate), or a section")] = "",
    overrides: Overrides = None,
    config: Config = None,
) -> None:
    """Say what a setting does, its kind, default and bounds, its value now, and where that was given.

    A run's settings by their own names; those of a pipeline's step or of a gate with its name before them:
    preprocessing.enhance, annotation.price.per_box, gate.drift.
    """
    layer, found = _explained(key, overrides or [], config)
    if not found:
        raise UserError(f"no setting named {key!r}{nearest(key, layer, '`marauder config explain` lists all')}")
    if len(found) == 1:
        one = found[0]
        typer.echo(f"{one.key}: {one.description or 'no description'}")
        typer.echo(f"  kind:    {one.kind}\n  default: {one.default}\n  now:     {one.value} ({one.place})")
        return
    width = max(len(one.key) for one in found)
    for one in found:
        value = "" if one.section else one.value + ("" if one.place == "default" else f"  <- {one.place}")
        typer.echo(f"{one.key:<{width}}  {value}")
        if one.description:
            typer.echo(f"{'':<{width}}    {one.description}")


def _explained(key: str, overrides: list[str], config: Path | None) -> tuple[list[str], list[Explanation]]:
    """Every name that can be asked for, and the settings that ``key`` names: those of a run, then, with the name of the
    step or gate before them, those of the pipeline's steps and of the gates."""
    from marauder.core.explain import walk
    from marauder.core.mistakes import MistakesError
    from marauder.core.plugins import loadable
    from marauder.core.settings import Places
    from marauder.pipeline.graph import discover
    from marauder.runs.recipes import model_of_task, run_layer

    layer = run_layer(config, overrides)
    if layer.mistakes:
        raise MistakesError(layer.mistakes, layer.name)
    below = {f"gate.{name}": gate.settings_model for name, gate in loadable("gate").items()}
    below |= {step.name: step.settings_model() for step in sorted(discover(), key=lambda step: step.number)}
    known = list(walk(model_of_task(layer), layer))
    rooms = {
        name: [replace(one, key=f"{name}.{one.key}") for one in walk(model, Places(layer).layer_of(name))]
        for name, model in below.items()
    }
    if not key:
        return [], known
    every = [*known, *(one for room in rooms.values() for one in room)]
    found = [one for one in every if one.key == key or one.key.startswith(f"{key}.")]
    return [one.key for one in every], found


@app.command("show")
def show(
    config: Annotated[str, typer.Argument(help="train.yaml; or a first setting as key=value")],
    overrides: Overrides = None,
) -> None:
    """Print the settings as a run would use them: recipe, file and overrides put together, defaults written out."""
    from marauder.runs.recipes import as_yaml, file_and_overrides, load_settings_of_task

    typer.echo(as_yaml(load_settings_of_task(*file_and_overrides(config, overrides))), nl=False)


@app.command("recipes")
def recipes() -> None:
    """List the recipes of the library: those that ship with Marauder, and those of the folder recipes here."""
    from marauder.runs.recipes import library

    for recipe in library():
        typer.echo(f"{recipe.name}: {recipe.description}" + (f" (extends {recipe.extends})" if recipe.extends else ""))
