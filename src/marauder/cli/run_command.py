"""Commands that do a gated run, from one factory: options are settings, what else they take is the same for all."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marauder.cli.resuming import ResumableCommand, Resume, checkpoint
from marauder.core.plain import Plain

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.runs.gated import RunSummary
    from marauder.runs.settings import RunSettings


@dataclass(frozen=True)
class Option:
    """An option that gives a setting, by its dotted name. ``kind``: what the words are read as."""

    flag: str
    setting: str
    kind: type
    help: str


@dataclass(frozen=True)
class Flag:
    """A switch that chooses what the command does."""

    flag: str
    help: str


@dataclass(frozen=True)
class RunCommand:
    """A command. ``settings``: ``module:class`` of its settings, imported when it is called.

    ``run`` does the work (default: the gated run), ``show`` tells how it ended; ``before`` gets the flags that were
    given and says whether there is something to run.
    """

    name: str
    help: str
    settings: str
    options: tuple[Option, ...]
    show: Callable[[Any, RunSummary], None]
    example: str
    run: Callable[[Any, Clock, Path | None, bool], RunSummary] | None = None
    flags: tuple[Flag, ...] = ()
    before: Callable[[Any, frozenset[str]], bool] | None = None

    def app(self) -> typer.Typer:
        """The command for the command line."""
        app = typer.Typer(add_completion=False)
        app.command(name=self.name, cls=ResumableCommand, no_args_is_help=True, help=self.help)(self._function())
        return app

    def _function(self) -> Callable[..., None]:
        """A function whose parameters are the options, as typer reads them."""

        def command(**given: Any) -> None:
            self._call(given)

        options = (*self.options, *COMMON)
        words = Annotated[list[str] | None, typer.Argument(help=f"any setting, as key=value: {self.example}")]
        parameters = [_parameter("overrides", words, None)]
        parameters += [
            _parameter(_name(one.flag), Annotated[one.kind | None, typer.Option(one.flag, help=one.help)], None)
            for one in options
        ]
        parameters += [
            _parameter(_name(one.flag), Annotated[bool, typer.Option(one.flag, help=one.help)], False)
            for one in (*self.flags, FRESH)
        ]
        parameters += [_parameter(name, annotation, None) for name, annotation in ALWAYS.items()]
        # Typer reads the signature and, for ``Annotated``, the annotations.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        return command

    def _call(self, given: Plain) -> None:
        from marauder.core.clock import Clock

        options = (*self.options, *COMMON)
        fresh, resume = given["fresh"], checkpoint(given["resume"], given["fresh"])
        settings = self._load(given, {one.setting: given[_name(one.flag)] for one in options})
        flags = frozenset(one.flag for one in self.flags if given[_name(one.flag)])
        if self.before is not None and not self.before(settings, flags):
            return
        with Clock.for_hours(given["max_hours"]).listening() as clock:
            summary = (self.run or _run_gated)(settings, clock, resume, fresh)
        if speaks():
            self.show(settings, summary)
        # A failed gate is a finished run, told in full, with a status of its own.
        raise typer.Exit(summary.exit_status)

    def _load(self, given: Plain, values: Plain) -> RunSettings:
        from marauder.core.settings import add_values, examine_layer
        from marauder.runs.recipes import check_run, run_layer

        module, _, name = self.settings.partition(":")
        model: type[RunSettings] = getattr(import_module(module), name)
        flags = {one.setting: one.flag for one in (*self.options, *COMMON)}
        layer = run_layer(given["config"], given["overrides"] or [], flags, values)
        if given["accumulate"] is not None:
            flags["training.micro_batch_size"] = "--accumulate"
            known, _ = examine_layer(model, layer, flags)
            # The batch is that of all processes, and so is the number of pieces it is cut into; rounded up, none is
            # left over.
            size = -(-known.training.batch_size // (given["accumulate"] * known.processes))
            layer = add_values(layer, [], flags, {"training.micro_batch_size": size})
        return check_run(layer, flags, model)


COMMON = (
    Option("--output", "output", Path, "folder for weights, figures and report"),
    Option("--epochs", "training.epochs", int, "passes over the training pictures"),
    Option("--batch-size", "training.batch_size", int, "pictures of one update, over all processes"),
    Option("--imgsz", "image_size", int, "pixels of the long side, a multiple of 32"),
    Option("--processes", "processes", int, "training processes on this machine, one for each GPU"),
    Option("--device", "training.device", str, "auto, cpu, cuda or cuda:N"),
)
"""Settings that every training has."""
FRESH = Flag("--fresh", "start over, deleting the former checkpoints")
ALWAYS: Plain = {
    "config": Annotated[Path | None, typer.Option(help="settings file (YAML); options here take precedence over it")],
    "accumulate": Annotated[
        int | None, typer.Option(min=1, help="forward passes that an update is cut into, where memory is short")
    ],
    "resume": Resume,
    "max_hours": Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")],
}


def speaks() -> bool:
    """Whether this process tells the user how it ended: one of several does, the launching one or torchrun's first."""
    from marauder.launch.processes import launched_by_marauder

    return not launched_by_marauder() and os.environ.get("RANK", "0") == "0"


def _run_gated(settings: RunSettings, clock: Clock, resume: Path | None, fresh: bool) -> RunSummary:
    from marauder.runs.gated import run_gated

    return run_gated(settings, clock, resume, fresh)


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
