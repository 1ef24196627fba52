"""Step 4 of the pipeline: send the chosen pictures out for annotation, wait, check what comes back, and merge it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.pipeline.step import Artifact, Awaited, Step, StepContext
from marauder.pipeline.workspace import Workspace

log = logging.getLogger("marauder")
FOLDER = "annotated"


class Annotation(Step):
    """``datasets/selected`` to ``annotation/outbox``; ``annotation/inbox`` to ``datasets/annotated``."""

    number, name, title, optional = 4, "annotation", "labels from a provider", True

    def settings_model(self) -> type[Settings]:
        """``AnnotationSettings``."""
        from marauder.annotation.settings import AnnotationSettings

        return AnnotationSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The data set, where packages go and deliveries come, and the merged data set."""
        return {
            "data": workspace.data_yaml,
            "outbox": workspace.annotation / "outbox",
            "inbox": workspace.annotation / "inbox",
            "output": workspace.datasets / FOLDER,
        }

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """What step 3 chose, where there is one, and the baseline's boxes to start from."""
        chosen = {"selection": workspace.datasets / "selected"} if "active_learning" in configured else {}
        return {**chosen, "model": workspace.model("baseline") / "best.pt"}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The data set, the choice, and the detector behind the pre-labels; another detector sends nothing out anew."""
        selection = settings.selection
        given = [Artifact("selection", selection / "selection.json")] if selection is not None else []
        return (
            Artifact("data set", workspace.data_yaml),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            Artifact("labels", workspace.datasets / "preprocessed" / "labels"),
            Artifact("detector for pre-labels", settings.model, f"{settings.model} is missing"),
            *given,
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The merged data set and its pin."""
        folder = workspace.datasets / FOLDER
        return (
            Artifact("merged data set", folder / "data.yaml"),
            Artifact("merged records", folder / "records.jsonl"),
            Artifact("merged labels", folder / "labels"),
        )

    def run(self, context: StepContext) -> PlainMapping:
        """Export, once; then take in what lies in the inbox, or pause until something does. With ``accept`` the good
        part of a delivery is enough to continue."""
        from marauder.annotation.batch import find_batch
        from marauder.annotation.delivery import find_delivery
        from marauder.annotation.export import export_batch
        from marauder.annotation.importing import import_delivery, merge_again
        from marauder.annotation.status import batch_status

        # Nothing is cleared, ever: what was sent out is paid for.
        context.begun()
        settings = context.settings
        # With a batch open this only says which one.
        sent = export_batch(settings, context.clock)
        if not sent.existed:
            for note in sent.notes:
                log.warning("%s", note)
        # A delivery with problems stays in the inbox and would be found again and again.
        seen = set()
        while (delivery := find_delivery(settings)) is not None and delivery not in seen:
            context.clock.check()
            seen.add(delivery)
            import_delivery(settings, delivery, context.clock)
        status = batch_status(settings)
        # Asked after the imports: one of them may have closed the batch.
        if find_batch(settings.outbox) is not None and not (settings.accept and status.data is not None):
            # A delivery that was judged already does not end the wait.
            raise Awaited(status.words, lambda: find_delivery(settings) not in (None, *seen))
        # Also without a new delivery: step 0 may have made the data set anew beneath the answers.
        version = merge_again(settings, context.clock)
        pages = sorted((settings.output / "imports" / sent.batch).glob("*/import_report.html"))
        return {
            "batch": sent.batch,
            "pictures": f"{sent.pictures}, {sent.overlap} of them twice" if sent.overlap else sent.pictures,
            "price": f"{sent.price.cost}, the second annotator counted" if sent.overlap else sent.price.cost,
            "answers": f"{status.answered} of {status.pictures}",
            "version": version.number,
            "report": context.workspace.relative(pages[-1] if pages else version.folder / "change_log.json"),
        }


STEP = Annotation()
