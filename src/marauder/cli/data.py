"""``marauder data``: check, organize and split labelled pictures, make pictures of videos, generate reef scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marauder.cli.job_command import JobCommand
from marauder.cli.options import (
    FORMAT,
    GROUP_PATTERN,
    MISSING_LABEL,
    NAMES,
    PICTURES,
    Format,
    GroupPattern,
    MaxHours,
    MissingLabel,
    Names,
    Option,
    Pictures,
)
from marauder.cli.scenes import SCENES
from marauder.core.errors import printable
from marauder.core.plain import Plain

if TYPE_CHECKING:
    from marauder.core.mistakes import Mistake
    from marauder.data.check import CheckReport
    from marauder.data.organize import OrganizeSettings, OrganizeSummary
    from marauder.data.repair import RepairSummary

MOST_ROWS, MOST_NAMED = 45, 12

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Check, organize and split labelled pictures.")
SCENES.add_to(app)


@app.command()
def check(
    input: Annotated[Path, typer.Option("--input", "--input-dir", help="folder, data.yaml, or a file of labels")],
    format: Format = "auto",
    names: Names = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="write a fixed copy to --output; the source stays as it is")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "--output-dir", help="folder of the fixed copy")] = None,
    report: Annotated[Path | None, typer.Option(help="JSON file of every finding; a contact sheet beside it")] = None,
    sheet: Annotated[Path | None, typer.Option(help="contact sheet (.jpg or .png) with examples")] = None,
    group_pattern: GroupPattern = None,
    near_duplicate_distance: Annotated[int, typer.Option(min=0, max=16, help="bits by which hashes may differ")] = 4,
    missing_label: MissingLabel = "unlabelled",
    pictures: Pictures = None,
    mode: Annotated[str, typer.Option(help="how pictures come into the fixed copy: link, copy or reference")] = "link",
    max_hours: MaxHours = None,
) -> None:
    """Find every defect of a data set. Exit status 0: no errors; 1: errors remain.

    With --fix, what is safe to fix is fixed in a copy, which is then checked again.
    """
    from marauder.core.clock import Clock
    from marauder.core.mistakes import Mistakes
    from marauder.data.check import check_dataset
    from marauder.data.repair import repair

    class_names, budget = Mistakes(_wrong_fixing(fix, output)).all_of(
        ("--names", lambda: parse_names(names)), ("--max-hours", lambda: Clock.for_hours(max_hours))
    )
    with budget.listening() as clock:
        found = check_dataset(
            input,
            near_duplicate_distance,
            clock,
            format=format,
            names=class_names,
            group_pattern=group_pattern,
            pictures=pictures,
            missing_label=missing_label,
        )
        _show_report(found)
        _write_findings(found, report, sheet)
        if fix and output is not None:
            mended = repair(found, output, mode, clock)
            _show_repair(mended)
            # The copy decides the exit status: errors that were mended do not remain.
            found = check_dataset(mended.data_yaml, near_duplicate_distance, clock)
            _show_report(found)
    _tell_missing_val(found, output if output is not None else input)
    if not found.clean:
        raise typer.Exit(1)


def _wrong_fixing(fix: bool, output: Path | None) -> Iterator[Mistake]:
    from marauder.core.mistakes import OPTION, Mistake

    if fix and output is None:
        yield Mistake("writes a fixed copy: say where with --output FOLDER", f"{OPTION}--fix")
    if output is not None and not fix:
        yield Mistake("is the folder of the fixed copy: give --fix, too", f"{OPTION}--output")


def _write_findings(found: CheckReport, report: Path | None, sheet: Path | None) -> None:
    """The report of every finding and the contact sheet, as far as they are wanted; a report has a sheet beside it."""
    from marauder.data.check import examples_sheet

    if report is not None:
        found.write(report)
        typer.echo(f"every finding: {report}")
    sheet = sheet or (report.with_suffix(".jpg") if report is not None else None)
    if sheet is not None and examples_sheet(found, sheet) is not None:
        typer.echo(f"contact sheet: {sheet}")


def _show_repair(mended: RepairSummary) -> None:
    from marauder.core.wording import counted

    typer.echo(
        f"\nfixed copy: {mended.data_yaml} ({counted(mended.pictures, 'picture')}; "
        f"{len(mended.set_aside):,} set aside, {counted(len(mended.dropped_copies), 'copy', 'copies')} dropped and "
        f"{counted(sum(mended.joined_boxes.values()), 'box', 'boxes')} of theirs kept, "
        f"{mended.turned_upright:,} turned upright)"
    )


def _tell_missing_val(found: CheckReport, place: Path) -> None:
    """How to get a val split where labelled pictures lack one."""
    from marauder.core.wording import to_type

    # Where val names the pictures of train, that has been said, with what to do.
    told = bool(found.of_kind("labels-none")) or bool(found.of_kind("split-same"))
    if found.dataset is not None and len(found.dataset) and not told and "val" not in found.dataset.splits():
        typer.echo(
            "there is no val split, which training needs; "
            f"make one: {to_type('data', 'split', '--input', place)} --output FOLDER"
        )


def parse_fractions(text: str | None) -> dict[str, float]:
    """``train=0.7,val=0.2,test=0.1``, or up to three numbers in that order. Raises ``UserError``."""
    from marauder.core.errors import UserError
    from marauder.data.splits import DEFAULT_FRACTIONS, checked_fractions

    if text is None:
        return dict(DEFAULT_FRACTIONS)
    fractions: dict[str, float] = {}
    # One default name for each part; further parts get none, and are refused below.
    for default, part in zip([*DEFAULT_FRACTIONS, *[""] * text.count(",")], text.split(",")):
        name, _, number = part.partition("=") if "=" in part else (default, "=", part)
        try:
            fractions[name.strip()] = float(number)
        except ValueError:
            raise UserError(f"{text!r}: {part!r} is not a share; write train=0.7,val=0.2,test=0.1") from None
    if not set(fractions) <= set(DEFAULT_FRACTIONS):
        raise UserError(f"{text!r}: the splits are train, val and test")
    try:
        return checked_fractions(fractions)
    except ValueError as error:
        raise UserError(f"{text!r}: {error}") from None


def parse_names(text: str | None) -> list[str] | None:
    """Class names in order, written with commas. Raises ``UserError`` for an empty one."""
    from marauder.core.errors import UserError

    if not text or not text.strip(" ,"):
        return None
    names = [name.strip() for name in text.rstrip(" ,").split(",")]
    if "" in names:  # left out in silence, every name behind it would belong to another class
        raise UserError(f"{text!r}: name {names.index('') + 1} is empty; name every class")
    return names


def _show_summary(_: OrganizeSettings, summary: OrganizeSummary) -> None:
    from collections import Counter

    from marauder.core.text_table import screen_width, table_lines
    from marauder.core.wording import counted
    from marauder.data.check import EXAMPLES, told_counts
    from marauder.data.organize import SUMMARY_FILE, in_words

    renamed = {name: pair for name, pair in summary.mapped.items() if pair[1]}
    mapped = [
        [printable(name), target, f"{boxes:,}"]
        for name, (target, boxes) in sorted(renamed.items(), key=lambda item: -item[1][1])
    ]
    for line in table_lines(("source name", "class", "boxes"), mapped, (2,), "mapped", screen_width()):
        typer.echo(line)
    lost = {name: boxes for name, boxes in summary.unmapped.items() if boxes}
    if summary.unmapped:
        left = [[printable(name), f"{boxes:,}"] for name, boxes in lost.items()]
        for line in table_lines(
            ("source name", "boxes left out"), left, (1,), "not in the species table", screen_width()
        ):
            typer.echo(line)
        unused = len(summary.unmapped) - len(lost)
        if unused:
            typer.echo(f"{counted(unused, 'more name')} without a box did not map")
    rows = [row for row in summary.splits if sum(row["counts"].values())]
    show_splits(rows)
    for line in told_counts(summary.problems, {kind: rows[:EXAMPLES] for kind, rows in summary.examples.items()}):
        typer.echo(printable(line))
    if summary.set_aside:
        first = summary.set_aside[0]
        typer.echo(f"{counted(len(summary.set_aside), 'picture')} set aside, first: {printable(first['path'])}")
    for note in summary.notes:
        typer.echo(f"note: {note}")
    state = "nothing to do, already organized" if summary.already_done else "done"
    counts = (
        counted(summary.pictures, "picture"),
        counted(summary.boxes, "box", "boxes"),
        counted(summary.groups, "group"),
    )
    typer.echo(f"{state}: {', '.join(counts)}")
    if summary.set_aside:
        reasons = in_words(Counter(row["kind"] for row in summary.set_aside))
        typer.echo(f"set aside: {counted(len(summary.set_aside), 'picture')}: {reasons}")
    if summary.problems:
        details = summary.data_yaml.with_name(SUMMARY_FILE)
        typer.echo(f"problems: {in_words(summary.problems)}; examples in {details}")
    typer.echo(f"data set: {summary.data_yaml}")


def show_splits(rows: list[Plain], title: str = "splits") -> None:
    """Pictures and boxes of each split: rows with ``name``, ``counts`` by split, and ``groups``."""
    from marauder.core.text_table import screen_width, table_lines
    from marauder.core.wording import counted

    if not rows:
        return
    splits = list(rows[0]["counts"])
    header = ("", *splits, "groups in all")
    cells = [
        [row["name"], *(f"{row['counts'][split]:,}" for split in splits), f"{row['groups']:,}"]
        for row in rows[:MOST_ROWS]
    ]
    for line in table_lines(header, cells, range(1, len(header)), title, screen_width()):
        typer.echo(line)
    if len(rows) > MOST_ROWS:
        typer.echo(f"and {counted(len(rows) - MOST_ROWS, 'more class', 'more classes')}")


def _show_report(report: CheckReport) -> None:
    from marauder.core.wording import counted
    from marauder.data.check import told

    counts = (
        counted(report.pictures, "picture"),
        counted(report.boxes, "box", "boxes"),
        counted(len(report.names), "class", "classes"),
    )
    typer.echo(f"{report.source}: {', '.join(counts)}")
    show_splits([row for row in report.splits if sum(row["counts"].values())])
    without = [str(row["name"]) for row in report.splits if not sum(row["counts"].values())]
    if without:
        more = f" and {len(without) - MOST_NAMED:,} more" if len(without) > MOST_NAMED else ""
        have = counted(len(without), "class has", "classes have")
        typer.echo(printable(f"{have} no box that counts: {', '.join(without[:MOST_NAMED])}{more}"))
    for line in told(report.findings):
        typer.echo(printable(line))
    errors, warnings = report.severity("error"), report.severity("warning")
    found = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    typer.echo(found if report.findings else "no defects found")


def _without_fractions(settings: OrganizeSettings) -> OrganizeSettings:
    """Given both, the splits that sources have stay and the rest is divided by the fractions."""
    alone = settings.keep_splits and "fractions" not in settings.model_fields_set
    return settings.changed({"fractions": None}) if alone else settings


OUTPUT = Option("--output --output-dir", Path, "folder to write to")
SPLITTING = (
    Option("--input --input-dir", list[Path], "folder, data.yaml, or a file of labels; may be repeated", "inputs"),
    OUTPUT,
    Option("--format", str, f"{FORMAT}; default: auto"),
    Option("--fractions", str, "shares of the splits: train=0.7,val=0.2,test=0.1 or 0.7,0.2,0.1", read=parse_fractions),
    Option("--names", str, NAMES, read=parse_names),
    Option("--seed", int, "same seed, same splits; default: 0"),
    Option("--group-pattern", str, GROUP_PATTERN),
    Option(
        "--near-duplicates/--no-near-duplicates",
        bool,
        "keep pictures that look the same in one split; default: near-duplicates",
    ),
    Option("--missing-label", str, f"{MISSING_LABEL}; default: unlabelled"),
    Option("--pictures", Path, PICTURES),
    Option("--mode", str, "link, copy, or reference (pictures stay, and may be absent); default: link"),
    Option("--fresh", bool, "do it again even if it is done"),
)
"""Options of all commands that write a split data set."""

JobCommand(
    name="organize",
    help="""Read sources of any layout, map their names onto the species table, split by clip, write plain YOLO.

    Run again, it continues where it stopped, and leaves a finished folder alone.
    """,
    settings="marauder.data.organize:OrganizeSettings",
    job="marauder.data.organize:organize",
    options=(
        *SPLITTING,
        Option("--taxonomy", str, "default, source (keep the sources' names), or a file"),
        Option("--keep-source-splits", bool, "keep the sources' own splits instead of splitting again", "keep_splits"),
        Option("--near-duplicate-distance", int, "bits by which hashes may differ, 0 to 16; default: 4"),
    ),
    prepare=_without_fractions,
    show=_show_summary,
).add_to(app)
JobCommand(
    name="split",
    help="Split a data set again with its own class names: clips and near-duplicates undivided, classes balanced.",
    settings="marauder.data.organize:OrganizeSettings",
    job="marauder.data.organize:organize",
    options=SPLITTING,
    fixed={"taxonomy": "source"},
    show=_show_summary,
).add_to(app)
JobCommand(
    name="frames",
    help="""Save frames of videos as pictures, named so that splits keep the frames of a video together.

    Run again, it continues where it stopped. Broken videos and frames are set aside.
    """,
    settings="marauder.data.frames:FramesSettings",
    job="marauder.data.frames:write_frames",
    options=(
        OUTPUT,
        Option("--fps", float, "frames per second of video; default: 1"),
        Option("--every", int, "every Nth frame instead"),
        Option("--quality", int, "quality of the JPEG files, 1 to 100; default: 92"),
        Option("--fresh", bool, "start over with these videos: replace their frames"),
    ),
    listed="inputs",
    metavar="VIDEO...",
    words="videos, folders, or patterns in quotes; any setting, as key=value",
).add_to(app)
