"""``marauder annotation``: send pictures out for annotation, take deliveries in, say what is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marauder.cli.job_command import JobCommand
from marauder.cli.options import ConfigFile, MaxHours, Option
from marauder.cli.resuming import ResumableCommand, Resume, checkpoint
from marauder.core.errors import UserError, printable
from marauder.core.plain import Plain

if TYPE_CHECKING:
    from marauder.annotation.export import ExportSummary
    from marauder.annotation.importing import ImportSummary
    from marauder.annotation.settings import AnnotationSettings

EXIT_PROBLEMS = 3
"""A delivery has problems, and nothing of it was taken."""
NOTES_SHOWN = 12

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Send pictures out for annotation, and take what comes back in."
)

DATA_OPTION = {"data": "--data"}
WORDS, WORDS_SHOWN = "any setting: price.per_box=0.08, seed=1", "[KEY=VALUE]..."
OUTBOX = "where packages are put; default: annotation/outbox"

Words = Annotated[list[str] | None, typer.Argument(metavar=WORDS_SHOWN, help=WORDS)]
Outbox = Annotated[Path | None, typer.Option(help=OUTBOX)]
Inbox = Annotated[Path | None, typer.Option(help="where deliveries are looked for; default: annotation/inbox")]
Merged = Annotated[Path | None, typer.Option(help="the merged data set; default: annotation/merged")]
BatchId = Annotated[str | None, typer.Option(help="id of the batch; default: the newest that is open")]


@app.command("import", cls=ResumableCommand)
def import_(
    words: Words = None,
    delivery: Annotated[
        Path | None, typer.Option(help="zip, folder or file that came back; default: what is in the inbox")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="take the good part of a delivery with problems; list what goes back")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", "--data-yaml", help="data.yaml of the data set; default: the batch's")
    ] = None,
    output: Merged = None,
    outbox: Outbox = None,
    inbox: Inbox = None,
    batch: BatchId = None,
    config: ConfigFile = None,
    resume: Resume = None,
    max_hours: MaxHours = None,
) -> None:
    """Check what came back, judge it, report by picture, and merge it into the data set as a new version.

    A delivery with problems is reported and left, with status 3; --accept takes its good part.
    """
    from marauder.core.clock import Clock

    checkpoint(resume, fresh=False, has_checkpoints=False)
    places: Plain = {"output": output, "outbox": outbox, "inbox": inbox, "batch": batch}
    settings = _load(config, words or [], DATA_OPTION, {"data": data, "accept": accept or None, **places})
    from marauder.annotation.delivery import find_delivery
    from marauder.annotation.importing import import_delivery
    from marauder.annotation.status import batch_status

    found = delivery or find_delivery(settings)
    if found is None:
        known = batch_status(settings)
        if known.state != "imported":
            raise UserError(f"nothing to import in {settings.inbox}.\n{known.words}")
        typer.echo(printable(known.words))  # done before: a script may call again
        return
    # One with problems stays where it is, and would be found for ever.
    merged, taken = True, set[Path]()
    with Clock.for_hours(max_hours).listening() as clock:
        while found is not None and found not in taken:
            taken.add(found)
            summary = import_delivery(settings, found, clock)
            _tell_import(summary)
            merged = merged and summary.merged
            found = find_delivery(settings) if delivery is None else None
    if not merged:
        raise typer.Exit(EXIT_PROBLEMS)


@app.command()
def status(
    words: Words = None,
    output: Merged = None,
    outbox: Outbox = None,
    inbox: Inbox = None,
    batch: BatchId = None,
    config: ConfigFile = None,
) -> None:
    """Say which batch is out, what it waits for, and what is in the inbox."""
    places: Plain = {"output": output, "outbox": outbox, "inbox": inbox, "batch": batch}
    settings = _load(config, words or [], DATA_OPTION, places, data_matters=False)
    from marauder.annotation.status import batch_status

    typer.echo(printable(batch_status(settings).words))


def _load(
    config: Path | None, overrides: list[str], options: dict[str, str], values: Plain, data_matters: bool = True
) -> AnnotationSettings:
    """The settings; the data set is the batch's own where none is named."""
    from marauder.annotation.settings import AnnotationSettings
    from marauder.core.layers import add_values, read_layer_or_mistakes
    from marauder.core.settings import check_layer

    layer = add_values(read_layer_or_mistakes(config), overrides, options, values)
    layer = add_values(layer, [], options, _of_workspace(layer.content))
    if "data" not in layer.content:
        known = _data_of_batch(layer.content)
        if known is not None or not data_matters:
            # ``status`` reads no data; the setting has no default, so any name will do.
            layer = add_values(layer, [], options, {"data": known or Path("data.yaml")})
    return check_layer(AnnotationSettings, layer, options)


