"""The ``marauder`` command: its groups, imported only when used, and the one place where errors become exit codes.

``Interrupted`` leaves with status 75 and the command that goes on, ``UserError`` with status 2 (a gate: 3) and words,
and so does an error of the operating system about a file that the user can mend (a full disk, no permission); any other
exception is a fault of the program and keeps its traceback.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from marauder.cli.resuming import WITH_CHECKPOINTS, going_on
from marauder.core.clock import EXIT_INTERRUPTED, Interrupted
from marauder.core.environment import share_cores, use_utf8
from marauder.core.errors import UserError, explain_file_error
from marauder.core.files import DamagedFileError
from marauder.core.version import __version__

EXIT_USER_ERROR = UserError.exit_status

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("marauder.cli.train:app", "A gated run: pinned data and a recipe in, a model with evidence out."),
    "config": ("marauder.cli.config:app", "Explain any setting of a run; list recipes."),
    "registry": ("marauder.cli.registry:app", "List, show, promote, roll back and compare registered models."),
    "runs": ("marauder.cli.runs:app", "List runs, and deliver what trackers and event sinks missed."),
    "manifest": ("marauder.cli.manifest:app", "Write, look into and pin manifests of labelled pictures."),
    "slices": ("marauder.cli.slices:app", "Check slices.yaml against the data, and show what each slice holds."),
    "pipeline": (
        "marauder.cli.pipeline:app",
        "Run the steps of the pipeline, each only if something changed.",
    ),
    "status": ("marauder.cli.pipeline:status_app", "Show the state of every step of a workspace, and why."),
    "data": (
        "marauder.cli.data:app",
        "Organize, check and split labelled pictures; make pictures of videos; generate reef scenes.",
    ),
    "preprocess": (
        "marauder.cli.preprocess:app",
        "Step 0: restore colour and contrast of underwater pictures.",
    ),
    "pretrain": ("marauder.cli.pretrain:app", "Step 1: pretrain the detector's backbone on unlabelled pictures."),
    "baseline": ("marauder.cli.baseline:app", "Step 2: train the baseline YOLO detector."),
    "select": ("marauder.cli.select:app", "Step 3: choose the pictures that are worth labelling."),
    "annotation": (
        "marauder.cli.annotation:app",
        "Step 4: send pictures out for annotation, check what comes back, and merge it.",
    ),
    "critical": ("marauder.cli.critical:app", "Step 5: specialise the detector on critical species."),
    "ensemble-nano": (
        "marauder.cli.ensemble_members:nano_app",
        "Step 6a: train an ensemble for a board in the field, and profile it.",
    ),
    "ensemble-shore": (
        "marauder.cli.ensemble_members:shore_app",
        "Step 6b: train the large ensemble for machines ashore.",
    ),
    "deployment": (
        "marauder.cli.deployment:app",
        "What an ensemble costs on a device: latency, memory, watt-hours a day.",
    ),
    "ensemble": (
        "marauder.cli.ensemble:app",
        "Fuse several detectors into one predictor, with what each of them adds.",
    ),
    "student": ("marauder.cli.student:app", "Step 6c: train one small detector, taught by an ensemble."),
    "multiscale": ("marauder.cli.multiscale:app", "Step 7: train detectors on at changing picture sizes."),
    "evaluate": (
        "marauder.cli.evaluate:app",
        "Measure a detector on labelled pictures, overall and by slice.",
    ),
    "predict": (
        "marauder.cli.predict:app",
        "Run a detector on pictures and videos: counts, MaxN, files for other tools, a page.",
    ),
    "calibrate": (
        "marauder.cli.calibrate:app",
        "Step 8: views, calibrated scores and thresholds of trained detectors.",
    ),
    "export": ("marauder.cli.export:app", "Step 9: write ONNX and TorchScript, checked against the model."),
}
"""Command name to the ``module:typer app`` behind it and the line that stands for it in the list of commands."""


class LazyGroup(TyperGroup):
    """A group that lists ``COMMANDS`` without importing them and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the command's name and line of help; ``resolve_command`` puts the real one in its place."""
        if cmd_name not in COMMANDS:
            return None
        # The list needs names and a line each; importing all commands for it would take seconds.
        return TyperCommand(name=cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the called command and import it."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, (load_command(name) if stand_in is not None and name is not None else stand_in), rest


def load_command(name: str) -> Any:
    """Import the command ``name`` of ``COMMANDS``: the parser that the command line uses, with its options."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = typer.main.get_command(getattr(import_module(module), attribute))
    # Typer names a command after its function; the table's name is what was typed.
    command.name = name
    return command


app = typer.Typer(
    name="marauder",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    help="From raw pictures to a checked, exported detector; nothing is lost if it is interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"marauder {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_print_version, is_eager=True),
) -> None:
    pass


def main() -> NoReturn:
    """Entry point of the ``marauder`` command."""
    run_program(typer.main.get_command(app))


def run_program(command: Callable[[], Any]) -> NoReturn:
    """``run_with_boundary`` as all that this process does."""
    # What the libraries loaded from here on put in order at the end comes before it.
    atexit.register(_leave_undismantled)
    run_with_boundary(command)


_stopped: list[str] = []
"""Why work stopped in time, once it did."""


def _leave_undismantled() -> None:
    """Whoever stopped the work waits for the prompt: taking the numerical libraries apart takes seconds."""
    if _stopped:
        logging.shutdown()  # registered earlier, it would come after this
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a pipe that nobody reads any more
                stream.flush()
        os._exit(EXIT_INTERRUPTED)


def run_with_boundary(command: Callable[[], Any]) -> NoReturn:
    """Call ``command`` and turn what it raises into words on standard error and an exit status."""
    # Before anything is printed; and ``share_cores`` before torch is imported, which looks once.
    use_utf8()
    share_cores()
    # Python sets handlers in the main thread only; tests and notebooks may call from another.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _leave_early)
    try:
        command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    # No ``UserError``: lower layers raise it, and some catch it to make the file anew.
    except DamagedFileError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        explained = explain_file_error(error)
        # What the user cannot mend is a fault, and keeps its traceback.
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except Interrupted as stop:
        _stopped.append(stop.reason)
        again = stop.resume_command or resume_command()
        print(
            f"\nstopped: {stop.reason}. Finished work is saved. To continue, run:\n  {again}",
            file=sys.stderr,
        )
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(0)


def _leave_early(number: int, _frame: FrameType | None) -> None:
    """Before and after a command listens itself (``core.clock``) there is nothing that would have to be saved."""
    # A handler may interrupt a print: ``os.write`` takes no lock, and ``_exit`` runs no clean-up that might wait.
    os.write(2, b"\nstopped: SIGTERM received. Finished work is saved. To continue, run the same command again\n")
    os._exit(EXIT_INTERRUPTED)


def resume_command() -> str:
    """The command line of this process, quoted for a shell, that continues the work.

    ``--fresh`` is left out, for it would start over, and so is ``--resume`` with its checkpoint: what goes on is the
    newest. A script that wraps the command says its own line in ``MARAUDER_RESUME_COMMAND``.
    """
    wrapper = os.environ.get("MARAUDER_RESUME_COMMAND")
    words = shlex.split(wrapper) if wrapper else [*_program(sys.argv[0]), *sys.argv[1:]]
    return shlex.join(going_on(words, any(word in WITH_CHECKPOINTS for word in sys.argv[1:2])))


def _program(path: str) -> list[str]:
    """How to call the running program again from the current folder."""
    if path.endswith(".py"):
        return [_short(sys.executable), path]
    # The short name only where it leads to this very program, not to another installation's.
    found = shutil.which("marauder")
    if found is not None and Path(found).resolve() == Path(path).resolve():
        return ["marauder"]
    return [_short(path)]


def _short(path: str) -> str:
    """``path`` relative to the current folder where it lies inside it."""
    absolute = Path(path).absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


if __name__ == "__main__":
    main()
