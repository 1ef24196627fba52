"""Runs every step of the pipeline that needs it: the same as ``marauder pipeline run``, from a checkout.

python training/train_all.py [--config F] [--root DIR] [--only/--from/--to STEP] [--max-hours H] [--dry-run]
                             [step.setting=value ...]
"""

from __future__ import annotations

import typer

from marauder.cli.main import run_program
from marauder.cli.pipeline import run


def command_line() -> typer.Typer:
    """The options and arguments, those of ``marauder pipeline run``."""
    app = typer.Typer(add_completion=False)
    app.command()(run)
    return app


def main() -> None:
    """Parse the command line and run; errors become words and exit statuses as for every command."""
    run_program(typer.main.get_command(command_line()))


if __name__ == "__main__":
    main()
