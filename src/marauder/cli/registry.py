"""``marauder registry``: look at registered models, promote one, roll back, compare two."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marauder.core.plain import Plain

if TYPE_CHECKING:
    from marauder.messaging.settings import EventSettings
    from marauder.registry.base import ModelVersion, Registry
    from marauder.registry.comparison import ComparedSlice, Side
    from marauder.registry.promotion import Emit

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List, show, promote, roll back and compare registered models."
)

Kind = Annotated[str | None, typer.Option("--registry", help="files, mlflow, wandb or sagemaker; default: mlflow.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="What that registry needs, as key=value; may be repeated.")
]
Config = Annotated[
    Path | None,
    typer.Option(help="train.yaml whose sections registry, runs and events are used; the rest is not read."),
]
Runs = Annotated[Path | None, typer.Option(help="Folder of the runs, where registries are by default; default: runs.")]
Project = Annotated[str, typer.Argument(help="Name of the model, as project in train.yaml.")]
Version = Annotated[str, typer.Argument(help="Number of a version, an alias (candidate, production), or a run's id.")]
Who = Annotated[str | None, typer.Option(help="Who decides; default: the name you are logged in with.")]
Why = Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")]

REPORT = "eval_report.json"
EVENTS_FOLDER = "promotions"
"""Folder among the runs that holds the outbox of promotions."""


@app.command("list")
def list_models(
    project: Annotated[str | None, typer.Argument(help="Show this model's versions; default: all models.")] = None,
    kind: Kind = None,
    option: Options = None,
    config: Config = None,
    runs: Runs = None,
) -> None:
    """All models, or all versions of one, with their aliases, verdicts and figures."""
    registry = _open(kind, option, config, runs).registry
    if project is not None:
        _show_versions(registry, project)
        return
    projects = registry.projects()
    if not projects:
        typer.echo("No model is registered here yet; `marauder train` registers what it trains.")
        return
    rows = []
    for name in projects:
        versions = registry.versions(name)
        at = {alias: one.version for one in versions for alias in one.aliases}
        rows.append(
            [name, str(len(versions)), *(at.get(alias, "–") for alias in ("production", "previous", "candidate"))]
        )
    _print_table("", ("project", "versions", "production", "previous", "candidate"), rows, numeric=range(1, 5))


@app.command()
def show(
    project: Project,
    version: Version,
    kind: Kind = None,
    option: Options = None,
    config: Config = None,
    runs: Runs = None,
) -> None:
    """All that is known of one version: figures, tags, files, and its promotions."""
    registry = _open(kind, option, config, runs).registry
    found = registry.require(project, version)
    facts = {
        "version": found.version + "".join(f", {alias}" for alias in found.aliases),
        "run": found.run_id,
        "verdict": found.verdict,
        "registered": _moment(found.created),
        "weights": f"SHA-256 {found.weights_sha256}",
        "files in": found.location,
    }
    _print_table(project, ("", ""), list(facts.items()))
    metrics = [[name, _figure(value)] for name, value in sorted(found.metrics.items())]
    _print_table("figures", ("figure", "value"), metrics, numeric=(1,))
    _print_table("tags", ("tag", "value"), sorted(found.tags.items()))
    _print_table("files", ("file", "SHA-256"), sorted(registry.files(found).items()))
    entries = [one for one in registry.promotions(project) if found.version in (one["version"], one["before"])]
    done = [one for one in entries if one["state"] == "done"]
    rows = [
        (_moment(one["time"]), one["action"], one["before"] or "–", one["version"], one["who"], _why(one))
        for one in done
    ]
    _print_table("promotions", ("when", "what", "from", "to", "who", "why"), rows)


@app.command()
def promote(
    project: Project,
    version: Version,
    override: Annotated[
        bool, typer.Option("--override", help="Promote although the gates refuse it; needs --who and --why.")
    ] = False,
    who: Who = None,
    why: Why = "",
    kind: Kind = None,
    option: Options = None,
    config: Config = None,
    runs: Runs = None,
) -> None:
    """Put a version into production if its gates say pass or warn; what was there becomes `previous`."""
    from marauder.registry.promotion import Override
    from marauder.registry.promotion import promote as put_into_production

    opened = _open(kind, option, config, runs)
    # Not the account's name: who overrides a gate says so.
    override_by = Override(who or "", why) if override else None
    with opened.emitting(project) as emit:
        done = put_into_production(opened.registry, project, version, who or _me(), why, override_by, emit)
    typer.echo(f"in production: {project} version {done.version} (run {done.run_id}, verdict {done.verdict})")
    from marauder.registry.base import PREVIOUS

    before = opened.registry.find(project, PREVIOUS)
    if before is None or before.version == done.version:
        return  # the first one in production has none before it to go back to
    # The way back must lead to the same registry.
    where = [*(["--registry", kind] if kind else []), *(word for one in option or () for word in ("--option", one))]
    where += [*(["--config", str(config)] if config else []), *(["--runs", str(runs)] if runs else [])]
    typer.echo(f"to take it back: {shlex.join(['marauder', 'registry', 'rollback', project, *where])}")


@app.command()
def rollback(
    project: Project,
    who: Who = None,
    why: Why = "",
    kind: Kind = None,
    option: Options = None,
    config: Config = None,
    runs: Runs = None,
) -> None:
    """Put the version before back into production. A second rollback undoes the first."""
    from marauder.registry.promotion import rollback as put_back

    opened = _open(kind, option, config, runs)
    with opened.emitting(project) as emit:
        done = put_back(opened.registry, project, who or _me(), why, emit)
    typer.echo(f"in production again: {project} version {done.version} (run {done.run_id}, verdict {done.verdict})")


@app.command()
def compare(
    project: Project,
    first: Version,
    second: Version,
    metric: Annotated[list[str] | None, typer.Option(help="Figure to compare; default: those of its task.")] = None,
    kind: Kind = None,
    option: Options = None,
    config: Config = None,
    runs: Runs = None,
) -> None:
    """Two versions side by side, overall and slice by slice, and which is better where."""
    from marauder.core.metrics import compared
    from marauder.registry.comparison import compare_reports, differences_of_data, summary
    from marauder.runs.task_description import describe_task

    registry = _open(kind, option, config, runs).registry
    versions = [registry.require(project, name) for name in (first, second)]
    if versions[0].version == versions[1].version:
        typer.echo(f"{first} and {second} are the same version of {project}, {versions[0].version}: nothing to compare")
        return
    left, right = (_report(registry, version) for version in versions)
    for metric_name in metric or compared(describe_task(versions[0].tags.get("task", "detection")).metrics):
        rows = compare_reports(left, right, metric_name)
        columns = ("slice", "pictures", *(f"version {one.version}" for one in versions), "difference", "reading")
        _print_table(f"{project}: {metric_name}", columns, [_compared(row) for row in rows], numeric=(1, 2, 3, 4))
        typer.echo(summary(rows))
    for remark in differences_of_data(left, right):
        typer.echo(f"Careful: {remark}.")
    typer.echo(
        f"The first is version {versions[0].version}, the second version {versions[1].version}; * marks protected "
        "slices. Better: the 95 % interval of the paired difference excludes 0; without one, the versions' intervals "
        "do not overlap."
    )


@dataclass(frozen=True)
class _Opened:
    registry: Registry
    runs: Path
    events: EventSettings

    @contextmanager
    def emitting(self, project: str) -> Iterator[Emit]:
        """The outbox of promotions, delivering to the sinks that the settings name."""
        from marauder.messaging.outbox import Outbox

        with Outbox(self.runs / EVENTS_FOLDER / "outbox.jsonl", self.events, project) as outbox:
            yield outbox.emit


def _open(kind: str | None, option: Sequence[str] | None, config: Path | None, runs: Path | None) -> _Opened:
    from marauder.core.errors import UserError
    from marauder.core.layers import Layer, add_values, read_layer
    from marauder.core.settings import Settings, validate_layer
    from marauder.messaging.settings import EventSettings
    from marauder.registry.opening import open_registry
    from marauder.registry.settings import RegistrySettings

    # These three alone: a promotion must not fail over a setting that concerns training.
    class Sections(Settings):
        registry: RegistrySettings = RegistrySettings()
        events: EventSettings = EventSettings()
        runs: Path = Path("runs")

    layer = Layer({}, {})
    if config is not None:
        whole = read_layer(config)
        content = {name: whole.content[name] for name in Sections.model_fields if name in whole.content}
        layer = Layer(content, whole.places, whole.name)
        section = content.get("registry")
        if kind is not None and isinstance(section, dict) and section.get("kind") != kind:
            section.pop("options", None)  # they are those of another registry
    overrides = [f"registry.kind={kind}"] if kind is not None else []
    overrides += [f"registry.options.{text}" for text in option or ()]
    settings = validate_layer(Sections, add_values(layer, overrides, None, {"runs": runs}))
    registry = open_registry(settings.registry, settings.runs)
    if registry is None:
        raise UserError("the registry is switched off (kind none); name one with --registry files or --registry mlflow")
    return _Opened(registry, settings.runs, settings.events)


def _show_versions(registry: Registry, project: str) -> None:
    from marauder.core.metrics import compared
    from marauder.runs.task_description import describe_task

    versions = registry.versions(project)
    if not versions:
        registry.require(project, "1")  # says which projects there are
    known = compared(describe_task(versions[0].tags.get("task", "detection")).metrics)
    names = [name for name in known if any(name in one.metrics for one in versions)]
    rows = [
        [
            one.version,
            ", ".join(one.aliases),
            one.verdict
            + (", withheld" if one.withheld else "")
            + (", overridden" if one.tags.get("promoted_override") else ""),
            *(_figure(one.metrics.get(name)) for name in names),
            _moment(one.created),
            one.run_id,
        ]
        for one in versions
    ]
    numeric = (0, *range(3, 3 + len(names)))
    _print_table(project, ("version", "aliases", "verdict", *names, "registered", "run"), rows, numeric)


def _report(registry: Registry, version: ModelVersion) -> Plain:
    """The version's evaluation; without one, its registered figures."""
    import tempfile

    from marauder.core.files import read_json

    if REPORT not in registry.files(version):
        return {"overall": dict(version.metrics)}
    # Registries may be servers: one file is fetched, not the weights.
    with tempfile.TemporaryDirectory() as folder:
        registry.fetch(version, Path(folder), (REPORT,))
        content = read_json(Path(folder) / REPORT)
    return content if isinstance(content, dict) else {}


