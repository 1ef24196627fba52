"""Step 0 of the pipeline: bring all sources into one split data set; restore colour and contrast where that is asked.

``images/*`` is organized into ``datasets/organized`` (links), preprocessed into ``datasets/preprocessed``, and
published as ``datasets/data.yaml``, which names its folders from where it lies, so that Ultralytics opens it and it
can be moved.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.core.wording import counted
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

OWN_PICTURES = "marauder"
"""Folder below ``images`` for pictures of one's own: the source that is waited for where there is none."""


class Preprocessing(Step):
    """``images/*`` to ``training/datasets/data.yaml``."""

    number, name, title = 0, "preprocessing", "one data set"
    version = 2  # pictures with labels that say nothing are set aside

    def settings_model(self) -> type[Settings]:
        """The settings of organizing and of enhancing, side by side."""
        from marauder.data.organize import OrganizeSettings
        from marauder.preprocessing.settings import PreprocessingSettings

        class EnhancingSettings(PreprocessingSettings):
            """As ``marauder preprocess`` has them, but off: detectors gained nothing, and those trained on enhanced
            pictures lost where they saw raw ones, as every camera gives them (docs/evidence.md)."""

            method: str = "none"

        class PreprocessingStepSettings(Settings):
            """Both halves of step 0."""

            organize: OrganizeSettings
            enhance: EnhancingSettings

        return PreprocessingStepSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """Where both halves read and write, and that the first makes links."""
        organized, preprocessed = workspace.datasets / "organized", workspace.datasets / "preprocessed"
        return {
            "organize.output": organized,
            "organize.mode": "link",
            # Starting over is asked of the pipeline, which hands it on.
            "organize.fresh": False,
            "enhance.input": organized,
            "enhance.output": preprocessed,
            "enhance.fresh": False,
        }

    makes_classes = True

    def class_names(self, settings: Any, clock: Clock, say: Callable[[str], None]) -> tuple[str, ...] | None:
        """Those of the taxonomy, or of the sources, which are read."""
        from marauder.data.organize import names_of_sources
        from marauder.data.taxonomy import Taxonomy

        organize = settings.organize
        try:
            if organize is None or organize.taxonomy is None:
                return None
            if organize.taxonomy_file is not None:
                return Taxonomy.load(organize.taxonomy_file).class_names
            say(f"reading the labels of {counted(len(organize.inputs), 'source')} for the names of their classes")
            return names_of_sources(organize, clock)
        except UserError:
            return None  # a mistake of this step's settings, or of its sources, reported as such

    def unlabelled(self, settings: Any, clock: Clock, say: Callable[[str], None]) -> int | None:
        """Those of the sources, which are read."""
        from marauder.data.organize import unlabelled_of_sources

        organize = settings.organize
        try:
            if organize is None or not organize.inputs:
                return None
            say(f"reading the labels of {counted(len(organize.inputs), 'source')} for pictures without any")
            return unlabelled_of_sources(organize, clock)
        except UserError:
            return None  # reported as a mistake of the sources, or when they are read

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """Every folder below ``images`` that has a file in it is a source."""
        sources = [str(folder) for folder, empty in _folders(workspace).items() if not empty]
        # Without any source the folder for one's own is named, so that the status says where to put pictures.
        return {"organize.inputs": sources or [str(workspace.images / OWN_PICTURES)]}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The sources."""
        return tuple(
            Artifact(
                f"pictures of {workspace.relative(source)}",
                source,
                f"put labelled pictures into {source}, or name their folder: "
                "preprocessing.organize.inputs=[FOLDER] (docs/data.md shows the layouts)",
            )
            for source in settings.organize.inputs
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The finished data set."""
        return (
            Artifact("data set", workspace.data_yaml),
            Artifact("records", workspace.data_yaml.with_name("records.jsonl")),
            Artifact("pictures", settings.enhance.output / "images"),
            Artifact("labels", settings.enhance.output / "labels"),
        )

    def run(self, context: StepContext) -> PlainMapping:
        """Organize, preprocess, publish; both halves find out themselves what of earlier work still holds."""
        from marauder.data.organize import SUMMARY_FILE, in_words, organize
        from marauder.preprocessing.job import preprocess_folder

        # At once: both halves compare what lies there with settings and sources, and take up only what fits.
        context.begun()
        settings = context.settings
        organized = organize(settings.organize.changed({"fresh": context.asked}), context.clock)
        enhanced = preprocess_folder(settings.enhance.changed({"fresh": context.asked}), context.clock)
        # Of pictures without labels there are none, and the steps that need some say so.
        (settings.enhance.output / "labels").mkdir(exist_ok=True)
        # Last: data.yaml is what later steps look for.
        publish(settings.enhance.output, context.workspace.data_yaml)
        empty_folders = [folder for folder, empty in _folders(context.workspace).items() if empty]
        notes = [f"{context.workspace.relative(folder)} is empty and was left out" for folder in empty_folders]
        if enhanced.enhanced:
            notes.append("detectors trained on enhanced pictures have to see enhanced ones in use, too")
        return {
            "pictures": enhanced.pictures,
            "boxes": organized.boxes,
            "enhanced": enhanced.enhanced,
            "left_alone": enhanced.left_alone,
            "set_aside": len(organized.set_aside) + len(enhanced.set_aside),
            "set_aside_for": in_words(Counter(problem["kind"] for problem in organized.set_aside)),
            "problems": in_words(organized.problems),
            "names_without_a_class": ", ".join(list(organized.unmapped)[:8]) or "none",
            "notes": "; ".join([*notes, *organized.notes, *enhanced.notes]) or "none",
            "details": context.workspace.relative(settings.organize.output / SUMMARY_FILE),
            "report": context.workspace.relative(enhanced.report),
        }


def _folders(workspace: Workspace) -> dict[Path, bool]:
    """Folders below ``images``, and whether they are empty."""
    from marauder.data.reading import is_empty

    places = sorted(workspace.images.iterdir()) if workspace.images.is_dir() else []
    return {place: is_empty(place) for place in places if place.is_dir() and not place.name.startswith(".")}


def publish(folder: Path, data_yaml: Path) -> None:
    """Write ``data_yaml`` and its ``records.jsonl`` for the data set in ``folder``, which lies beside them.

    Both name files from where they lie. ``data_yaml`` is written last. Raises ``UserError`` for damaged records.
    """
    import yaml

    from marauder.core.files import write_text
    from marauder.core.layers import read_yaml_mapping
    from marauder.data.stored import stored_rows

    prefix = folder.relative_to(data_yaml.parent).as_posix()
    rows = []
    for row in stored_rows(folder):
        places = {key: f"{prefix}/{row[key]}" for key in ("file", "label") if key in row}
        rows.append(json.dumps({**row, **places}, ensure_ascii=False, sort_keys=True) + "\n")
    content = read_yaml_mapping(folder / "data.yaml")[0]
    entries = {key: f"{prefix}/{value}" if isinstance(value, str) else value for key, value in content.items()}
    # Before data.yaml: a reader that finds that one must find its records.
    write_text(data_yaml.with_name("records.jsonl"), "".join(rows))
    write_text(data_yaml, yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000))


STEP = Preprocessing()
