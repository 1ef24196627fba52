"""Claim: every odd data set of a folder of cases is read right, or refused in words; no traceback and no hang.

The folder (``--cases``, else ``$MARAUDER_SHARED_CASES``, else ``shared/cases`` beside the checkout) holds small data
sets as real tools and users write them, each with a ``case.md`` that says what is right; ``RIGHT`` says it once more
for a machine. Each goes through `data check`, `data organize` and `manifest write` on the command line: boxes, classes
and splits that are written are compared with those that the case means, words with those that must be said. A label
that is written wrong is wrong whatever was said about it; one that is not written has to be told. Two data sets with
names that are not UTF-8, or not of the locale, are made here. Cases that the table does not know are judged by
tracebacks and hangs alone. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

import marauder
from peers import processor_name

Box = tuple[str, float, float, float, float]  # class, left, top, width, height; pixels as displayed
Boxes = dict[str, list[Box] | None]  # by the picture's path in the data set; None: whatever is written is right

SECONDS, GRACE, MEMORY = 60, 5, 12 * 10**9
TOLERANCE = 1.5
SOURCE = Path(marauder.__file__).resolve().parents[1]
UTF8 = {"LC_ALL": "C.UTF-8"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FRACTIONS = ("--fractions", "train=0.6,val=0.2,test=0.2")


@dataclass
class Outcome:
    """What the commands did with one case."""

    data: Path
    output: Path
    locale: Mapping[str, str]
    statuses: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    report: str = ""
    written: dict[str, dict[str, tuple[str, list[Box]]]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Every word of `data check`, its report included, without the name of the case."""
        return self.texts["check"] + self.report.replace(str(self.data.parent), "CASE")


@dataclass(frozen=True)
class Right:
    """What is right for one case. Boxes on pictures that are not named are wrong wherever they are written."""

    boxes: Boxes | None = None
    instead: str | None = None  # words of `check` that excuse pictures that are not written
    error: bool = False  # ... if it ends with an error, too
    says: str | None = None
    status: int | None = None
    splits: Mapping[str, str] | None = None  # the data set's own are kept, and are these
    more: Callable[[Outcome], str | None] = lambda outcome: None
    input: str = "."
    size: tuple[int, int] = (320, 240)
    seconds: int = SECONDS
    made: bytes | None = None  # made here, with this name of one picture
    locale: Mapping[str, str] = field(default_factory=lambda: UTF8)


def row(
    pattern: str,
    names: Sequence[str] = ("fish",),
    numbers: Iterable[int | str] = range(8),
    box: tuple[int, int, int, int] | None = None,
    folders: Sequence[str] = ("train",) * 5 + ("valid",) * 3,
) -> Boxes:
    """One box a picture, classes in turn: ``box``, or the one of most cases, 10 further right and 8 lower each time."""
    boxes: Boxes = {}
    for at, number in enumerate(numbers):
        step = number if isinstance(number, int) else at
        place = box or (20 + 10 * step, 20 + 8 * step, 60, 40)
        boxes[pattern.format(number, folder=folders[at % len(folders)])] = [(names[at % len(names)], *place)]
    return boxes


def fix_keeps_sharks(outcome: Outcome) -> str | None:
    """`check --fix` keeps the boxes of both records, or neither."""
    fixed = outcome.output / "fixed"
    run(outcome, "check --fix", ["data", "check", "--input", str(outcome.data), "--fix", "--output", str(fixed)])
    classes = [line.split()[0] for file in fixed.glob("labels/*/*.txt") for line in file.read_text().splitlines()]
    fish, sharks = classes.count("0"), classes.count("1")
    return None if fish == sharks else f"--fix keeps {fish} of 8 fish and {sharks} of 8 sharks"


def train_alone(outcome: Outcome) -> str | None:
    """One split's folder of a darknet export is a data set, too."""
    report = outcome.output / "train.json"
    run(outcome, "check train", ["data", "check", "--input", str(outcome.data / "train"), "--report", str(report)])
    read = report.is_file() and json.loads(report.read_text(encoding="utf-8"))["boxes"] == 5
    refused = outcome.statuses["check train"] != 0 and re.search("(?i)darknet", outcome.texts["check train"])
    return None if read or refused else "train/ alone is neither read nor refused with the word darknet"


