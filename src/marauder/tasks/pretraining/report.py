"""The report and the model card of a pretraining run, from what the run found out."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from marauder.core.clock import Clock, describe_seconds
from marauder.core.decides import decided
from marauder.core.files import hash_file, read_json, write_bytes
from marauder.core.randomness import stream
from marauder.core.settings import Decides
from marauder.core.wording import counted
from marauder.data.contact_sheets import BACKGROUND
from marauder.data.manifests.pinning import DataPin as Pin
from marauder.data.pictures import PictureStore, UnreadablePictureError
from marauder.data.reading import choose_reader
from marauder.engine.state import early_stop
from marauder.evaluation.figures import group_history, training_curves
from marauder.imaging.underwater_views import draw_views
from marauder.reporting.advice import LABEL_MORE, TRAIN_LONGER, USE, Advice
from marauder.reporting.evidence import Artifact, Lineage
from marauder.reporting.pretraining_page import PretrainingEvidence, write_pretraining_report
from marauder.reporting.render import ReportFigure
from marauder.runs.run_origin import pin_of, provenance_of
from marauder.runs.start_weights import start_of
from marauder.runs.task_runtime import Findings
from marauder.tasks.pretraining.results import PretrainingResults
from marauder.tasks.pretraining.settings import PretrainingSettings
from marauder.tasks.pretraining.training import unjudged

EXAMPLES = 6
EXAMPLE_SIDE = 160
GAP = 4
VIEWS_FILE = "views.png"
LABELLED = "LABELLED/data.yaml"
"""Stands in a command for labelled data that nobody has named."""
PANELS = {
    "val/effective_rank": "effective rank",
    "val/deviation": "signs/spread",
    "val/rank_share": "signs/share of the possible rank",
    "val/similarity": "signs/likeness of different pictures",
    "learning_rate": "learning_rate",
}
"""Numbers of an epoch that are drawn beside the losses: those of one scale share a panel."""


def write_reports(kind: PretrainingResults, findings: Findings, pinned: Pin, clock: Clock) -> Path:
    """All that people read of the run; returns the page's path. Raises ``Interrupted`` between figures."""
    folder = kind.settings.folder
    findings.advice = what_next(kind.probe["verdict"], step2_command(kind.settings), kind.settings.data)
    figures = []
    drawn = [_drawn(row) for row in findings.outcome.history]
    if drawn and group_history(drawn):
        clock.check()
        curves = training_curves(drawn)
        write_bytes(folder / "curves.png", curves)
        caption = (
            "Losses fall; how far says little, since the task gets harder as the teacher gets better. Effective rank "
            "and spread may dip at first; what falls to nothing is collapse, and stops the run."
        )
        figures.append(ReportFigure("Losses and signs of collapse", caption, curves))
    clock.check()
    views = (folder / VIEWS_FILE).read_bytes()
    caption = (
        "A row for each picture: the picture, then the views that the method must recognise as the same scene. If "
        "you cannot recognise what is in a view, weaken pretraining.views."
    )
    figures.append(ReportFigure("Example views", caption, views))
    return write_pretraining_report(folder, pretraining_evidence(kind, findings, pinned, figures))


def pretraining_evidence(
    kind: PretrainingResults, findings: Findings, pinned: Pin, figures: list[ReportFigure]
) -> PretrainingEvidence:
    """What the run found out, as the report takes it."""
    plan, folder = kind.settings, kind.settings.folder
    card = plan.card
    return PretrainingEvidence(
        title=f"{plan.project}: backbone of {plan.model}, pretrained by {plan.pretraining.method}",
        run_id=plan.id or "",
        project=plan.project,
        probe=kind.probe,
        signs=kind.signs,
        groups={name: {**asdict(one), "kept": one.kept} for name, one in kind.pool.account.items()},
        thinning=f"{kind.pool.words}. {_left_out(kind)}",
        transfer=kind.account.describe() if kind.account is not None else "",
        verdicts=findings.verdicts,
        figures=figures,
        cautions=_cautions(kind),
        advice=findings.advice,
        facts=_facts(kind, findings),
        settings={
            **decided(plan, Decides.RESULT, Decides.LENGTH, by_content=False),
            "weights": start_of(plan).describe(),
        },
        provenance=provenance_of(read_json(folder / "provenance.json")),
        data=pin_of(pinned, plan),
        lineage=_lineage(plan),
        artifacts={
            name: Artifact(file, hash_file(folder / file))
            for name, file in (("backbone", "backbone.safetensors"), ("probe", "probe.json"))
        },
        use={
            "For": card.intended_use or "Starting a detector of the same architecture on such pictures (step 2).",
            "Out of scope": card.out_of_scope
            or "Use without training on labels first: by itself it cannot name anything.",
            "Licence": card.licence or "not said",
            "Contact": card.contact or "not said",
        },
    )


def step2_command(plan: PretrainingSettings) -> str:
    """The command that trains the detector from this backbone; a plain folder of pictures cannot be its data."""
    data = str(plan.data) if _may_hold_labels(plan.data) else LABELLED
    words = [
        "marauder",
        "baseline",
        "--data-yaml",
        data,
        "--model",
        plan.model,
        "--ssl-backbone",
        str(plan.folder / "backbone.safetensors"),
    ]
    return shlex.join(words)


def _may_hold_labels(data: Path) -> bool:
    """Whether ``data`` is more than a plain folder of pictures."""
    return not data.is_dir() or choose_reader(data).name != "pictures"


