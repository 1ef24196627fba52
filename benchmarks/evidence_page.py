"""Writes docs/evidence.md: what the tables of trainings say, computed from their stored results.

python benchmarks/evidence_page.py
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.files import write_text
from tables import Finding, read_results

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "evidence.md"
RESULTS = Path("benchmarks/results")


@dataclass(frozen=True)
class Table:
    """A section of the page. ``script``: a module beside this one, with ``findings``. ``results``: a file in
    ``benchmarks/results``. ``commands``: options of the calls that fill it, without ``--output`` and ``--results``.
    ``minutes``: of one core that all of them take at the scale ``small``, about."""

    title: str
    script: str
    results: str
    commands: tuple[str, ...]
    minutes: int


COCO = "--weights yolov8n.pt"
EQUAL = "--threads 1 --optimizer adamw --learning-rate 5e-4"
DEFAULTS = "--threads 1 --compare defaults --recipe fine_tune"
LEARNING = "hybrid random balanced class_balance per_price k_medoids typical uncertainty entropy localisation_stability"
TABLES = (
    Table(
        "Step 0: underwater enhancement",
        "preprocessing_gain",
        "preprocessing_gain.jsonl",
        (
            f"{COCO} --pictures aquarium",
            f"{COCO} --pictures deepfish",
            f"{COCO} --pictures scenes",
            "--arms raw auto --pictures aquarium",
            "--arms raw auto --pictures deepfish",
            "--arms raw auto --pictures scenes",
        ),
        minutes=350,
    ),
    Table(
        "Step 1: self-supervised pretraining",
        "pretraining_gain",
        "pretraining_gain.jsonl",
        (f"{COCO} --pictures aquarium", f"{COCO} --pictures deepfish"),
        minutes=580,
    ),
    Table(
        "Step 2: accuracy beside Ultralytics' trainer",
        "accuracy_parity",
        "accuracy_parity.jsonl",
        (
            f"{COCO} {EQUAL} --epochs 3 10 --seeds 6",
            f"{COCO} {EQUAL} --epochs 30",
            f"{COCO} {DEFAULTS} --epochs 10",
            f"{COCO} {DEFAULTS} --epochs 10 --pictures deepfish",
        ),
        minutes=300,
    ),
    Table(
        "Step 3: active learning",
        "active_learning_gain",
        "active_learning_gain.jsonl",
        (
            f"{COCO} --pictures aquarium --seeds 6",
            f"{COCO} --pictures deepfish --seeds 6",
            f"{COCO} --pictures aquarium --arms {LEARNING}",
            f"{COCO} --pictures deepfish --arms {LEARNING}",
            "--pictures aquarium",
        ),
        minutes=1100,
    ),
    Table(
        "Step 4: label errors found by a detector",
        "planted_label_errors",
        "planted_label_errors.jsonl",
        (COCO,),
        minutes=30,
    ),
    Table("The regression gate's assumption", "alike_errors", "alike_errors.jsonl", (COCO,), minutes=36),
    Table(
        "Step 5: critical species",
        "critical_species_gain",
        "critical_species_gain.jsonl",
        (f"{COCO} --threads 1", "--threads 1"),
        minutes=120,
    ),
    Table(
        "Step 6: a student of an ensemble",
        "student_gain",
        "student_gain.jsonl",
        (
            f"{COCO} --second-weights yolo11n.pt --pictures aquarium",
            f"{COCO} --second-weights yolo11n.pt --pictures deepfish",
        ),
        minutes=140,
    ),
    Table(
        "Step 7: training at changing sizes",
        "multiscale_gain",
        "multiscale_gain.jsonl",
        (f"{COCO} --pictures aquarium", f"{COCO} --pictures deepfish"),
        minutes=100,
    ),
    Table(
        "Step 8: views and calibration",
        "calibration_gain",
        "calibration_gain.jsonl",
        (f"{COCO} --pictures aquarium", f"{COCO} --pictures scenes"),
        minutes=60,
    ),
    Table(
        "Step 9: precisions",
        "engines",
        "engines.jsonl",
        (f"{COCO} --pictures aquarium", f"{COCO} --pictures deepfish"),
        minutes=60,
    ),
)

INTRODUCTION = """\
# Evidence

What the steps are worth to a detector, measured on real pictures (`scenes`: generated ones) in splits that keep clips
whole. Each row is computed from stored trainings. A figure is a mean over seeds (the column says how many) with the
95 % interval of Student's t; differences are paired by seed. It is measured on the split `test`, which no training and
no choice saw, unless the row says otherwise.

- **met**: the mean reaches the target, and the interval excludes "no effect".
- **refuted**: the whole interval is below the target.
- **open**: neither; more seeds or longer trainings would tell.
- **measured**: there is no target.

A command that is stopped continues when it is given again. `yolov8n.pt` holds COCO weights. The trainings are short,
for processors without a GPU; on one, add `--scale full`. Speeds and single runs are among the [figures of two
cores](../benchmarks/results/cpu_2_cores.md). `python benchmarks/evidence_page.py` writes this page.
"""


def page(results: Path = REPOSITORY / RESULTS) -> str:
    """The text of docs/evidence.md, from the results in a folder."""
    return "\n".join([INTRODUCTION, *(section(table, results / table.results) for table in TABLES)])


def section(table: Table, path: Path) -> str:
    """A table's findings and the commands that make them."""
    # A table without results is listed without importing its script, which may need much.
    lines = read_results(path)
    found = importlib.import_module(table.script).findings(lines) if lines else []
    commands = "\n".join(command(table, options) for options in table.commands)
    if found:
        what = f"{rows(found)}\n\nFrom {len(lines)} trainings in `{RESULTS / table.results}`, made by:"
    else:
        what = f"Not measured yet; all of it takes about {table.minutes} minutes of one core:"
    return f"## {table.title}\n\n{what}\n\n```bash\n{commands}\n```\n"


def rows(found: Sequence[Finding]) -> str:
    """A Markdown table of findings."""
    head = "| asked | found | verdict | what follows |\n|---|---|---|---|"
    cells = [(one.question, one.figure, f"**{one.verdict}**", one.consequence) for one in found]
    return "\n".join([head, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in cells)])


def command(table: Table, options: str) -> str:
    """A command that trains what is missing of a table."""
    # Parity keeps no trainings.
    output = "" if table.script == "accuracy_parity" else f" --output measured/{table.script}"
    return f"python benchmarks/{table.script}.py {options}{output} --results {RESULTS / table.results}"


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