def seen_by_opencv(outcome: Outcome) -> str | None:
    """Brightness as OpenCV decodes the pictures, and some contrast and sharpness."""
    for number, mean in enumerate((35, 79, 105, 108, 117, 124, 110, 122)):
        found = outcome.attributes.get(f"images/{number}.png", {})
        if abs(found.get("brightness", 255) - mean) > 5 or not found.get("contrast") or not found.get("sharpness"):
            return f"{number}.png: brightness {found.get('brightness')}, not {mean}; contrast {found.get('contrast')}"
    return None


def crops_show_animals(outcome: Outcome) -> str | None:
    """The example crops of the annotators' guidelines are no white squares."""
    command = ["annotation", "export", "--data", str(outcome.data / "data.yaml"), "--output", str(outcome.output / "o")]
    run(outcome, "export", [*command, "--format", "coco", "--overlap-share", "0"])
    crops = outcome.output.glob("o/*/guidelines/examples/*.jpg")
    means = [np.asarray(Image.open(crop).convert("L")).mean() for crop in crops]
    return (
        None if means and 20 < max(means) < 200 else f"{len(means)} crops, brightest mean {max(means, default=0):.0f}"
    )


TWO = ("fish", "shark")
CAMERAS = ("cam1/0", "cam1/1", "cam1/2", "cam1/3", "cam2/4", "cam2/5", "cam2/6", "7")
LISTED = dict.fromkeys(("c", "d", "e", "dive 1 a", "dive 1 b"), "train") | {"f": "val", "g": "val", "h": "test"}
MANY = ("海参", "海胆", "Mérou", "Mòrou")
MOVED = "(?i)moved|trailing|(?<!defects )found|using|in place of"
ODD = ("a%20b", "a#1", "t?x", "2021-05-04T10:22:33", "[1]", " lead", "trail ", "it's", "-dash", "a\nb", "s3:x")
POSE = ("train",) * 6 + ("val",) * 2
SPLITS = {str(number): "train" if number < 5 else "val" for number in range(8)}
TURNED = (160, 200, 60, 100)
YAML = ("on", "off", "no", "010", "12:30", "null")