def what_next(verdict: str, command: str, data: Path) -> list[Advice]:
    """What to do with a backbone of which the probe says ``verdict``; ``command`` trains a detector from it."""
    note = ""
    if LABELLED in command:
        note = f" In the place of {LABELLED} name your labelled data: {data} is a folder of pictures."
    if verdict == "yes":
        text = "Train the detector from it, and compare with a baseline without it on the same labels."
        return [Advice(USE, text + note, command)]
    if verdict == "no":
        text = (
            "Do not use it yet: the features got worse. Train longer, lower training.optimizer.learning_rate, or start "
            "from detector weights with --weights; docs/step1_pretraining.md says more. To see for yourself:"
        )
        return [Advice(TRAIN_LONGER, text + note, command)]
    text = (
        "The probe is inconclusive. Label a few more pictures of more clips, or name labelled data as probe.data, "
        "and run "
        "the same command again; or compare two baselines, with and without it:"
    )
    return [Advice(LABEL_MORE, text + note, command)]


def example_views(kind: PretrainingResults) -> bytes:
    """PNG of a few pictures with their views, a row each; drawn as in the first epoch."""
    plan, records = kind.settings, kind.pool.training
    store = PictureStore(records, plan.source_side, None, 0)
    chosen = stream(plan.training.seed, "example views").permutation(len(records))
    rows = []
    for index in chosen.tolist():
        try:
            picture = store.get(index)
        except UnreadablePictureError:
            continue
        # The very stream of training (epoch 0), so that the page shows what the method saw.
        random = stream(plan.training.seed, "view", 0, index)
        views = draw_views(picture, plan.image_size, plan.pretraining.views, random)
        rows.append([_thumb(picture), *(_thumb(view.picture) for view in views)])
        if len(rows) == EXAMPLES:
            break
    columns = 1 + plan.pretraining.views.views
    step = EXAMPLE_SIDE + GAP
    canvas = np.full((max(1, len(rows)) * step + GAP, columns * step + GAP, 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        for place, thumb in enumerate(row):
            top, left = GAP + number * step, GAP + place * step
            canvas[top : top + thumb.shape[0], left : left + thumb.shape[1]] = thumb
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG")
    return buffer.getvalue()


def _thumb(picture: np.ndarray) -> np.ndarray:
    """The picture with ``EXAMPLE_SIDE`` pixels on its long side, larger or smaller than it was."""
    gain = EXAMPLE_SIDE / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * gain)), max(1, round(picture.shape[0] * gain)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size))


def _drawn(row: Mapping[str, float]) -> dict[str, float]:
    losses = {name: value for name, value in row.items() if name.startswith("train/")}
    others = {PANELS[name]: value for name, value in row.items() if name in PANELS}
    return {"epoch": row["epoch"], **losses, **others}


def _left_out(kind: PretrainingResults) -> str:
    pool = kind.pool
    words = f"{len(pool.training):,} were trained on, {len(pool.held_out):,} held out to look for collapse"
    if pool.left_out:
        told = " and ".join(f"{count:,} of the split {name}" for name, count in pool.left_out.items())
        words += f"; {told} were left out, so that later measurements on them are fair"
    return words + "."


def _cautions(kind: PretrainingResults) -> list[str]:
    pool, probe = kind.pool, kind.probe
    found = []
    why = unjudged(kind.signs["after"])
    if why:
        found.append(
            f"Whether the features collapsed was not judged: {why}. The signs below prove neither; train for more "
            "updates, or on more pictures."
        )
    if probe["also_pretrained_on"]:
        found.append(
            f"{probe['also_pretrained_on']} of the {probe['pictures']} probed pictures were pretrained on too, without "
            "their labels. That is how step 2 will use it, but new pictures may gain less."
        )
    if not pool.left_out:
        found.append(
            "The data have no splits val and test, so nothing was left out: make the splits before pretraining "
            "(`marauder data organize`), or figures measured later are of pictures that the backbone knows."
        )
    if pool.unreadable:
        found.append(f"{counted(len(pool.unreadable), 'picture')} could not be used; thinning.json has the names.")
    if len(pool.training) < 1000:
        found.append(
            f"{len(pool.training)} pictures are few: pretraining pays from some thousands of different pictures on."
        )
    return found


def _facts(kind: PretrainingResults, findings: Findings) -> dict[str, str]:
    plan, outcome = kind.settings, findings.outcome
    training, optimizer, section = plan.training, plan.training.optimizer, plan.pretraining
    stopped = early_stop(outcome, training, plan.typed("training"))
    micro = f", {training.micro_batch_size} at a time" if training.micro_batch_size else ""
    return {
        "Method": f"{section.method}, {section.views.views} views of {plan.image_size} pixels",
        "Backbone": f"{plan.model}; signal on P3, P4 and P5, whole views and places",
        "Started from": start_of(plan).describe(),
        "Training": f"{counted(outcome.epochs, 'epoch')}, {counted(outcome.steps, 'update')} of "
        f"{training.batch_size}{micro}, "
        f"{describe_seconds(outcome.seconds)}",
        "Weights": f"the {section.keep} ones"
        + (f" (epoch {outcome.best_epoch} by {training.best_metric})" if section.keep == "best" else ""),
        **({"Stopped early": stopped} if stopped else {}),
        "Optimiser": f"{optimizer.name}, rate {optimizer.learning_rate}, {optimizer.schedule}",
        "Processes": str(plan.processes),
    }


def _lineage(plan: PretrainingSettings) -> Lineage:
    start = start_of(plan)
    return Lineage(parent_weights=start.describe() if start.name else "", parent_sha256=start.sha256)
