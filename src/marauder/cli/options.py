"""Options that are settings: said once, read by typer, handed on by the setting's name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from marauder.core.mistakes import OPTION, Mistakes
from marauder.core.plain import Plain

ConfigFile = Annotated[Path | None, typer.Option(help="settings file (YAML); options here take precedence over it")]
MaxHours = Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")]

FORMAT = "format of the labels: auto, or one of docs/formats.md (yolo, coco, voc, viame, biigle …)"
GROUP_PATTERN = "regular expression; pictures whose names agree in its (?P<clip>…) stay together"
MISSING_LABEL = "what a picture without a label file means: unlabelled (not checked) or empty"
NAMES = "class names in order, with commas, for sources that have none"
PICTURES = "folder of the pictures, where they are not beside their labels"

Format = Annotated[str, typer.Option(help=FORMAT)]
GroupPattern = Annotated[str | None, typer.Option(help=GROUP_PATTERN)]
MissingLabel = Annotated[str, typer.Option(help=MISSING_LABEL)]
Names = Annotated[str | None, typer.Option(help=NAMES)]
Pictures = Annotated[Path | None, typer.Option(help=PICTURES)]


@dataclass(frozen=True)
class Option:
    """An option that gives a setting.

    ``flags``: its names, the first of which is used in messages. ``kind``: what the words are read as. ``to``: the
    setting's dotted name, where it is not the option's own. ``read``: makes the setting's value of what was given; it
    may raise ``UserError``.
    """

    flags: str
    kind: Any
    help: str
    to: str = ""
    read: Callable[[Any], Any] | None = None

    @property
    def flag(self) -> str:
        """The first of its names."""
        return self.flags.replace("/", " ").split()[0]

    @property
    def name(self) -> str:
        """The parameter behind it."""
        return parameter_name(self.flag)

    @property
    def setting(self) -> str:
        """The dotted name of the setting that it gives."""
        return self.to or self.name


def parameter_name(flag: str) -> str:
    """``--max-hours`` to ``max_hours``."""
    return flag.removeprefix("--").replace("-", "_")


def annotations_of(options: Iterable[Option]) -> Plain:
    """Parameters as typer reads them: name to annotation."""
    return {one.name: Annotated[one.kind | None, typer.Option(*one.flags.split(), help=one.help)] for one in options}


def values_of(options: Iterable[Option], given: Plain, mistakes: Mistakes) -> Plain:
    """What was given, by the settings' names; ``None``: not given. What cannot be read is put among ``mistakes``."""
    found: Plain = {}
    for one in options:
        value = given[one.name]
        with mistakes.gathered(f"{OPTION}{one.flag}"):
            found[one.setting] = one.read(value) if one.read and value is not None else value
    return found


def flags_of(options: Iterable[Option]) -> dict[str, str]:
    """Settings to the options that give them, for messages."""
    return {one.setting: one.flag for one in options}


def function_of(annotations: Mapping[str, Any], call: Callable[[Plain], None]) -> Callable[..., None]:
    """A function with these parameters, each ``None`` where it is not given; it hands them on to ``call``."""

    def command(**given: Any) -> None:
        call(given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=None, annotation=one) for name, one in annotations.items()]
    # Typer reads the signature and, for ``Annotated``, the annotations.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = dict(annotations)
    return command
