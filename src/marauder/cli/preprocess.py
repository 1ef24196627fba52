"""``marauder preprocess``: step 0, restore colour and contrast of underwater pictures."""

from __future__ import annotations

from pathlib import Path

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option

PREPROCESS = JobCommand(
    name="preprocess",
    help="""Enhance the pictures of a folder, or resume; labels are copied along.

    The same command resumes after any interruption, and redoes only what changed. See docs/step0_preprocessing.md.
    """,
    settings="marauder.preprocessing.settings:PreprocessingSettings",
    job="marauder.preprocessing.job:preprocess_folder",
    options=(
        Option("--input --input-dir", Path, "folder of the raw pictures, with their labels"),
        Option("--output --output-dir", Path, "folder to write to, with the input's subfolders"),
        Option("--method", str, "auto, full, colour, dehaze, contrast, none, or manual (with plan.*)"),
        Option("--workers", int, "processes; 0: one per core"),
        Option("--clean", Path, "folder of the clean pictures, for PSNR and SSIM"),
        Option("--fresh", bool, "start over, deleting what earlier runs wrote"),
    ),
    words="any setting, as key=value: jpeg_quality=90 plan.dehaze=0.5",
)
app = PREPROCESS.app()