def _compared(row: ComparedSlice) -> list[str]:
    pictures = [side.pictures for side in (row.left, row.right)]
    count = (
        str(pictures[0]) if pictures[0] == pictures[1] else " / ".join("–" if n is None else str(n) for n in pictures)
    )
    # NaN is not equal to itself.
    difference = "–" if row.difference != row.difference else f"{row.difference:+.3f}"
    if row.paired is not None:
        difference += f" [{row.paired[0]:+.3f}, {row.paired[1]:+.3f}]"
    name = row.name + (" *" if row.protected else "")
    return [name, count.replace("None", "–"), _side(row.left), _side(row.right), difference, row.reading]


def _side(side: Side) -> str:
    bounds = "" if side.interval is None else f" [{side.interval[0]:.3f}, {side.interval[1]:.3f}]"
    return _figure(side.value) + bounds


def _figure(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _why(entry: Plain) -> str:
    return ("overridden: " if entry["override"] else "") + str(entry["why"])


def _moment(seconds: float) -> str:
    from marauder.core.wording import local_time

    return local_time(seconds)


def _me() -> str:
    import getpass

    from marauder.core.errors import UserError

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise UserError("this account has no name; say who decides with --who NAME") from None


def _print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] | range = ()
) -> None:
    from marauder.core.text_table import screen_width, table_lines

    for line in table_lines(columns, [[str(cell) for cell in row] for row in rows], numeric, title, screen_width()):
        typer.echo(line)
