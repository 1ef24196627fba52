"""Commands that do a gated run, from one factory: options are settings, what else they take is the same for all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from marauder.cli.options import (
    ConfigFile,
    MaxHours,
    Option,
    annotations_of,
    flags_of,
    function_of,
    parameter_name,
    values_of,
)
from marauder.cli.resuming import ResumableCommand, Resume, settings_and_start
from marauder.core.mistakes import Mistakes
from marauder.core.plain import Plain

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.runs.gated import RunSummary
    from marauder.runs.settings import RunSettings


@dataclass(frozen=True)
class Flag:
    """A switch that chooses what the command does."""

    flag: str
    help: str


class HasEnded(Protocol):
    """What a run leaves, as far as this module cares."""

    @property
    def exit_status(self) -> int:
        """Of the command."""


@dataclass(frozen=True)
class RunCommand:
    """A command. ``settings``: ``module:class`` of its settings, imported when it is called.

    ``run`` does the work (default: the gated run) with settings, clock, a checkpoint that was named, and whether
    ``--fresh`` and ``--resume`` were given; ``show`` tells how it ended; ``before`` gets the flags that were
    given and says whether there is something to run.
    """

    name: str
    help: str
    settings: str
    options: tuple[Option, ...]
    show: Callable[[Any, Any], None]
    example: str
    run: Callable[[Any, Clock, Path | None, bool, bool], HasEnded] | None = None
    flags: tuple[Flag, ...] = ()
    before: Callable[[Any, frozenset[str]], bool] | None = None

    def app(self) -> typer.Typer:
        """The command for the command line."""
        words = Annotated[list[str] | None, typer.Argument(help=f"any setting, as key=value: {self.example}")]
        switches = {
            parameter_name(one.flag): Annotated[bool | None, typer.Option(one.flag, help=one.help)]
            for one in (*self.flags, FRESH)
        }
        annotations = {"overrides": words, **annotations_of((*self.options, *COMMON)), **switches, **ALWAYS}
        app = typer.Typer(add_completion=False)
        command = app.command(
            name=self.name, cls=ResumableCommand.of(self.settings), no_args_is_help=True, help=self.help
        )
        command(function_of(annotations, self._call))
        return app

    def _call(self, given: Plain) -> None:
        fresh = bool(given["fresh"])
        settings, resume, budget = settings_and_start(
            lambda found: self._load(given, found), given["resume"], fresh, given["max_hours"]
        )
        flags = frozenset(one.flag for one in self.flags if given[parameter_name(one.flag)])
        if self.before is not None and not self.before(settings, flags):
            return
        with budget.listening() as clock:
            summary: HasEnded = (self.run or _run_gated)(settings, clock, resume, fresh, given["resume"] is not None)
        if speaks():
            self.show(settings, summary)
        # A failed gate is a finished run, told in full, with a status of its own.
        raise typer.Exit(summary.exit_status)

    def _load(self, given: Plain, found: Mistakes) -> RunSettings:
        from marauder.core.layers import add_values
        from marauder.core.plugins import imported
        from marauder.core.settings import examine_layer
        from marauder.runs.recipes import check_run, run_layer

        model: type[RunSettings] = imported(self.settings)
        options = (*self.options, *COMMON)
        flags = flags_of(options)
        layer = run_layer(given["config"], given["overrides"] or [], flags, values_of(options, given, found))
        # What is wrong with ``training`` itself is reported below.
        if given["accumulate"] is not None and isinstance(layer.content.get("training", {}), Mapping):
            flags["training.micro_batch_size"] = "--accumulate"
            known, _ = examine_layer(model, layer, flags)
            # The batch is that of all processes, and so is the number of pieces it is cut into; rounded up, none is
            # left over.
            size = -(-known.training.batch_size // (given["accumulate"] * known.processes))
            layer = add_values(layer, [], flags, {"training.micro_batch_size": size})
        return check_run(layer, flags, model)


COMMON = (
    Option("--output", Path, "folder for weights, figures and report"),
    Option("--epochs", int, "passes over the training pictures", "training.epochs"),
    Option("--batch-size", int, "pictures of one update, over all processes", "training.batch_size"),
    Option("--imgsz", int, "pixels of the long side, a multiple of 32", "image_size"),
    Option("--processes", int, "training processes on this machine, one for each GPU"),
    Option("--device", str, "auto, cpu, cuda or cuda:N", "training.device"),
)
"""Settings that every training has."""
FRESH = Flag("--fresh", "start over, deleting the former checkpoints")
ALWAYS: Plain = {
    "config": ConfigFile,
    "accumulate": Annotated[
        int | None, typer.Option(min=1, help="forward passes that an update is cut into, where memory is short")
    ],
    "resume": Resume,
    "max_hours": MaxHours,
}


def speaks() -> bool:
    """Whether this process tells the user how it ended: one of several does, the launching one or torchrun's first."""
    from marauder.launch.processes import launched_by_marauder

    return not launched_by_marauder() and os.environ.get("RANK", "0") == "0"


def _run_gated(settings: RunSettings, clock: Clock, resume: Path | None, fresh: bool, asked: bool) -> RunSummary:
    from marauder.runs.gated import run_gated

    return run_gated(settings, clock, resume, fresh, asked_to_resume=asked)
