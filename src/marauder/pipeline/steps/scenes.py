"""A preparation before step 0, only when configured: generate reef pictures into the workspace, for demonstrations."""

from __future__ import annotations

from typing import Any

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace, remove_folder


class Scenes(Step):
    """Nothing to ``images/marauder``."""

    number, name, title, optional = -1, "scenes", "generated reef pictures", True

    def settings_model(self) -> type[Settings]:
        """``SceneSettings``."""
        from marauder.scenes.settings import SceneSettings

        return SceneSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The output."""
        return {"output": workspace.images / "marauder", "fresh": False}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """Nothing but the settings."""
        return ()

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The folder of pictures and labels."""
        return (Artifact("generated scenes", settings.output),)

    def run(self, context: StepContext) -> PlainMapping:
        """Generate, or continue generating."""
        from marauder.scenes.writing import generate_scenes

        settings = context.settings
        if context.fresh and (settings.output / ".scenes").is_dir():  # never anybody's own pictures
            remove_folder(settings.output)
        context.begun()
        generate_scenes(settings, context.clock)
        return {"pictures": settings.count, "clips": settings.number_of_clips}


STEP = Scenes()
