"""``marauder ensemble``: several detectors made one predictor, with what each of them adds."""

from __future__ import annotations

from pathlib import Path

from marauder.cli.job_command import JobCommand
from marauder.cli.options import PICTURES, Option

ENSEMBLE = JobCommand(
    name="ensemble",
    help="""Fuse several detectors into one predictor folder, which predict and evaluate take like a model.

    Members may differ in architecture, input size and classes. Each is calibrated; weights are fitted on one split,
    all figures are of another. Members that add nothing are named. The same command resumes after any interruption.
    """,
    settings="marauder.ensembles.settings:EnsembleSettings",
    job="marauder.ensembles.assembly:assemble",
    options=(
        Option("--members", list[str], "detectors: A.pt B.safetensors, or A,B, or a pattern in quotes"),
        Option("--data --data-yaml", Path, "labelled pictures: data.yaml, or any data set of docs/formats.md"),
        Option("--output --output-dir", Path, "folder of the ensemble; default: ensemble"),
        Option("--fusion", str, "weighted_boxes, nms or soft_nms; default: weighted_boxes"),
        Option("--prune/--keep", bool, "leave out members that are not shown to add anything"),
        Option("--fit", str, "split that is fitted on; default: val"),
        Option("--split", str, "split that is measured on; default: test"),
        Option("--metric", str, "what is fitted and compared by; default: map50"),
        Option("--imgsz --image-size", int, "input pixels of all members; default: each member's own", "image_size"),
        Option("--pictures", Path, PICTURES),
        Option("--batch", int, "pictures of a forward pass; default: 4 on a CPU, 16 on a GPU"),
        Option("--device", str, "auto, cpu, cuda or cuda:N; default: auto"),
        Option("--seed", int, "decides the parts for fitting and the draws; default: 0"),
        Option("--fresh", bool, "start over, replacing what is there"),
    ),
    listed="members",
    metavar="[MEMBER|KEY=VALUE]...",
    words="more members, as after --members; any setting: options.overlap=0.6, cost.enabled=false",
)
app = ENSEMBLE.app()
