"""``marauder manifest``: write golden manifests of any data set, look into them, sample and pin them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marauder.cli.options import Format, GroupPattern, MaxHours, MissingLabel, Names, Pictures
from marauder.core.errors import printable

if TYPE_CHECKING:
    from marauder.core.mistakes import Mistake
    from marauder.data.manifests.pinning import DataPin
    from marauder.data.records import Dataset, Problem

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Write, look into, sample and pin manifests of labelled pictures."
)

Input = Annotated[Path, typer.Option("--input", "--input-dir", help="manifest, dataset.yaml, folder, data.yaml, JSON")]


@app.command()
def write(
    input: Input,
    output: Annotated[Path, typer.Option("--output", "--output-dir", help="folder of the manifests and dataset.yaml")],
    source_format: Format = "auto",
    format: Annotated[str, typer.Option(help="manifest, parquet, or manifest,parquet")] = "manifest",
    fractions: Annotated[
        str | None, typer.Option(help="split again: train=0.7,val=0.2,test=0.1; else the input's own splits, if any")
    ] = None,
    seed: Annotated[int, typer.Option(help="same seed, same splits")] = 0,
    near_duplicates: Annotated[bool, typer.Option(help="keep pictures that look the same in one split")] = True,
    measure: Annotated[
        bool, typer.Option("--measure", help="add brightness, contrast, colour cast, sharpness …")
    ] = False,
    names: Names = None,
    group_pattern: GroupPattern = None,
    missing_label: MissingLabel = "unlabelled",
    pictures: Pictures = None,
    version: Annotated[str | None, typer.Option(help="version of the data set, for dataset.yaml")] = None,
    slices: Annotated[Path | None, typer.Option(help="slices.yaml to name in dataset.yaml")] = None,
    uri: Annotated[
        list[str] | None, typer.Option(help="s3://bucket/path=FOLDER: name pictures below FOLDER by that address")
    ] = None,
    max_hours: MaxHours = None,
) -> None:
    """Write any data set as golden_train, golden_val and golden_test, with a dataset.yaml.

    Pictures stay where they are. Run again, it continues where it stopped, and does not rewrite what is correct.
    """
    from marauder.cli.data import parse_fractions, parse_names
    from marauder.core.clock import Clock
    from marauder.core.locks import LOCK_FILE, exclusive
    from marauder.core.mistakes import Mistakes
    from marauder.data.manifests.measure import decode_dataset, measure_dataset
    from marauder.data.manifests.splitting import divided
    from marauder.data.manifests.writing import write_manifests
    from marauder.data.reading import read_dataset
    from marauder.data.repair import demand_known_classes, without_doubtful

    formats = [name.strip() for name in format.split(",")]
    found = Mistakes(_wrong_paths(input, output, {"--pictures": pictures, "--slices": slices}))
    found.add(_wrong_words(formats, source_format, missing_label, group_pattern))
    class_names, shares, folders, budget = found.all_of(
        ("--names", lambda: parse_names(names)),
        ("--fractions", lambda: parse_fractions(fractions)),
        ("--uri", lambda: _folders(uri or [])),
        ("--max-hours", lambda: Clock.for_hours(max_hours)),
    )
    with budget.listening() as clock:
        dataset = read_dataset(
            input, source_format, class_names, group_pattern, pictures, missing_label=missing_label, clock=clock
        )
        demand_known_classes(dataset, class_names)
        dataset, _ = without_doubtful(dataset)
        with exclusive(output / LOCK_FILE, f"the folder of manifests {output}"):
            # Both decode every picture, which also finds the truncated ones.
            dataset, _ = without_doubtful((measure_dataset if measure else decode_dataset)(dataset, clock))
            if fractions is not None or not dataset.splits():
                dataset = divided(dataset, shares, seed, near_duplicates, clock)
            spec = write_manifests(dataset, output, version, formats, folders, slices, clock)
    _show_written(dataset, spec)


@app.command()
def show(
    input: Input,
    format: Format = "auto",
    pictures: Pictures = None,
) -> None:
    """Show rows, classes, attributes with their values or ranges, and what is wrong. Exit status 1: rows are bad."""
    from marauder.cli.data import show_splits
    from marauder.core.text_table import screen_width, table_lines
    from marauder.core.wording import counted
    from marauder.data.formats.assembling import LOSING
    from marauder.data.manifests.summary import attribute_rows
    from marauder.data.reading import read_dataset
    from marauder.data.splits import split_report

    dataset = read_dataset(input, format, pictures=pictures)
    show_splits([asdict(row) for row in split_report(dataset)], str(input))
    unlabelled = sum(not record.labelled for record in dataset)
    if unlabelled:
        typer.echo(f"{counted(unlabelled, 'picture is', 'pictures are')} unlabelled")
    for title, of in attribute_rows(dataset).items():
        rows = [[found.name, f"{found.count:,}", found.values] for found in of]
        for line in table_lines(("attribute", "of", "values"), rows, (1,), title, screen_width()):
            typer.echo(line)
    _tell_problems(dataset.problems)
    if any(problem.kind in LOSING for problem in dataset.problems):
        raise typer.Exit(1)


@app.command()
def sample(
    input: Annotated[Path, typer.Option("--input", help="manifest (JSON lines or Parquet) or dataset.yaml")],
    where: Annotated[
        str | None, typer.Option(help="query over attributes: \"depth > 20 AND weather = 'rain'\"")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="rows in the sample")] = 20,
    seed: Annotated[int, typer.Option(help="same seed, same rows")] = 0,
    output: Annotated[Path | None, typer.Option(help="manifest to write the rows to; else they are listed")] = None,
    max_hours: MaxHours = None,
) -> None:
    """Draw rows of a manifest of any size, of all or of those that a query takes."""
    from marauder.core.clock import Clock
    from marauder.core.wording import counted
    from marauder.data.manifests.lazy import scan
    from marauder.data.manifests.writing import write_rows

    with Clock.for_hours(max_hours).listening() as clock:
        chosen = scan(input, clock)
        if where is not None:
            chosen = chosen.where(where)
        drawn = chosen.sample(count, seed)
        rows = drawn.rows
        _tell_problems(chosen.problems)
        typer.echo(f"{len(rows):,} of {counted(drawn.total, 'row')}{f' with {where}' if where is not None else ''}")
        if output is not None:
            write_rows(output, chosen.contents(rows))
            typer.echo(f"sample: {output}")
            return
    for split, key, source, row in rows.iter_rows():
        typer.echo(f"{row:>9}  {split or '-'}  {printable(key)}  {printable(source)}")


@app.command()
def pin(
    input: Input,
    output: Annotated[Path | None, typer.Option("--output", help="folder for data_pin.json")] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", help="a data_pin.json: say what changed since. exit status 1: something did"),
    ] = None,
    pictures: Pictures = None,
    max_hours: MaxHours = None,
) -> None:
    """Hash manifests and pictures, so that a run can say what it was trained on; with DVC, pull what is missing.

    Hashes are cached by size and modification time: the next time only changed files are read.
    """
    from marauder.core.clock import Clock
    from marauder.data.manifests.pinning import DataPin, verify
    from marauder.data.manifests.pinning import pin as pin_data

    with Clock.for_hours(max_hours).listening() as clock:
        if check is not None:
            differences = verify(DataPin.read(check), input, clock, pictures)
            for line in differences:
                typer.echo(line)
            typer.echo("changed since it was pinned" if differences else "the same content as pinned")
            raise typer.Exit(1 if differences else 0)
        pinned = pin_data(input, clock, pictures=pictures)
    _show_pin(pinned)
    if output is not None:
        typer.echo(f"pin: {pinned.write(output)}")


def _show_pin(pinned: DataPin) -> None:
    from marauder.core.wording import counted

    for name, split in pinned.splits.items():
        size = f"{split.bytes / 1e6:,.1f} MB"
        boxes = counted(split.boxes, "box", "boxes")
        typer.echo(f"{name}: {counted(split.pictures, 'picture')} ({size}), {split.labelled:,} labelled, {boxes}")
    if pinned.dvc is not None:
        typer.echo(f"DVC: tag {pinned.dvc['tag'] or '-'}, commit {pinned.dvc['rev'] or '-'}")
        for row in pinned.dvc["outputs"]:
            typer.echo(f"    {row['path']}: {row['md5']} ({row['state']})")
    typer.echo(f"version {pinned.version or '-'}, fingerprint {pinned.fingerprint}")


def _tell_problems(problems: Sequence[Problem]) -> None:
    from marauder.data.check import told

    for line in told(problems):
        typer.echo(printable(line))


def _show_written(dataset: Dataset, spec: Path) -> None:
    from marauder.core.wording import counted
    from marauder.data.manifests.spec import SPLITS

    # As the files hold them: pictures without labels have one of their own, whatever their split.
    of_part = Counter(record.split if record.labelled else "unlabelled" for record in dataset)
    counts = ", ".join(f"{of_part[name]:,} {name}" for name in (*SPLITS, "unlabelled") if of_part[name])
    boxes = counted(int(dataset.class_counts().sum()), "box", "boxes")
    typer.echo(f"{counted(len(dataset), 'picture')} ({counts}), {boxes}")
    _tell_problems(dataset.problems)
    typer.echo(f"data set: {spec}")
    _tell_left_out(dataset)


def _tell_left_out(dataset: Dataset) -> None:
    """What of the source is in no manifest, where it is not looked for later: the contract gate sees rows alone."""
    from marauder.core.wording import to_type
    from marauder.data.repair import SET_ASIDE_KINDS

    kept = {record.key for record in dataset}
    bad = [problem for problem in dataset.problems if problem.kind in SET_ASIDE_KINDS]
    pictures = {problem.key or (problem.path, problem.line) for problem in bad if problem.key not in kept}
    if pictures:
        were = "1 picture was" if len(pictures) == 1 else f"{len(pictures):,} pictures were"
        see = to_type("data", "check", "--input", printable(dataset.source))
        are = "is" if len(pictures) == 1 else "are"
        typer.echo(f"{were} set aside and {are} in no manifest; see each with `{see} --report findings.json`")


def _wrong_paths(input: Path, output: Path, named: Mapping[str, Path | None]) -> Iterator[Mistake]:
    """Files and folders that are not there, an output that would be read, and what is wrong with the slices."""
    from marauder.core.mistakes import OPTION, Mistake
    from marauder.data.manifests.spec import find_spec
    from marauder.data.slices.resolve import examine_slices

    for flag, path in {"--input": input, **named}.items():
        if path is not None and not path.exists():
            yield Mistake(f"{path}: no such file or folder; check the path", f"{OPTION}{flag}")
        elif path is not None and flag == "--slices":
            yield from examine_slices(path)[1]
    if input.is_dir() and find_spec(input) is None and output.resolve().is_relative_to(input.resolve()):
        words = f"{output}: lies in the input {input}, and would be read in its place; name another folder"
        yield Mistake(words, f"{OPTION}--output")


def _wrong_words(
    formats: Sequence[str], source_format: str, missing_label: str, group_pattern: str | None
) -> Iterator[Mistake]:
    from marauder.core.mistakes import OPTION, Mistake, Mistakes, nearest
    from marauder.core.plugins import is_known
    from marauder.core.plugins import names as plugin_names
    from marauder.data.groups import compile_group_pattern
    from marauder.data.manifests.writing import FORMATS

    if source_format != "auto" and not is_known("reader", source_format):
        told = nearest(source_format, [*plugin_names("reader"), "auto"], "docs/formats.md names all")
        yield Mistake(f"no format named {source_format!r}{told}", f"{OPTION}--source-format")
    for name in formats:
        if name not in FORMATS:
            yield Mistake(f"no format named {name!r}{nearest(name, list(FORMATS))}", f"{OPTION}--format")
    if missing_label not in ("unlabelled", "empty"):
        yield Mistake(f"{missing_label!r}: give unlabelled or empty", f"{OPTION}--missing-label")
    found = Mistakes()
    with found.gathered(f"{OPTION}--group-pattern"):
        if group_pattern:
            compile_group_pattern(group_pattern)
    yield from found.found


def _folders(entries: list[str]) -> dict[str, Path]:
    from marauder.core.errors import UserError

    folders = {}
    for entry in entries:
        prefix, equals, folder = entry.partition("=")
        if not equals or "://" not in prefix or not folder:
            raise UserError(f"{entry!r}: write it as s3://bucket/path=FOLDER")
        folders[prefix] = Path(folder)
    return folders
