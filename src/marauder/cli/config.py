"""``marauder config``: what every setting of a run, a step, a gate or a job means, and which recipes there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from marauder.core.errors import UserError
from marauder.core.explain import Explanation
from marauder.core.mistakes import abbreviated, nearest

JOBS = {
    "organize": "marauder.data.organize:OrganizeSettings",
    "frames": "marauder.data.frames:FramesSettings",
    "preprocess": "marauder.preprocessing.settings:PreprocessingSettings",
    "select": "marauder.selection.settings:SelectionSettings",
    "evaluate": "marauder.tasks.detection.evaluate_settings:EvaluateSettings",
    "predict": "marauder.survey.settings:PredictSettings",
}
"""Commands that do a job whose settings are explained under their own names; the others have those of their steps."""

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

    A run's settings by their own names; those of a pipeline's step, of a gate or of a job with its name before them:
    preprocessing.enhance, annotation.price.per_box, gate.drift, predict.confidence. Ultralytics' words, too: lr0.
    """
    every, found = _explained(key, overrides or [], config)
    told, found = (_called(key, every)) if not found else ("", found)
    if not found and not told:
        raise UserError(f"no setting named {key!r}{_near(key, every)}; `marauder config explain` lists all of a run")
    if told:
        typer.echo(told)
    if len(found) == 1:
        one = found[0]
        typer.echo(f"{one.key}: {one.description or 'no description'}")
        typer.echo(f"  kind:    {one.kind}\n  default: {one.default}\n  now:     {one.value} ({one.place})")
        return
    width = max((len(one.key) for one in found), default=0)
    for one in found:
        value = "" if one.section else one.value + ("" if one.place == "default" else f"  <- {one.place}")
        typer.echo(f"{one.key:<{width}}  {value}")
        if one.description:
            typer.echo(f"{'':<{width}}    {one.description}")


def _called(key: str, every: list[Explanation]) -> tuple[str, list[Explanation]]:
    """What a word means that is no setting's whole name, in words and settings: one of Ultralytics' (also behind the
    name of a section), the name of a gate, or the last part of a name, wherever it is."""
    from marauder.core.ultralytics_words import EVALUATING, EXPORTING, PREDICTING, TRAINING, told

    tables = ((TRAINING, ""), (PREDICTING, "predict."), (EVALUATING, "evaluate."), (EXPORTING, "export."))
    section, _, word = key.rpartition(".")
    if section and not any(one.key.startswith(f"{section}.") for one in every):
        word = key
    meant = [(words[word], prefix) for words, prefix in tables if word in words]
    known = [(told(word, one, prefix), f"{prefix}{one.ours}") for one, prefix in meant]
    if known:
        return "\n".join(words for words, _ in known), [one for one in every if one.key in {name for _, name in known}]
    of_gate = [one for one in every if one.key.startswith(f"gate.{key}.")]
    return "", [*of_gate, *(one for one in every if one.key.endswith(f".{key}"))]


def _near(key: str, every: list[Explanation]) -> str:
    """What was perhaps meant by ``key``, to put behind a message: settings of the same section first."""
    section, _, word = key.rpartition(".")
    gates = list(dict.fromkeys(one.key.split(".")[1] for one in every if one.key.startswith("gate.")))
    if key.startswith("gate.") and key.split(".")[1] not in gates:
        return nearest(key.split(".")[1], gates)
    short = abbreviated(word, dict.fromkeys(one.key.rpartition(".")[2] for one in every))
    meant = [one.key for one in every if one.key.rpartition(".")[2] in short]
    meant = [name for name in meant if section and name.startswith(f"{section}.")] or meant
    if meant:
        return f"; did you mean {' or '.join(meant[:3])}?"
    names = [one.key for one in every]
    return nearest(key, names) or nearest(word, {name.rpartition(".")[2] for name in names})


def _explained(key: str, overrides: list[str], config: Path | None) -> tuple[list[Explanation], list[Explanation]]:
    """All that can be asked for, and the settings that ``key`` names: those of a run, then, with the name of the step,
    gate or job before them, those of the pipeline's steps, of the gates and of the commands that do a job."""
    from marauder.core.explain import walk
    from marauder.core.mistakes import MistakesError
    from marauder.core.plugins import imported, loadable
    from marauder.core.settings import Places
    from marauder.gates.plan import examine_gates, gates_in, over_shipped
    from marauder.pipeline.graph import discover
    from marauder.runs.recipes import model_of_task, run_layer

    layer = run_layer(config, overrides)
    if layer.mistakes:
        raise MistakesError(layer.mistakes, layer.name)
    known = list(walk(model_of_task(layer), layer))
    if not key:
        return known, known
    below = {f"gate.{name}": gate.settings_model for name, gate in loadable("gate").items()}
    below |= {step.name: step.settings_model() for step in sorted(discover(), key=lambda step: step.number)}
    below |= {name: imported(place) for name, place in JOBS.items()}
    # Only what cannot be read is of concern here: a value that is wrong is shown, as it is among the run's settings.
    file, single = layer.content.get("gates"), gates_in(Places(layer).layer_of("gate").content, Places(layer))
    given = examine_gates(file if isinstance(file, str) else None, given=single)[0].given
    if given.mistakes:
        raise MistakesError(given.mistakes, given.name)
    every, gates = list(known), Places(over_shipped(given))
    for name, model in below.items():
        of_gate = name.startswith("gate.")
        below_it = gates.layer_of(name.removeprefix("gate.")) if of_gate else Places(layer).layer_of(name)
        every += [replace(one, key=f"{name}.{one.key}") for one in walk(model, below_it)]
    return every, [one for one in every if one.key == key or one.key.startswith(f"{key}.")]


@app.command("show")
def show(
    config: Annotated[str, typer.Argument(help="train.yaml; or a first setting as key=value")],
    overrides: Overrides = None,
) -> None:
    """Print the settings as a run would use them: recipe, files and overrides put together, defaults written out.

    Below gate are all gates in force, those of gates.yaml among them.
    """
    from marauder.core.settings import Places
    from marauder.gates.plan import gates_in, load_gates
    from marauder.runs.recipes import as_yaml, file_and_overrides, load_settings_of_task, run_layer
    from marauder.runs.task_description import describe_task

    given = file_and_overrides(config, overrides)
    settings = load_settings_of_task(*given)
    plan = load_gates(settings.gates, given=gates_in(settings.gate, Places(run_layer(*given))))
    plan = plan.restricted(describe_task(settings.task).answerable())
    typer.echo(as_yaml(settings.changed({"gate": plan.to_json()})), nl=False)


@app.command("recipes")
def recipes() -> None:
    """List the recipes of the library: those that ship with Marauder, and those of the folder recipes here."""
    from marauder.runs.recipes import library

    for recipe in library():
        typer.echo(f"{recipe.name}: {recipe.description}" + (f" (extends {recipe.extends})" if recipe.extends else ""))
