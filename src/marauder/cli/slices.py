"""``marauder slices``: check slices.yaml against the data, and show what a slice holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marauder.cli.options import Format, Pictures
from marauder.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from marauder.data.records import Dataset
    from marauder.data.slices.check import SliceFinding, SliceRow

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Check slices.yaml against the data, and show them.")

Slices = Annotated[Path, typer.Option("--slices", help="the slices.yaml")]
Data = Annotated[Path, typer.Option("--data", help="labelled pictures: folder, data.yaml, JSON or manifest")]
Split = Annotated[str | None, typer.Option(help="only this split; default: each")]

PICTURES_ON_A_SHEET = 24


@app.command("check")
def check_slices(
    slices: Slices, data: Data, split: Split = None, format: Format = "auto", pictures: Pictures = None
) -> None:
    """Count the pictures, boxes and groups of every slice, and report mistakes. Exit status 2: mistakes.

    Mistakes are names that no picture or box has, comparisons that no value can meet, and ids of no picture. Empty and
    tiny slices, and slices that are the same, are remarked on.
    """
    from marauder.data.reading import read_dataset
    from marauder.data.slices.check import check, count_slices, refuse_mistakes
    from marauder.data.slices.resolve import load_slices

    book = load_slices(slices)
    dataset = read_dataset(data, format, pictures=pictures)
    findings = check(book, dataset, split)
    refuse_mistakes(findings)
    _show_table(count_slices(book, dataset, split), findings)
    warnings = len(findings)
    typer.echo(f"no mistakes, {warnings:,} remarks" if warnings else "no mistakes")


@app.command("show")
def show_slice(
    slices: Slices,
    data: Data,
    name: Annotated[str, typer.Option(help="the slice; those of 'by' are called name=value")],
    split: Split = None,
    format: Format = "auto",
    sheet: Annotated[
        Path | None, typer.Option(help="contact sheet (.png, .jpg) of its pictures; boxes that do not count are grey")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="most pictures on the sheet, spread over the slice")] = (
        PICTURES_ON_A_SHEET
    ),
    pictures: Pictures = None,
) -> None:
    """List the keys of a slice's pictures, one a line."""
    from marauder.core.errors import UserError
    from marauder.data.contact_sheets import FORMATS
    from marauder.data.reading import read_dataset
    from marauder.data.slices.counting import Counter
    from marauder.data.slices.query_tree import unknown_name
    from marauder.data.slices.resolve import load_slices

    if sheet is not None and sheet.suffix.lower() not in FORMATS:
        raise UserError(f"--sheet {sheet}: a contact sheet is one of {', '.join(FORMATS)}")
    book = load_slices(slices)
    dataset = read_dataset(data, format, pictures=pictures)
    if split is not None:
        dataset = dataset.split(split)
    masks = {mask.name: mask for mask in book.apply(dataset.records, dataset.names)}
    if name not in masks:
        raise UserError(f"{slices}: {unknown_name(name, masks, 'slice')}")
    counter = Counter(dataset.records)
    chosen = [int(index) for index in counter.pictures(masks[name]).nonzero()[0]]
    for index in chosen:
        typer.echo(dataset.records[index].key)
    count = counter.count(masks[name])
    # Standard error: the keys alone go into a pipe.
    shown_pictures, shown_boxes = counted(count.pictures, "picture"), counted(count.boxes, "box", "boxes")
    typer.echo(f"{shown_pictures}, {shown_boxes}, {counted(count.groups, 'group')}", err=True)
    if sheet is not None:
        if not chosen:
            raise UserError(f"slice {name!r} holds no labelled picture: there is nothing to draw")
        counting = counter.boxes(masks[name])
        shown = min(most, len(chosen))
        # Spread over the slice: the first ones would be frames of one clip.
        spread = [chosen[place * len(chosen) // shown] for place in range(shown)]
        _draw(dataset, spread, counting, sheet, f"{name}: {shown_pictures}, {shown_boxes}")


def _draw(dataset: Dataset, chosen: Sequence[int], counting: np.ndarray, sheet: Path, title: str) -> None:
    """A sheet of pictures; ``counting``: bool (B,), which boxes of the data set the slice means."""
    from dataclasses import replace
    from itertools import accumulate

    from marauder.data.contact_sheets import contact_sheet, tile_of

    starts = [0, *accumulate(len(record.boxes) for record in dataset.records)]
    tiles = []
    for index in chosen:
        record = dataset.records[index]
        meant = counting[starts[index] : starts[index + 1]]
        tiles.append(tile_of(replace(record, ignored=~meant), dataset.names))
    contact_sheet(tiles, sheet, columns=6, title=title)
    typer.echo(f"contact sheet: {sheet}", err=True)


def _show_table(rows: Sequence[SliceRow], findings: Sequence[SliceFinding]) -> None:
    from marauder.core.text_table import screen_width, table_lines

    header = ("slice", "pictures", "boxes", "groups", "protected", "remarks")
    for split in dict.fromkeys(row.split for row in rows):
        cells = []
        for row in (row for row in rows if row.split == split):
            remarks = [one.message for one in findings if one.slice == row.mask.name and one.split == split]
            numbers = (f"{number:,}" for number in (row.count.pictures, row.count.boxes, row.count.groups))
            cells.append([row.mask.name, *numbers, "yes" if row.mask.protected else "", "; ".join(remarks)])
        for line in table_lines(header, cells, (1, 2, 3), f"split {split}", screen_width()):
            typer.echo(line)
    shown = {(row.mask.name, row.split) for row in rows}
    for finding in findings:
        # Slices without a row would take their remarks with them.
        if (finding.slice, finding.split) not in shown:
            typer.echo(f"warning: {finding}")
