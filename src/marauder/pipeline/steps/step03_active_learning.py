"""Step 3 of the pipeline: choose, among the unlabelled pictures, those that are worth labelling."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Places, Settings
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

log = logging.getLogger("marauder")
FOLDER = "selected"


class ActiveLearning(Step):
    """The unlabelled pictures of ``training/datasets/data.yaml`` to ``training/datasets/selected/``."""

    number, name, title, optional = 3, "active_learning", "pictures worth labelling", True

    def settings_model(self) -> type[Settings]:
        """``SelectionSettings``."""
        from marauder.selection.settings import SelectionSettings

        return SelectionSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The pool and the output."""
        return {"pool": workspace.data_yaml, "output": workspace.datasets / FOLDER, "fresh": False}

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The baseline looks at the pool."""
        return {"models": [str(workspace.model("baseline") / "best.pt")]}

    def mistakes(self, settings: Any, places: Places) -> Iterator[Mistake]:
        """Also a pool without a picture to choose, told before a detector is trained for it."""
        yield from super().mistakes(settings, places)
        pool, output = settings.pool, settings.output
        # What was chosen before may be all there is, and stays.
        if pool is None or output is None or (output / "selection.json").is_file():
            return
        nothing = ""
        if places.is_made(pool):
            if places.unlabelled() == 0:
                nothing = "every picture of the sources is labelled already, so there is nothing to choose"
        elif pool.exists():
            from marauder.selection.pool_reading import NothingToChooseError, read_pool

            try:
                read_pool(settings, places.clock)
            except NothingToChooseError as error:
                nothing = str(error)
            except UserError as error:
                # Not known yet: the step waits for what is missing, and reads and says it anew when its turn comes.
                log.debug("%s: whether there is a picture to choose is not known yet (%s)", self.name, error)
        if nothing:
            remedy = f"Add pictures without labels, leave {self.name} out, or end before it: --to baseline"
            yield Mistake(f"{self.name}: {nothing}. {remedy}", places.at())

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The pool, the detectors that look at it, and what is labelled elsewhere."""
        from marauder.exporting.folders import folder_names

        models = zip(folder_names(settings.models), settings.models)
        labelled = settings.labelled
        return (
            Artifact("data set", workspace.data_yaml),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            *(Artifact(f"detector {name}", path, f"{path} is missing") for name, path in models),
            *([Artifact("labelled pictures", labelled, f"{labelled} is missing")] if labelled is not None else []),
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The list of what was chosen, with the reasons, and its pictures."""
        folder = workspace.datasets / FOLDER
        return (
            Artifact("selection", folder / "selection.json"),
            Artifact("chosen pictures", folder / "images"),
            Artifact("selection report", folder / "report.html"),
        )

    def run(self, context: StepContext) -> PlainMapping:
        """Score the pool and choose, or continue. What was sent out for annotation stays chosen: another choice would
        mean paying for another delivery; ``--fresh`` chooses anew."""
        from marauder.selection.job import select_pictures

        # At once: what an earlier run found is taken up only where it fits.
        context.begun()
        settings = context.settings.changed({"fresh": context.asked})
        sent = None if context.asked else sent_selection(context.workspace)
        if sent is not None:
            return {**sent, "report": context.workspace.relative(settings.output / "report.html")}
        done = select_pictures(settings, context.clock)
        return {
            "pool": done.candidates,
            "chosen": done.picked,
            "strategy": done.strategy,
            "price": done.price,
            "set_aside": len(done.set_aside),
            "notes": "; ".join((*done.changes, *done.notes)) or "none",
            "report": context.workspace.relative(done.report),
        }


def sent_selection(workspace: Workspace) -> Plain | None:
    """What is chosen already and went out for annotation as it is; ``None`` where nothing did."""
    from marauder.annotation.batch import list_batches
    from marauder.core.files import read_json

    listed = workspace.datasets / FOLDER / "selection.json"
    if not listed.is_file():
        return None
    chosen = {pick["key"] for pick in read_json(listed)["picks"]}
    for batch in list_batches(workspace.annotation / "outbox"):
        # Exactly these: part of a choice that went out does not settle the rest.
        if {item.key for item in batch.items} == chosen:
            return {"chosen": len(chosen), "notes": f"went out as {batch.id}, so it stays as it was chosen"}
    return None


STEP = ActiveLearning()