def _of_workspace(content: Plain) -> Plain:
    """Where the pipeline keeps its packages and deliveries, where none are named and none are here."""
    from marauder.annotation.settings import AnnotationSettings
    from marauder.pipeline.steps.step04_annotation import STEP
    from marauder.pipeline.workspace import Workspace

    places = {**STEP.placed(Workspace.at())}
    here = Path(AnnotationSettings.model_fields["outbox"].default)
    if here.exists() or not Path(places["outbox"]).exists() or {"outbox", "inbox"} & content.keys():
        return {}
    return {name: path for name, path in places.items() if name not in content and name != "data"}


def _data_of_batch(content: Plain) -> Path | None:
    from marauder.annotation.batch import find_batch, list_batches
    from marauder.annotation.settings import AnnotationSettings

    outbox = Path(content.get("outbox") or AnnotationSettings.model_fields["outbox"].default)
    known = list_batches(outbox)
    batch = find_batch(outbox, content.get("batch")) or (known[-1] if known else None)
    return Path(batch.data) if batch is not None else None


def _tell_export(settings: AnnotationSettings, summary: ExportSummary) -> None:
    from marauder.annotation.price import describe_order
    from marauder.annotation.status import command_line
    from marauder.core.wording import counted

    lines = []
    if summary.existed:
        lines.append(f"batch {summary.batch} is there already; nothing new was made")
    else:
        lines.append(f"batch {summary.batch}")
    lines.append(f"  estimate: {describe_order(summary.pictures, summary.overlap, summary.price)}")
    lines.append(f"  {counted(summary.prelabels, 'box', 'boxes')} suggested")
    lines += [f"  {package}" for package in summary.packages]
    lines.append(f"  guidelines: {summary.guidelines}")
    lines += [f"  note: {note}" for note in summary.notes[:NOTES_SHOWN]]
    if len(summary.notes) > NOTES_SHOWN:
        lines.append(f"  and {counted(len(summary.notes) - NOTES_SHOWN, 'more note')}")
    lines.append(f"next: send the packages out; put what comes back into {settings.inbox}, then:")
    lines.append(f"  {command_line('import', settings)}")
    typer.echo(printable("\n".join(lines)))


def _tell_import(summary: ImportSummary) -> None:
    lines = [summary.advice, f"report: {summary.report}"]
    lines += [f"look through it: {summary.page}"] if summary.page is not None else []
    if summary.merged and summary.data is not None:
        lines.append(f"data set: {summary.data} (version {summary.version})")
    typer.echo(printable("\n".join(lines)))


JobCommand(
    name="export",
    help="""Write packages for annotators: pictures, pre-labels, classes, guidelines, checksums, and a price estimate.

    If a batch is open this says which; an interrupted export is resumed.
    """,
    settings="marauder.annotation.settings:AnnotationSettings",
    job="marauder.annotation.export:export_batch",
    options=(
        Option("--data --data-yaml", Path, "data.yaml of the data set"),
        Option("--selection", Path, "folder of `marauder select`; default: all pictures without labels"),
        Option("--pictures", Path, "instead: a text file of record keys or paths, one a line, or a folder"),
        Option("--model", Path, "detector whose boxes go out as pre-labels"),
        Option("--output --outbox", Path, OUTBOX, "outbox"),
        Option(
            "--format --formats",
            str,
            "mindy (COCO, packed for the provider Mindy Services), coco, yolo, cvat, label_studio; with commas; "
            "default: mindy",
            "formats",
        ),
        Option("--overlap-share", float, "share of the pictures that two annotators label; default: 0.1"),
        Option("--confidence", float, "least score of a pre-label; default: 0.3", "prelabels.confidence"),
        Option("--taxonomy", Path, "species table for the guidelines; default: ours"),
        Option("--new", bool, "make another batch although one is open"),
    ),
    show=_tell_export,
    words=WORDS,
    metavar=WORDS_SHOWN,
    load=_load,
).add_to(app)
