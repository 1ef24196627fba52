"""What a step of the pipeline is: settings, what it reads, what it writes, and the work between.

A step joins the pipeline by a file in ``pipeline/steps/`` that defines ``STEP``. Importing that file must stay light:
settings models and the work itself are imported inside the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from marauder.core.clock import Clock
from marauder.core.decides import names
from marauder.core.mistakes import Mistake
from marauder.core.plain import PlainMapping
from marauder.core.settings import Decides, Places, Settings, further_mistakes
from marauder.pipeline.workspace import Workspace


@dataclass(frozen=True)
class Artifact:
    """A file or folder between steps. ``remedy`` says what to do when it is missing and no step produces it."""

    name: str
    path: Path
    remedy: str = ""


class Awaited(Exception):  # noqa: N818 - it is no error: the step did its part and continues later
    """A step pauses for something that comes from outside. ``what`` says what and where it goes, in words; ``arrived``
    is asked now and then, is quick, and says whether the step can continue."""

    def __init__(self, what: str, arrived: Callable[[], bool]) -> None:
        super().__init__(what)
        self.what, self.arrived = what, arrived


@dataclass(frozen=True)
class StepContext:
    """What a step is given to work with.

    ``settings`` is an instance of the step's model. ``clock`` must be asked between units of work; its budget is shared
    by all steps. ``fresh``: what an earlier run left must not be continued, because its settings or inputs were others
    or because the user asked to start over (``asked``); otherwise the step continues from what it finds. ``begun`` is
    called by the step once nothing of the earlier run can be taken up any more; killed before that, the next attempt
    is fresh too.
    """

    workspace: Workspace
    settings: Any
    clock: Clock
    fresh: bool
    asked: bool
    begun: Callable[[], None]


class Step(ABC):
    """One step. Subclasses set the four names and implement the four questions."""

    number: ClassVar[int]
    """Place in the order of steps, as the documentation counts them (negative: a preparation before step 0)."""
    name: ClassVar[str]
    """Name of the section in the pipeline's settings and of the folder in ``training/runs``."""
    title: ClassVar[str]
    """What the step does, in a few words."""
    optional: ClassVar[bool] = False
    """Whether the step runs only when the settings have a section for it."""
    version: ClassVar[int] = 1
    """Raised when the same settings and inputs would now give something else, so that finished work counts as stale."""

    @abstractmethod
    def settings_model(self) -> type[Settings]:
        """The model of the step's section."""

    @abstractmethod
    def placed(self, workspace: Workspace) -> PlainMapping:
        """Settings (by dotted name) that the workspace decides, such as output folders; users cannot set them here."""

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """Settings (by dotted name) that the workspace proposes where the user gives none, such as what an earlier step
        leaves; ``configured``: names of the steps that are part of this pipeline. Their values count as inputs, not as
        settings: a workspace can move."""
        return {}

    def suggested_for(self, detectors: Callable[[], Mapping[str, Path]], given: Collection[str]) -> PlainMapping:
        """Further settings that are proposed, for a step that takes trained detectors. ``detectors``: those that
        earlier steps leave, by name; ``given``: dotted names of what the user says of this step."""
        return {}

    def detectors(self, workspace: Workspace, settings: Any) -> Mapping[str, Path]:
        """The trained detectors that the step leaves, by names that are the same whatever other steps leave: model
        files, or folders of ensembles."""
        return {}

    def mistakes(self, settings: Any, places: Places) -> Iterable[Mistake]:
        """What is wrong with the step's settings beside their form, found before any step is touched."""
        return further_mistakes(settings, places)

    makes_classes: ClassVar[bool] = False
    """Whether the step decides the classes of the data set."""

    def class_names(self, settings: Any, clock: Clock, say: Callable[[str], None]) -> tuple[str, ...] | None:
        """The classes of the data set that the step will make; ``None``: they are not known yet. Reads the sources
        where it must, which may take long: ``say`` tells of it, ``Interrupted`` ends it in time."""
        return None

    def unlabelled(self, settings: Any, clock: Clock, say: Callable[[str], None]) -> int | None:
        """How many pictures without labels the data set will have that the step will make; ``None``: not known yet.
        As ``class_names``, it may take long."""
        return None

    def without_effect(self) -> frozenset[str]:
        """Dotted names of settings that change no result: changing them makes nothing stale."""
        return names(self.settings_model(), Decides.PLACE, Decides.NOTHING)

    def continued(self) -> frozenset[str]:
        """Dotted names of settings whose change makes the step stale, but lets it continue from what is there."""
        return names(self.settings_model(), Decides.LENGTH, Decides.MEASUREMENT)

    @abstractmethod
    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """What the step reads."""

    @abstractmethod
    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """What must exist when the step is done, and is its result for later steps."""

    @abstractmethod
    def run(self, context: StepContext) -> PlainMapping:
        """Do the work, or continue with it; return a summary for people.

        The summary holds plain values; ``report`` is a file to open, as a path from the workspace's root.

        Raises ``Interrupted`` when the clock says to stop, everything saved; ``Awaited`` to pause.
        """
