"""``marauder config``: what every setting of a run means, and which recipes there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Explain the settings of a run; list recipes.")

Config = Annotated[Path | None, typer.Option(help="train.yaml whose values are shown with the line they stand in")]
Overrides = Annotated[list[str] | None, typer.Argument(help="settings as key=value, as for `marauder train`")]


@app.command("explain")
def explain_command(
    key: Annotated[str, typer.Argument(help="dotted name (training.optimizer.learning_rate), or a section")] = "",
    overrides: Overrides = None,
    config: Config = None,
) -> None:
    """Say what a setting does, its kind, default and bounds, its value now, and where that was given."""
    from marauder.core.explain import explain
    from marauder.runs.recipes import model_of_task, run_layer

    layer = run_layer(config, overrides or [])
    found = explain(model_of_task(layer), key, layer)
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
