"""``marauder annotation``: send pictures out for annotation, take deliveries in, say what is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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

Words = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Any setting: price.per_box=0.08, seed=1.")
]
Config = Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")]
Outbox = Annotated[Path | None, typer.Option(help="Where packages are put; default: annotation/outbox.")]
Inbox = Annotated[Path | None, typer.Option(help="Where deliveries are looked for; default: annotation/inbox.")]
BatchId = Annotated[str | None, typer.Option(help="Id of the batch; default: the newest that is open.")]
MaxHours = Annotated[float | None, typer.Option(help="Stop in time after so many hours.")]


@app.command(cls=ResumableCommand)
def export(
    words: Words = None,
    data: Annotated[Path | None, typer.Option("--data", "--data-yaml", help="data.yaml of the data set.")] = None,
    selection: Annotated[
        Path | None, typer.Option(help="Folder of `marauder select`; default: all pictures without labels.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Instead: a text file of record keys or paths, one a line, or a folder.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Detector whose boxes go out as pre-labels.")] = None,
    outbox: Annotated[
        Path | None,
        typer.Option("--output", "--outbox", help="Where packages are put; default: annotation/outbox."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            "--formats",
            help="mindy (COCO, packed for the provider Mindy Services), coco, yolo, cvat, label_studio; with commas; "
            "default: mindy.",
        ),
    ] = None,
    overlap_share: Annotated[
        float | None, typer.Option(help="Share of the pictures that two annotators label; default: 0.1.")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Least score of a pre-label; default: 0.3.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Species table for the guidelines; default: ours.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Make another batch although one is open.")] = False,
    config: Config = None,
    resume: Resume = None,
    max_hours: MaxHours = None,
) -> None:
    """Write packages for annotators: pictures, pre-labels, classes, guidelines, checksums, and a price estimate.

    With a batch open this says which; an export that was cut short goes on.
    """
    from marauder.core.clock import Clock

    checkpoint(resume, fresh=False, has_checkpoints=False)
    overrides = list(words or [])
    if confidence is not None:
        overrides.append(f"prelabels.confidence={confidence}")
    settings = _settings(
        config,
        overrides,
        data=data,
        selection=selection,
        pictures=pictures,
        model=model,
        outbox=outbox,
        formats=formats,
        overlap_share=overlap_share,
        taxonomy=taxonomy,
        # ``None`` is "not given": a flag that is off must not overrule the settings file.
        new=new or None,
    )
    from marauder.annotation.export import export_batch

    with Clock.for_hours(max_hours).listening() as clock:
        _tell_export(export_batch(settings, clock), settings)


@app.command("import", cls=ResumableCommand)
def import_(
    words: Words = None,
    delivery: Annotated[
        Path | None, typer.Option(help="Zip, folder or file that came back; default: what lies in the inbox.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take the good part of a delivery with problems; list what goes back.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", "--data-yaml", help="data.yaml of the data set; default: the batch's.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the merged data set is written; default: annotation/merged.")
    ] = None,
    outbox: Outbox = None,
    inbox: Inbox = None,
    batch: BatchId = None,
    config: Config = None,
    resume: Resume = None,
    max_hours: MaxHours = None,
) -> None:
    """Check what came back, judge it, report by picture, and merge it into the data set as a new version.

    A delivery with problems is reported and left, with status 3; --accept takes its good part.
    """
    from marauder.core.clock import Clock

    checkpoint(resume, fresh=False, has_checkpoints=False)
    settings = _settings(
        config, words, data=data, output=output, outbox=outbox, inbox=inbox, batch=batch, accept=accept or None
    )
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
    output: Annotated[Path | None, typer.Option(help="The merged data set; default: annotation/merged.")] = None,
    outbox: Outbox = None,
    inbox: Inbox = None,
    batch: BatchId = None,
    config: Config = None,
) -> None:
    """Say which batch is out, what it waits for, and what lies in the inbox."""
    settings = _settings(config, words, output=output, outbox=outbox, inbox=inbox, batch=batch, data_matters=False)
    from marauder.annotation.status import batch_status

    typer.echo(printable(batch_status(settings).words))


def _settings(
    config: Path | None, overrides: list[str] | None, data_matters: bool = True, **values: Any
) -> AnnotationSettings:
    """The settings; the data set is the batch's own where none is named."""
    from marauder.annotation.settings import AnnotationSettings
    from marauder.core.settings import add_values, read_layer_or_mistakes, validate_layer

    options = {"formats": "--format", "data": "--data"}
    layer = add_values(read_layer_or_mistakes(config), overrides or [], options, values)
    layer = add_values(layer, [], options, _of_workspace(layer.content))
    if "data" not in layer.content:
        known = _data_of_batch(layer.content)
        if known is not None or not data_matters:
            # ``status`` reads no data; the setting has no default, so any name will do.
            layer = add_values(layer, [], options, {"data": known or Path("data.yaml")})
    return validate_layer(AnnotationSettings, layer, options)


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


def _tell_export(summary: ExportSummary, settings: AnnotationSettings) -> None:
    lines = []
    if summary.existed:
        lines.append(f"batch {summary.batch} is there already; nothing new was made")
    else:
        lines.append(f"batch {summary.batch}")
    twice = f", {summary.overlap} of them for a second annotator too" if summary.overlap else ""
    lines.append(f"  {summary.pictures} pictures{twice}; {summary.prelabels} boxes suggested")
    price = summary.price
    lines.append(
        f"  estimate: {price.boxes or 0:,.0f} boxes in {price.pictures:,} pictures"
        f"{', the second annotator counted' if summary.overlap else ''}; {price.amount:,.2f} {price.currency}, "
        f"{price.hours:,.1f} hours of annotation"
    )
    lines += [f"  {package}" for package in summary.packages]
    lines.append(f"  guidelines: {summary.guidelines}")
    lines += [f"  note: {note}" for note in summary.notes[:NOTES_SHOWN]]
    if len(summary.notes) > NOTES_SHOWN:
        lines.append(f"  and {len(summary.notes) - NOTES_SHOWN} more notes")
    lines.append(f"next: send the packages out; put what comes back into {settings.inbox}, then:")
    lines.append(f"  marauder annotation import --outbox {settings.outbox} --inbox {settings.inbox}")
    typer.echo(printable("\n".join(lines)))


def _tell_import(summary: ImportSummary) -> None:
    lines = [summary.advice, f"report: {summary.report}"]
    lines += [f"look through it: {summary.page}"] if summary.page is not None else []
    if summary.merged and summary.data is not None:
        lines.append(f"data set: {summary.data} (version {summary.version})")
    typer.echo(printable("\n".join(lines)))