RIGHT: dict[str, Right] = {
    "annotation-guidelines-16bit": Right(more=crops_show_animals),
    "class-number-huge": Right(
        boxes=row("images/{}.jpg", ["*"]) | {"images/3.jpg": None},
        instead="class-unknown",
        error=True,
        says=r"class-unknown: [^\n]*3\.txt",
        status=1,
        seconds=10,
    ),
    "classes-blank-line": Right(boxes=row("images/{}.jpg", TWO), instead="", error=True),
    "coco-category-id-twice": Right(boxes=row("f{}.jpg"), instead="", says=r"(?im)^(?=.*categor).*\b1\b"),
    "coco-id-as-text": Right(boxes=row("f{}.jpg", TWO), status=0),
    "coco-image-id-twice": Right(boxes={}, says=r"(?s)(error [\w-]+: [^\n]*\b[1-4]\b.*){4}", status=1),
    "coco-path-absolute": Right(boxes=row("images/f{}.jpg", TWO), says=MOVED),
    "coco-path-dotdot": Right(boxes=row("images/f{}.jpg", TWO)),
    "coco-path-localfiles": Right(boxes=row("images/f{}.jpg", TWO), says=MOVED),
    "coco-path-no-suffix": Right(boxes=row("reef.v2_000{}.jpg", TWO), says=MOVED),
    "coco-path-sites": Right(
        boxes=row("siteA/000{}.jpg", ["fish"], range(4)) | row("siteB/000{}.jpg", ["shark"], range(4)),
        instead="siteA",
        input="labels/all.json",
    ),
    "coco-path-windows": Right(boxes=row("images/f{}.jpg", TWO), says=MOVED),
    "coco-picture-twice": Right(
        boxes={name: [*(boxes or ()), ("shark", 200, 150, 50, 50)] for name, boxes in row("f{}.jpg").items()},
        instead=r"f0\.jpg",
        says="(?s)^(?!.*picture-duplicate)",
        more=fix_keeps_sharks,
    ),
    "git-lfs": Right(boxes={}, says="(?is)git lfs pointer.*git lfs pull", status=1),
    "layout-cvat-xml": Right(boxes=row("images/{}.jpg", box=(20, 20, 60, 40)), instead="CVAT", error=True),
    "layout-darknet-roboflow": Right(
        boxes=row("{folder}/{}.jpg", TWO), splits=SPLITS, instead="(?i)darknet", error=True, more=train_alone
    ),
    "layout-label-studio": Right(boxes=row("images/{}.jpg", box=(32, 24, 64, 48)), instead="", error=True),
    "layout-other-json": Right(boxes=row("images/{}.jpg"), status=0),
    "names-nfd": Right(boxes=row("images/Poulpe_épineux_{}.jpg"), status=0),
    "names-odd": Right(boxes=row("images/{}.jpg", numbers=ODD), status=0),
    "pictures-16bit": Right(boxes=row("images/{}.png"), more=seen_by_opencv),
    "pictures-16bit-leak": Right(says="(?s)(duplicates-in-two-splits: .*){6}", status=1),
    "voc-encoding": Right(boxes=row("JPEGImages/{}.jpg", MANY, box=(20, 20, 60, 40)), status=0),
    "voc-exif-rotated": Right(boxes=row("JPEGImages/{}.jpg", box=TURNED), size=(240, 320), says="(?i)exif|orientation"),
    "voc-split-lists": Right(boxes=row("JPEGImages/{}.jpg", numbers=LISTED, box=(20, 20, 60, 40)), splits=LISTED),
    "voc-stale-filename": Right(
        boxes=row("JPEGImages/00{}.jpg", ["fish"] * 4 + ["shark"] * 4, range(1, 9)),
        says=r"(?i)\.xml[^\n]*(filename|00[2-9]\.jpg)",
    ),
    "voc-subfolders": Right(boxes=row("JPEGImages/{}.jpg", numbers=CAMERAS, box=(20, 20, 60, 40)), instead="cam1"),
    "yaml-key-valid": Right(boxes=row("{folder}/images/{}.jpg", TWO), splits=SPLITS, instead=r"\bvalid\b"),
    "yaml-names-no-on": Right(boxes=row("{folder}/images/{}.jpg", YAML), instead="(?i)quot", error=True),
    "yaml-neighbour": Right(
        boxes=row("reef.v3/{folder}/images/mine{}.jpg", ["shark"]),
        says=r"\.\./(train|valid)|not followed",
        input="reef.v3",
    ),
    "yolo-capitals": Right(boxes=row("Images/{}.jpg"), instead="Labels"),
    "yolo-label-suffix": Right(boxes=row("images/{}.jpg"), instead=r"\.TXT"),
    "yolo-pose": Right(boxes=row("images/{folder}/fish{}.jpg", folders=POSE)),
    "yolo-pose-head-tail": Right(boxes=row("images/{folder}/fish{}.jpg", box=(112, 90, 96, 60), folders=POSE)),
    "training/name-not-utf8": Right(
        boxes=row("images/{}.png", numbers=["poisson_\udce9", *range(1, 8)], box=(40, 20, 20, 20)),
        size=(96, 64),
        says="poisson_",
        instead="poisson_",
        made=b"poisson_\xe9",
    ),
    "training/name-not-utf8, C locale": Right(
        boxes=row("images/{}.png", numbers=["poisson_é", *range(1, 8)], box=(40, 20, 20, 20)),
        size=(96, 64),
        instead="poisson_",
        made="poisson_é".encode(),
        locale=ASCII,
    ),
}


