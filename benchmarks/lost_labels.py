"""Plants a regression: copies a dataset.yaml with its manifests and takes most boxes of some classes out of training.

    python benchmarks/lost_labels.py --input golden/dataset.yaml --output lost --classes starfish,stingray,puffin

Validation and test stay as they are, so that the gates at the end can find what is lost. Prints how many boxes went.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from marauder.core.randomness import stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="dataset.yaml as `marauder manifest write` leaves it")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--classes", required=True, help="names, with commas")
    parser.add_argument("--keep", type=float, default=0.15, help="share of their boxes that stays")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in arguments.input.parent.iterdir():
        if path.is_file():
            shutil.copy(path, arguments.output / path.name)
    manifest = arguments.output / "golden_train.manifest"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    lost = sum(drop(row, set(arguments.classes.split(",")), arguments.keep, arguments.seed) for row in rows)
    manifest.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{lost} boxes of {arguments.classes} taken out of {manifest}")


def drop(row: dict[str, Any], classes: set[str], keep: float, seed: int) -> int:
    """Take boxes of ``classes`` out of a manifest's row, in place; returns how many."""
    label = next(name.removesuffix("-metadata") for name in row if name.endswith("-metadata"))
    names, boxes = row[f"{label}-metadata"]["class-map"], row[label]["annotations"]
    draws = stream(seed, "lost-labels", row["id"]).random(len(boxes))
    stays = [names[str(box["class_id"])] not in classes or draw < keep for box, draw in zip(boxes, draws, strict=True)]
    row[label]["annotations"] = [box for box, stay in zip(boxes, stays, strict=True) if stay]
    objects = row[f"{label}-metadata"]["objects"]
    row[f"{label}-metadata"]["objects"] = [one for one, stay in zip(objects, stays, strict=True) if stay]
    return len(boxes) - len(row[label]["annotations"])


if __name__ == "__main__":
    main()
