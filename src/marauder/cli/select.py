"""``marauder select``: step 3, choose the pictures that are worth labelling."""

from __future__ import annotations

from pathlib import Path

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option

SELECT = JobCommand(
    name="select",
    help="""Choose the pictures that teach the detector most, or resume.

    Writes the pictures, selection.json with the reason for each, a contact sheet, a map of the pool and a report. The
    same command resumes after any interruption. See docs/step3_active_learning.md.
    """,
    settings="marauder.selection.settings:SelectionSettings",
    job="marauder.selection.job:select_pictures",
    options=(
        Option("--unlabeled-dir --pool", Path, "folder or data set; its unlabelled pictures are the pool", "pool"),
        Option("--model --models", list[str], "detectors: A.pt B.pt, or A.pt,B.pt, or the option repeated", "models"),
        Option("--output", Path, "folder to write to; default: selected"),
        Option("--num-samples", int, "most pictures to choose; default: 2000", "count"),
        Option("--budget-boxes", int, "most boxes to choose, as the detector estimates"),
        Option("--strategy", str, "hybrid (default), uncertainty, class_balance, k_center, k_medoids, typical, random"),
        Option("--use-ensemble/--no-ensemble", bool, "score with all models, not with the first alone"),
        Option("--labeled --labelled", Path, "data set of labelled pictures; default: the pool's", "labelled"),
        Option("--reduction", str, "from boxes to a picture: sum, mean, max or top_k_mean; default: top_k_mean"),
        Option("--random-share", float, "share drawn at random, 0 to 1; default: 0.15"),
        Option("--fresh", bool, "start over, forgetting what earlier runs found"),
    ),
    listed="models",
    metavar="[MODEL|KEY=VALUE]...",
    words="more models, as after --model; any setting: top_k=3",
)
app = SELECT.app()