def main() -> int:
    """Run the benchmark; returns the exit status."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "cases"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=Path, default=Path(os.environ.get("MARAUDER_SHARED_CASES", beside)))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these cases")
    parser.add_argument("--keep", type=Path, help="new folder for what the commands write and say; default: temporary")
    chosen = parser.parse_args()
    places: dict[str, Path | None] = {one.parent.name: one for one in sorted(chosen.cases.resolve().glob("*/data"))}
    if not places:
        raise SystemExit(f"no cases at {chosen.cases}; name their folder with --cases or MARAUDER_SHARED_CASES")
    sys.stdout.reconfigure(errors="backslashreplace")
    absent = [name for name, right in RIGHT.items() if right.made is None and name not in places]
    places |= {name: None for name, right in RIGHT.items() if right.made}
    print(f"{processor_name()}; {SOURCE}; cases of {chosen.cases}" + " without ".join(["", *absent]))
    print(f"\n{'case':34}{'verdict':9}{'seconds':>7}{'tracebacks':>12}")
    verdicts, seconds, tracebacks = [], 0.0, 0
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, data) in enumerate(places.items()):
            if chosen.only and name not in chosen.only:
                continue
            right = RIGHT.get(name, Right())
            output = (chosen.keep.resolve() if chosen.keep else Path(temporary)) / f"{number:02}"
            output.mkdir(parents=True)
            outcome = Outcome(data or make_data_set(output / "made", right.made or b"0"), output, right.locale)
            run_case(outcome, right)
            judge(outcome, right)
            verdicts.append("wrong" if outcome.wrong else "right" if name in RIGHT else "unknown")
            traced = sum(text.count("Traceback (most recent call last)") for text in outcome.texts.values())
            seconds, tracebacks = seconds + outcome.seconds, tracebacks + traced
            why = "; ".join(outcome.wrong[:2]) or ("" if name in RIGHT else "no traceback, no hang")
            print(f"{name:34}{verdicts[-1]:9}{outcome.seconds:7.1f}{traced:12}  {why[:250]}", flush=True)
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("right", "wrong", "unknown"))
    print(f"\n{len(verdicts)} cases: {counts}; {tracebacks} tracebacks; {seconds:.0f} s")
    return 1 if "wrong" in verdicts or not verdicts else 0


def run_case(outcome: Outcome, right: Right) -> None:
    """The three commands of one case, and what they wrote."""
    source = ["--input", str(outcome.data / right.input)]
    report, organized, golden = (outcome.output / name for name in ("check.json", "organized", "golden"))
    arguments = {
        "check": ["data", "check", *source, "--report", str(report)],
        "organize": ["data", "organize", *source, "--output", str(organized), "--taxonomy", "source"],
        "manifest": ["manifest", "write", *source, "--output", str(golden), "--measure", "--no-near-duplicates"],
    }
    arguments["organize"] += ["--no-near-duplicates", *(["--keep-source-splits"] if right.splits else FRACTIONS)]
    arguments["manifest"] += [] if right.splits else FRACTIONS
    for name, command in arguments.items():
        run(outcome, name, command, right.seconds)
    if report.is_file():
        found = json.loads(report.read_text(encoding="utf-8"))
        severities = {kind: about["severity"] for kind, about in found["defects"].items()}
        for one in found["findings"]:
            outcome.report += f"\n{severities[one['kind']]} {one['kind']}: {one['path']}: {one['message']}"
    if outcome.statuses["organize"] == 0:
        outcome.written["organize"] = organized_boxes(organized, outcome.data, right.size)
    if outcome.statuses["manifest"] == 0:
        outcome.written["manifest"] = manifest_boxes(golden, outcome)


def run(outcome: Outcome, name: str, command: list[str], seconds: int = SECONDS) -> None:
    """One command of Marauder's; after ``seconds`` it is stopped as a user would stop it."""
    limited = ["timeout", f"--kill-after={GRACE}", str(seconds), sys.executable, "-m", "marauder.cli.main", *command]
    plain = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "COLUMNS": "300", "NO_COLOR": "1"}
    started = time.perf_counter()
    done = subprocess.run(
        limited,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=outcome.output,
        env={**os.environ, **plain, **outcome.locale},
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    outcome.seconds += time.perf_counter() - started
    (outcome.output / f"{name}.txt").write_bytes(done.stdout)
    text = done.stdout.decode("utf-8", "replace").replace(str(outcome.data.parent), "CASE")
    outcome.texts[name], outcome.statuses[name] = text, done.returncode
    if done.returncode in (124, 137, -9):
        deaf = "" if done.returncode == 124 else ", and SIGTERM does not stop it"
        outcome.wrong.append(f"{name} runs for more than {seconds} s{deaf}")
    elif "Traceback (most" in text:
        outcome.wrong.append(f"{name}: {text.strip().splitlines()[-1][:90]}")
    elif done.returncode not in (0, 1) and "error:" not in text:
        outcome.wrong.append(f"{name}: status {done.returncode} without a word")


def organized_boxes(folder: Path, data: Path, size: tuple[int, int]) -> dict[str, tuple[str, list[Box]]]:
    """Split and boxes of each labelled picture that `data organize` wrote."""
    names = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["names"]
    written = {}
    for picture in sorted(folder.glob("images/*/*")):
        label = folder / "labels" / picture.parent.name / f"{picture.stem}.txt"
        if label.is_file():
            boxes = []
            for line in label.read_text(encoding="utf-8").splitlines():
                across, down, width, height = (float(v) * size[at % 2] for at, v in enumerate(line.split()[1:]))
                boxes.append((str(names[int(line.split()[0])]), across - width / 2, down - height / 2, width, height))
            written[_picture(picture, data)] = (picture.parent.name, boxes)
    return written


def manifest_boxes(folder: Path, outcome: Outcome) -> dict[str, tuple[str, list[Box]]]:
    """The same of `manifest write`; pictures' attributes go into ``outcome``."""
    written = {}
    for file in sorted(folder.glob("golden_*.manifest")):
        for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            made = json.loads(line)
            picture = _picture(folder / made["source-ref"], outcome.data)
            outcome.attributes[picture] = made.get("attributes", {})
            if "objects" in made:
                names, found = made["objects-metadata"]["class-map"], made["objects"]["annotations"]
                sides = [[one[side] for side in ("left", "top", "width", "height")] for one in found]
                boxes = [(names[str(one["class_id"])], *place) for one, place in zip(found, sides)]
                written[picture] = (file.stem.removeprefix("golden_"), boxes)
    return written


def _picture(path: Path, data: Path) -> str:
    """Path of a picture within its data set, with composed accents."""
    found = path.resolve()
    name = str(found.relative_to(data)) if found.is_relative_to(data) else found.name
    return unicodedata.normalize("NFC", name)


def judge(outcome: Outcome, right: Right) -> None:
    """Add what is wrong to ``outcome.wrong``."""
    if right.boxes is not None:
        faults: dict[str, list[str]] = {}
        for command in ("organize", "manifest"):
            faults.setdefault(_fault_of_boxes(outcome, right, command, right.boxes), []).append(command)
        outcome.wrong += [f"{' and '.join(commands)}: {fault}" for fault, commands in faults.items() if fault]
    for command, written in outcome.written.items():
        if written and not any(boxes for _, boxes in written.values()):
            outcome.wrong.append(f"{command} made negatives of all pictures")
    if right.status not in (None, outcome.statuses["check"]):
        outcome.wrong.append(f"check ends with status {outcome.statuses['check']}")
    if right.says and not re.search(right.says, outcome.told):
        outcome.wrong.append(f"check does not say {right.says}")
    more = right.more(outcome)
    outcome.wrong += [more] if more else []


def _fault_of_boxes(outcome: Outcome, right: Right, command: str, expected: Boxes) -> str:
    written = outcome.written.get(command, {})
    for picture, (split, boxes) in sorted(written.items()):
        meant = expected.get(picture, [])
        if meant is not None and (picture not in expected or not _equal(boxes, meant)):
            return f"{picture} has {_shown(boxes)}, not {_shown(meant)}"
        if right.splits and right.splits[Path(picture).stem] != split:
            return f"{picture} is in {split}, not in {right.splits[Path(picture).stem]}"
    missing = len([picture for picture, boxes in expected.items() if boxes is not None and picture not in written])
    excused = right.instead is not None and re.search(right.instead, outcome.told)
    if not missing or (excused and (not right.error or outcome.statuses["check"] in (1, 2))):
        return ""
    refusal = re.search("error: .*", outcome.texts[command])
    return f"{missing} of {len(expected)} pictures missing" + (f" ({refusal.group()[:90]})" if refusal else "")


def _equal(found: list[Box], meant: list[Box]) -> bool:
    for (name, *place), (name_meant, *place_meant) in zip(sorted(found), sorted(meant)):
        if name_meant not in (name, "*") or not np.allclose(place, place_meant, rtol=0, atol=TOLERANCE):
            return False
    return len(found) == len(meant)


def _shown(boxes: list[Box]) -> str:
    return " and ".join(f"{name} {' '.join(f'{side:.0f}' for side in sides)}" for name, *sides in boxes) or "no box"


def make_data_set(folder: Path, name: bytes) -> Path:
    """Eight small pictures with a fish each; the first is called ``name``."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("fish\n", encoding="utf-8")
    noise = np.random.default_rng(0).integers(60, 200, (8, 64, 96, 3), dtype=np.uint8)
    for number, stem in enumerate([os.fsdecode(name), *map(str, range(1, 8))]):
        Image.fromarray(noise[number]).save(folder / "images" / f"{stem}.png")
        (folder / "labels" / f"{stem}.txt").write_text("0 0.520833 0.46875 0.208333 0.3125\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    sys.exit(main())
