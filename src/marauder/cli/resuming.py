"""``--resume``, which means the same for every command: alone it goes on from the newest, with a path from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

import typer
from typer.core import TyperCommand

from marauder.core.clock import Clock
from marauder.core.mistakes import OPTION, Mistake, Mistakes, MistakesError

if TYPE_CHECKING:
    from marauder.core.settings import AnySettings

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What the parser raises for words that it cannot take; typer has it from one package or another, by its version."""
WITH_CHECKPOINTS = ("train", "pretrain", "baseline", "critical", "multiscale")
"""The commands that train: a word behind their ``--resume`` can be a checkpoint. Elsewhere it is an input."""
PLACE = "option --resume"
NEWEST = "newest"
"""What stands for a checkpoint where ``--resume`` names none."""


class ResumableCommand(TyperCommand):
    """A command whose ``--resume`` takes a checkpoint or nothing, and which says of an option that it does not have
    which setting was meant."""

    settings: ClassVar[str] = ""
    """``module:class`` of its settings; empty: nothing is said of unknown options but that they are."""

    @classmethod
    def of(cls, settings: str) -> type[Self]:
        """The class of a command with these settings (``module:class``)."""
        return type(cls.__name__, (cls,), {"settings": settings})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put a value behind a ``--resume`` that has none, for the parser knows only options with one."""
        try:
            return super().parse_args(ctx, with_value(args, self.name in WITH_CHECKPOINTS))
        except UsageError as error:
            # Only of an option that there is not; what is wrong with the value of another one is said by the parser.
            option = str(getattr(error, "option_name", None) or "")
            known = {name for one in self.params for name in (*one.opts, *one.secondary_opts)}
            meant = self._meant(option) if option.startswith("--") and option not in known else ""
            if not meant:
                raise
            raise MistakesError([Mistake(f"no such option here: {meant}", f"{OPTION}{option}")]) from None

    def _meant(self, option: str) -> str:
        from marauder.core.plugins import imported
        from marauder.core.setting_mistakes import typed_as

        word = option.removeprefix("--").replace("-", "_")
        return typed_as(imported(self.settings), word) if self.settings else ""


def with_value(words: Sequence[str], takes_checkpoint: bool) -> list[str]:
    """The words of a command line, each ``--resume`` with its checkpoint or with ``newest``."""
    found: list[str] = []
    for word, following in zip_longest(words, words[1:]):
        found.append(word)
        if word == "--resume" and not (takes_checkpoint and _can_be_checkpoint(following)):
            found.append(NEWEST)
    return found


Resume = Annotated[
    str | None,
    typer.Option("--resume", metavar="[CHECKPOINT]", help="continue from the newest checkpoint, or from the one named"),
]


def checkpoint(resume: str | None, fresh: bool, has_checkpoints: bool = True) -> Path | None:
    """The checkpoint that ``--resume`` names; ``None``: the newest, as without the option.

    Raises ``UserError`` beside ``--fresh``, and for ``--resume=CHECKPOINT`` of a command that has none.
    """
    if resume is not None and fresh:
        raise _mistake("continues, and --fresh starts over; give only one of them")
    if resume is None or resume == NEWEST:
        return None
    if not has_checkpoints:
        raise _mistake(f"{resume}: this command has no checkpoints to choose from; --resume alone continues")
    return Path(resume)


def _mistake(words: str) -> MistakesError:
    return MistakesError([Mistake(words, PLACE)])


def settings_and_start(
    load: Callable[[Mistakes], AnySettings],
    resume: str | None,
    fresh: bool,
    max_hours: float | None,
    has_checkpoints: bool = True,
) -> tuple[AnySettings, Path | None, Clock]:
    """What a command does its work with: settings, checkpoint, clock. ``load`` makes the settings; what it finds beside
    what it raises it puts into the list that it is given. Raises one ``UserError`` with the mistakes of all of them."""
    found = Mistakes()
    start, clock, settings = None, Clock(), None
    with found.gathered():
        settings = load(found)
    with found.gathered():
        clock = Clock.for_hours(max_hours)
    with found.gathered():
        start = checkpoint(resume, fresh, has_checkpoints)
    # Otherwise the run looks for it next, and knows which ones there are.
    if found.found and start is not None and not start.exists():
        found.add([Mistake(f"{start}: no such checkpoint; name one of the run's, or leave it away", PLACE)])
    found.demand_none()
    assert settings is not None
    return settings, start, clock


def _can_be_checkpoint(word: str | None) -> bool:
    """Whether the word after ``--resume`` is neither an option nor a setting nor a file of settings."""
    if word is None or word.startswith("-") or word.endswith((".yaml", ".yml")):
        return False
    return "=" not in word or Path(word).exists()


def going_on(words: Sequence[str], takes_checkpoint: bool) -> list[str]:
    """A command line without ``--fresh`` and without ``--resume`` and its checkpoint: what goes on is the newest."""
    kept: list[str] = []
    waiting = False
    for word, following in zip_longest(words, words[1:]):
        if waiting or word == "--fresh" or word.startswith("--resume="):
            waiting = False
        elif word == "--resume":
            waiting = takes_checkpoint and _can_be_checkpoint(following)
        else:
            kept.append(word)
    return kept
