"""``marauder select``: step 3, choose the pictures that are worth labelling."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marauder.cli.resuming import ResumableCommand, Resume, checkpoint
from marauder.core.plain import Plain

OPTIONS = {"pool": "--unlabeled-dir", "labelled": "--labeled", "count": "--num-samples", "models": "--model"}
"""Settings whose option has another name."""

app = typer.Typer(add_completion=False)


@app.command(cls=ResumableCommand, no_args_is_help=True)
def select(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL|KEY=VALUE]...", help="more models, as after --model; any setting: top_k=3"),
    ] = None,
    unlabeled_dir: Annotated[
        Path | None,
        typer.Option("--unlabeled-dir", "--pool", help="folder or data set; its unlabelled pictures are the pool"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "--models", help="detectors: A.pt B.pt, or A.pt,B.pt, or the option repeated"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="folder to write to (default: selected)")] = None,
    num_samples: Annotated[int | None, typer.Option(help="most pictures to choose (default: 2000)")] = None,
    budget_boxes: Annotated[int | None, typer.Option(help="most boxes to choose, as the detector estimates")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="hybrid, uncertainty, k_center, k_medoids, typical or random (default: hybrid)")
    ] = None,
    use_ensemble: Annotated[
        bool | None, typer.Option("--use-ensemble/--no-ensemble", help="score with all models, not the first alone")
    ] = None,
    labeled: Annotated[
        Path | None, typer.Option("--labeled", "--labelled", help="data set of what is labelled (default: the pool's)")
    ] = None,
    reduction: Annotated[
        str | None, typer.Option(help="from boxes to a picture: sum, mean, max or top_k_mean (default: top_k_mean)")
    ] = None,
    random_share: Annotated[float | None, typer.Option(help="share drawn at random, 0 to 1 (default: 0.15)")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file (YAML); options here take precedence")] = None,
    resume: Resume = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, forgetting what earlier runs found")] = False,
    max_hours: Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")] = None,
) -> None:
    """Choose the pictures that teach the detector most, or go on where it was.

    Writes the pictures, selection.json with the reason for each, a contact sheet, a map of the pool and a report. The
    same command goes on after any interruption. See docs/step3_active_learning.md.
    """
    from marauder.core.clock import Clock
    from marauder.core.settings import load_settings
    from marauder.selection.settings import SelectionSettings

    checkpoint(resume, fresh, has_checkpoints=False)
    # A file may have "=" in its name.
    overrides = [word for word in words or [] if "=" in word and not Path(word).exists()]
    more_models = [word for word in words or [] if word not in overrides]
    given: Plain = {
        "pool": unlabeled_dir,
        "models": [*(model or []), *more_models] or None,
        "output": output,
        "count": num_samples,
        "budget_boxes": budget_boxes,
        "strategy": strategy,
        "use_ensemble": use_ensemble,
        "labelled": labeled,
        "reduction": reduction,
        "random_share": random_share,
        "fresh": fresh or None,
    }
    settings = load_settings(SelectionSettings, config, overrides, OPTIONS, **given)

    from marauder.selection.job import select_pictures

    with Clock.for_hours(max_hours).listening() as clock:
        summary = select_pictures(settings, clock)
    typer.echo(summary.message())
