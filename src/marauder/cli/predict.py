"""``marauder predict``: a detector over pictures and videos; counts, MaxN, files for other tools, a page."""

from __future__ import annotations

from pathlib import Path

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option

PREDICT = JobCommand(
    name="predict",
    help="""Run a detector on pictures and videos and count what it finds.

    counts.csv, maxn.csv and report.html are always written. Broken pictures and frames are set aside. The same command
    resumes after any interruption. See docs/predict.md.
    """,
    settings="marauder.survey.settings:PredictSettings",
    job="marauder.survey.job:predict_files",
    options=(
        Option("--model", Path, "detector: .pt, .safetensors, .onnx or .torchscript, or a predictor folder"),
        Option("--input", list[str], "picture, video, folder, or pattern in quotes; may be repeated", "inputs"),
        Option("--output --output-dir", Path, "folder to write to; default: predictions"),
        Option("--conf", float, "least score, 0 to 1; default: the model's, else 0.25", "confidence"),
        Option("--classes", str, "names or numbers of the classes to count, with commas"),
        Option("--fps", float, "frames per second of video to use; default: all"),
        Option("--every", int, "use every Nth frame of videos; default: 1"),
        Option(
            "--formats",
            str,
            "annotated, boxes, parquet, viame, coco, yolo, label_studio, cvat, or all; default: annotated,boxes,viame",
        ),
        Option("--image-size --imgsz", int, "input pixels, long side; default: model's"),
        Option("--device", str, "auto, cpu, cuda or cuda:N; default: auto"),
        Option("--batch", int, "pictures of a forward pass; default: 4 on a CPU, 16 on a GPU"),
        Option("--group-pattern", str, "regular expression; pictures whose names agree in its (?P<clip>…) are a clip"),
        Option("--fresh", bool, "start over, replacing what is there"),
    ),
    listed="inputs",
    metavar="[INPUT|KEY=VALUE]...",
    words="more inputs, as after --input; any setting: iou=0.6",
)
app = PREDICT.app()
