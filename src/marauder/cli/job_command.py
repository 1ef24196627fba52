"""Commands that do a job, from one factory: options are settings, what else they take is the same for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marauder.cli.options import (
    ConfigFile,
    MaxHours,
    Option,
    annotations_of,
    flags_of,
    function_of,
    values_of,
)
from marauder.cli.resuming import ResumableCommand, Resume, settings_and_start
from marauder.core.errors import printable
from marauder.core.mistakes import Mistakes
from marauder.core.plain import Plain

if TYPE_CHECKING:
    from marauder.core.settings import Settings


@dataclass(frozen=True)
class JobCommand:
    """A command.

    ``settings``: ``module:class`` of its settings, and ``job``: ``module:function`` that takes them and a clock; both
    are imported when they are needed. ``show`` tells how it ended (default: its ``message()``). ``prepare`` gets the
    settings before the job is imported, and may change them. ``words``: help of the words that are not options,
    ``metavar`` what they are called; they are settings as key=value, and where ``listed`` names a setting of several
    values, the other words are values of it. ``fixed``: settings that the command decides. ``load`` makes the settings
    (default: of the file, the words and the options).
    """

    name: str
    help: str
    settings: str
    options: tuple[Option, ...]
    job: str
    words: str = "any setting, as key=value"
    metavar: str = "[KEY=VALUE]..."
    listed: str | None = None
    no_args_is_help: bool = True
    fixed: Plain = field(default_factory=dict)
    show: Callable[[Any, Any], None] = lambda _, summary: typer.echo(printable(summary.message()))
    prepare: Callable[[Any], Any] = lambda settings: settings
    load: Callable[[Path | None, list[str], dict[str, str], Plain], Settings] | None = None

    def app(self) -> typer.Typer:
        """The command for the command line, alone."""
        app = typer.Typer(add_completion=False)
        self.add_to(app)
        return app

    def add_to(self, app: typer.Typer) -> None:
        """Make it one of the commands of ``app``."""
        annotations = {
            "words": Annotated[list[str] | None, typer.Argument(metavar=self.metavar, help=self.words)],
            **annotations_of(self.options),
            "config": ConfigFile,
            "resume": Resume,
            "max_hours": MaxHours,
        }
        command = app.command(
            name=self.name, cls=ResumableCommand.of(self.settings), no_args_is_help=self.no_args_is_help, help=self.help
        )
        command(function_of(annotations, self._call))

    def _call(self, given: Plain) -> None:
        from marauder.core.plugins import imported

        fresh = bool(given.get("fresh"))
        settings, _, budget = settings_and_start(
            lambda found: self._load(given, found), given["resume"], fresh, given["max_hours"], has_checkpoints=False
        )
        # The job's module comes last, for it may load torch: mistakes are reported at once.
        settings = self.prepare(settings)
        output: Path | None = getattr(settings, "output", None)
        if given["resume"] is not None and output is not None and not (output.is_dir() and any(output.iterdir())):
            typer.echo(printable(f"nothing to resume in {output}: starts from the beginning"), err=True)
        with budget.listening() as clock:
            summary = imported(self.job)(settings, clock)
        self.show(settings, summary)

    def _load(self, given: Plain, found: Mistakes) -> Settings:
        from marauder.core.plugins import imported
        from marauder.core.settings import load_checked

        values = values_of(self.options, given, found) | self.fixed
        overrides = list(given["words"] or [])
        if self.listed is not None:
            # A file may have "=" in its name.
            overrides = [word for word in overrides if "=" in word and not Path(word).exists()]
            more = [word for word in given["words"] or [] if word not in overrides]
            values[self.listed] = [*(values.get(self.listed) or []), *more] or None
        flags = ({self.listed: self.metavar} if self.listed else {}) | flags_of(self.options)
        if self.load is not None:
            return self.load(given["config"], overrides, flags, values)
        return load_checked(imported(self.settings), given["config"], overrides, flags, **values)
