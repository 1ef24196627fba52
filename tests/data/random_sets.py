"""Random data sets for property tests, written as any tool would write them, in every layout that is read.

``shots(draw)`` draws the pictures with their boxes; a layout of ``LAYOUTS`` writes them and says where, drawing what it
leaves open: encodings, spellings of names, ids, shapes, folders.
"""

from __future__ import annotations

import io
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import format_writers as writers
import numpy as np
import yaml
from hypothesis import strategies as st
from PIL import Image

SIZES = ((64, 48), (48, 64), (33, 17), (120, 90))
SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".JPG", ".jpeg", ".Png")
LETTERS = "abzXY019 _-.%#()+&',;=@!~$äßøéÅκδжю深海魚سمك"
STEMS = (
    *("IMG 0042", "dive.2024.05.01", "Überblick", "U\u0308berblick", "深海 07", "кадр", "50%23", "GOPR (1)", "ROV#3"),
    *("a+b", "x_jpg.rf.0123456789abcdef0123456789abcdef", "0012", "no", "Æ&Œ", "سمك", "O'Neil", "frame;1", "per,son"),
    *("cafe\u0301.frame_0007", "12-30-05", "a.png", "train 1", "IMG_0042", "img_0042"),
)
FOLDERS = ("site A", "Kelp_Wald", "Männchen", "湾", "2024.05", "a%20b")
CLASSES = (
    *("no", "on", "0100", "~", "12:30", "1.10", "null", "2024-05-01", "0", "fish", "Fish", "sea star", "Ångström"),
    *("A\u030angel", "κοράλλι", "魚", "سمكة", "рыба", "A > B", "fish & chips", "<x>", "#1", "it's", 'say "hi"', "a,b"),
    *("-dash", "[x]", "{y}", "100%", "back\\slash", "🐟", "class_1", "a;b", "x: y", "*", "crab (juv.)", "NaN", "true"),
)


@dataclass(frozen=True)
class Shot:
    """A picture with its boxes, in pixels, and their classes by their names as written."""

    folder: str
    stem: str
    suffix: str
    split: str
    size: tuple[int, int]
    boxes: tuple[writers.Box, ...]

    @property
    def name(self) -> str:
        return self.stem + self.suffix

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass
class Sample:
    """``shots`` with the class names in their order; ``draw`` decides what is open."""

    shots: list[Shot]
    names: list[str]
    draw: Callable[[st.SearchStrategy[Any]], Any]

    def pick(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def rows(self, shots: Sequence[Shot], name_of: Callable[[Shot], str]) -> list[writers.Row]:
        return [(name_of(shot), *shot.size, shot.boxes) for shot in shots]

    def of_split(self, split: str) -> list[Shot]:
        return [shot for shot in self.shots if shot.split == split]

    def spelled(self, text: str) -> str:
        """A name as another system stores it: accents composed or not."""
        form = self.pick(None, None, "NFC", "NFD")
        return unicodedata.normalize(form, text) if form else text


@dataclass
class Written:
    """A data set on disk. ``path``: what to read; ``places``: of the pictures, in the order of the shots; ``labels``:
    the files that hold labels, names and splits. ``splits``: whether it states them; ``empty``: whether it can say that
    a picture holds nothing."""

    path: Path
    places: list[Path]
    labels: list[Path] = field(default_factory=list)
    splits: bool = False
    empty: bool = True


@st.composite
def samples(draw: Callable[..., Any], own_names: bool = False, most: int = 6) -> Sample:
    """A random data set. ``own_names``: no two pictures bear the same name, in whatever folders."""
    names = _some_names(draw)
    folders = draw(st.lists(st.sampled_from(("", *FOLDERS)), min_size=1, max_size=3, unique=True))
    own_names = own_names or draw(st.booleans())
    taken: set[str] = set()
    shots = []
    for _ in range(draw(st.integers(2, most))):
        folder, suffix = draw(st.sampled_from(folders)), draw(st.sampled_from(SUFFIXES))
        stem, number = draw(st.sampled_from(STEMS) | _STEM), 2
        while (key := _key(stem if own_names else f"{folder}/{stem}")) in taken:
            stem, number = f"{stem.rstrip(string.digits)}{number}", number + 1
        taken.add(key)
        width, height = size = draw(st.sampled_from(SIZES))
        boxes: dict[tuple[float, ...], writers.Box] = {}
        for _ in range(draw(st.integers(0, 4))):
            x0, y0 = draw(st.integers(0, 4 * (width - 3))), draw(st.integers(0, 4 * (height - 3)))
            x1, y1 = draw(st.integers(x0 + 12, 4 * width)), draw(st.integers(y0 + 12, 4 * height))
            place = (x0 / 4, y0 / 4, x1 / 4, y1 / 4)
            boxes[place] = (*place, draw(st.sampled_from(names)))
        shots.append(Shot(folder, stem, suffix, draw(st.sampled_from(SPLITS)), size, tuple(boxes.values())))
    if not any(shot.boxes for shot in shots):
        shots[0] = replace(shots[0], boxes=((1.0, 2.0, 9.5, 12.25, names[0]),))
    return Sample(shots, names, draw)


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


_STEM = (
    st.text(LETTERS, min_size=1, max_size=10)
    .map(str.strip)
    .filter(lambda text: text and text[0] not in ".~" and text[-1] != "." and ".." not in text)
)


def _key(name: str) -> str:
    return composed(name).casefold().replace(" ", "_")


def _some_names(draw: Callable[..., Any]) -> list[str]:
    return draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=6, unique_by=composed))


@lru_cache(maxsize=256)
def _bytes(size: tuple[int, int], seed: int, kind: str) -> bytes:
    """A picture's file, different for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(stream, kind)
    return stream.getvalue()


def put_pictures(sample: Sample, places: Sequence[Path]) -> list[Path]:
    for seed, (shot, place) in enumerate(zip(sample.shots, places)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_bytes(shot.size, seed, "PNG" if shot.suffix.lower() == ".png" else "JPEG"))
    return list(places)


def _text_encoding(sample: Sample) -> str:
    return sample.pick("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-8 crlf")


# YOLO


def _yolo_shape(sample: Sample, settings: bool) -> tuple[Callable[[writers.Row], str], str]:
    """What label lines look like, and the line of data.yaml that says so."""
    shape = sample.pick("box", "box", "box", "polygon", "obb", *(["pose"] if settings else []))
    keypoints = (sample.pick(2, 3, 5), sample.pick(2, 3))
    stated = f"kpt_shape: [{keypoints[0]}, {keypoints[1]}]\n" if shape == "pose" else ""
    return lambda row: writers.yolo_text(row, sample.names, shape, keypoints), stated


def _yolo_labels(sample: Sample, places: Sequence[Path], text: Callable[[writers.Row], str]) -> list[Path]:
    encoding, suffix = (
        sample.pick("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-8 crlf"),
        sample.pick(".txt", ".txt", ".TXT"),
    )
    rows = sample.rows(sample.shots, lambda shot: shot.path)
    files = [place.with_suffix(suffix) for place in places]
    return [writers.write_text(file, text(row), encoding) for file, row in zip(files, rows)]


def _yolo_names(sample: Sample, file: Path, head: str) -> Path:
    kind = sample.pick("list", "dict", "flow", "dump")
    texts = [writers.yaml_text(name) for name in sample.names]
    if kind == "list":
        names = "names:\n" + "".join(f"- {text}\n" for text in texts)
    elif kind == "dict":
        names = "names:\n" + "".join(f"  {number}: {text}\n" for number, text in enumerate(texts))
    elif kind == "flow":
        flow = [text if text[0] == "'" or not set(text) & set(",[]{}:") else f"'{text}'" for text in texts]
        names = f"nc: {len(texts)}\nnames: [{', '.join(flow)}]\n"
    else:
        names = yaml.safe_dump({"names": dict(enumerate(sample.names))}, sort_keys=False, allow_unicode=True)
    return writers.write_text(file, head + names, _text_encoding(sample))


def yolo_folders(root: Path, sample: Sample) -> Written:
    """data.yaml with folders: images/<split>/… or <split>/images/…"""
    split_first, capitals = sample.pick(True, False), sample.pick(False, False, True)
    images, labels = ("Images", "Labels") if capitals else ("images", "labels")
    words = {"train": "train", "val": sample.pick("val", "valid", "validation"), "test": "test"}

    def place(shot: Shot, top: str) -> Path:
        word = words[shot.split]
        return root / (f"{word}/{top}" if split_first else f"{top}/{word}") / shot.path

    places = put_pictures(sample, [place(shot, images) for shot in sample.shots])
    text, stated = _yolo_shape(sample, True)
    files = _yolo_labels(sample, [place(shot, labels) for shot in sample.shots], text)
    lines = [sample.pick("", "path: .\n", f"path: {writers.yaml_text(str(root))}\n"), stated]
    slash, key = sample.pick("", "/"), {**words, "val": sample.pick("val", words["val"])}
    for split in SPLITS:
        if sample.of_split(split):
            lines.append(f"{key[split]}: {f'{words[split]}/{images}' if split_first else f'{images}/{words[split]}'}")
            lines.append(f"{slash}\n")
    if not sample.of_split("train"):
        lines.append("train:\n")
    return Written(root, places, [*files, _yolo_names(sample, root / "data.yaml", "".join(lines))], splits=True)


def yolo_lists(root: Path, sample: Sample) -> Written:
    """data.yaml with list files, images/… and labels/…"""
    places = put_pictures(sample, [root / "images" / shot.path for shot in sample.shots])
    text, stated = _yolo_shape(sample, True)
    files = _yolo_labels(sample, [root / "labels" / shot.path for shot in sample.shots], text)
    kind, encoding = sample.pick("relative", "./", "absolute", "windows", "moved"), _text_encoding(sample)
    lines = [stated]
    for split in SPLITS:
        chosen = [place for place, shot in zip(places, sample.shots) if shot.split == split]
        if not chosen:
            continue
        names = [place.relative_to(root).as_posix() for place in chosen]
        if kind == "windows":
            names = [name.replace("/", "\\") for name in names]
        before = {"./": "./", "absolute": f"{root}/", "moved": "/home/ann/set/"}.get(kind, "")
        content = "".join(f"{before}{sample.spelled(name)}\n" for name in names)
        files.append(writers.write_text(root / f"{split}.txt", content, encoding))
        lines.append(f"{split}: {split}.txt\n")
    if not sample.of_split("train"):
        lines.append("train: []\n")
    return Written(root, places, [*files, _yolo_names(sample, root / "data.yaml", "".join(lines))], splits=True)


def yolo_darknet(root: Path, sample: Sample) -> Written:
    """CVAT's YOLO export: obj.data, obj.names, train.txt, obj_train_data/."""
    sample.shots = [replace(shot, split="val" if shot.split == "test" else shot.split) for shot in sample.shots]
    words = {"train": "train", "val": "valid"}
    places = [root / f"obj_{words[shot.split]}_data" / shot.path for shot in sample.shots]
    put_pictures(sample, places)
    text, _ = _yolo_shape(sample, False)
    files, encoding = _yolo_labels(sample, places, text), _text_encoding(sample)
    lines = [f"classes = {len(sample.names)}\n"]
    before = sample.pick("data/", "", "./")
    for split, word in words.items():
        names = [p.relative_to(root).as_posix() for p, shot in zip(places, sample.shots) if shot.split == split]
        if names:
            content = "".join(f"{before}{sample.spelled(name)}\n" for name in names)
            files.append(writers.write_text(root / f"{word}.txt", content, encoding))
            lines.append(f"{word} = data/{word}.txt\n")
    lines += ["names = data/obj.names\n", "backup = backup/\n"]
    files.append(writers.write_text(root / "obj.names", "".join(f"{n}\n" for n in sample.names), encoding))
    files.append(writers.write_text(root / "obj.data", "".join(lines)))
    return Written(root, places, files, splits=True)


def yolo_roboflow_darknet(root: Path, sample: Sample) -> Written:
    """Roboflow's darknet export: train/ and valid/ with pictures, texts and _darknet.labels each."""
    words = {"train": "train", "val": "valid", "test": "test"}
    places = put_pictures(sample, [root / words[shot.split] / shot.path for shot in sample.shots])
    files = _yolo_labels(sample, places, _yolo_shape(sample, False)[0])
    names, encoding = "\n".join(sample.names), _text_encoding(sample)
    tops = dict.fromkeys(root / words[shot.split] for shot in sample.shots)
    files += [writers.write_text(top / "_darknet.labels", names, encoding) for top in tops]
    return Written(root, places, files, splits=True)


def yolo_bare(root: Path, sample: Sample) -> Written:
    """images/ and labels/, or pictures and texts side by side, with a classes.txt."""
    images, labels = sample.pick(("images", "labels"), ("Images", "Labels"), ("", ""), ("data", "data"))
    split = sample.pick(True, False) and images.lower() == "images"
    paths = [f"{shot.split}/{shot.path}" if split else shot.path for shot in sample.shots]
    places = put_pictures(sample, [root / images / path for path in paths])
    files = _yolo_labels(sample, [root / labels / path for path in paths], _yolo_shape(sample, False)[0])
    listed = writers.write_text(root / "classes.txt", "".join(f"{n}\n" for n in sample.names), _text_encoding(sample))
    return Written(root, places, [*files, listed], splits=split)


# COCO


def _coco_ids(sample: Sample) -> dict[str, Any]:
    as_text, as_float = str, float
    ids = sample.pick(int, as_text, as_float, "img_{}".format, lambda number: 900 - 7 * number)
    again = sample.pick(ids, as_text, as_float) if ids in (int, as_text, as_float) else ids
    order = sample.draw(st.permutations(range(len(sample.names))))
    category = sample.pick(lambda n: n + 1, int, lambda n: float(n + 1), lambda n: str(n), lambda n: 90 - 3 * order[n])
    kinds = {"outline": sample.pick(False, False, False, True), "indent": sample.pick(None, 1)}
    return {"image_id": ids, "image_id_again": again, "category_id": category, **kinds}


def _json_encoding(sample: Sample) -> str:
    return sample.pick("utf-8", "utf-8", "utf-8-sig", "utf-16", "ascii")


def _address(sample: Sample, root: Path, top: str) -> Callable[[Shot], str]:
    """What a file calls its picture, which lies at ``root/top/shot.path``."""
    kind = sample.pick("plain", "plain", "top", "absolute", "moved", "windows", "url", "local-files", "dots")

    def name(shot: Shot) -> str:
        path = sample.spelled(shot.path)
        below = f"{top}/{path}" if top else path
        return {
            "plain": path,
            "top": below,
            "absolute": f"{root}/{below}",
            "moved": f"/home/ann/data/{below}",
            "windows": "C:\\Users\\ann\\" + below.replace("/", "\\"),
            "url": f"https://example.org/store/{quote(below)}",
            "local-files": f"/data/local-files/?d={quote(below)}",
            "dots": f"./{path}",
        }[kind]

    return name


def coco_one(root: Path, sample: Sample) -> Written:
    """One file, in annotations/ or at the top; pictures in images/ or beside it."""
    top = sample.pick("images", "", "data", "JPEGImages")
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])
    file = root / sample.pick("annotations/instances_default.json", "coco.json", "labels.json", "result.json")
    rows = sample.rows(sample.shots, _address(sample, root, top))
    writers.write_coco(file, rows, sample.names, _json_encoding(sample), **_coco_ids(sample))
    return Written(sample.pick(root, file), places, [file])


def coco_splits(root: Path, sample: Sample) -> Written:
    """annotations/instances_<split>.json, pictures in images/ or images/<split>/."""
    own, top, year = sample.pick(True, False), sample.pick("images", "", "data"), sample.pick("", "2017")
    words = [f"{shot.split}{year}" if own else "" for shot in sample.shots]
    places = put_pictures(sample, [root / top / word / shot.path for word, shot in zip(words, sample.shots)])
    files = []
    for split in SPLITS:
        if shots := sample.of_split(split):
            below = f"{top}/{split}{year}".strip("/") if own else top
            file = root / f"annotations/instances_{split}{year}.json"
            rows = sample.rows(shots, _address(sample, root, below))
            files.append(writers.write_coco(file, rows, sample.names, _json_encoding(sample), **_coco_ids(sample)))
    return Written(root, places, files, splits=len(files) > 1)


def coco_roboflow(root: Path, sample: Sample) -> Written:
    """train/_annotations.coco.json beside its pictures, and so on."""
    words = {"train": "train", "val": "valid", "test": "test"}
    places = put_pictures(sample, [root / words[shot.split] / shot.path for shot in sample.shots])
    files = []
    for split, word in words.items():
        if shots := sample.of_split(split):
            rows = sample.rows(shots, lambda shot: sample.spelled(shot.path))
            file = root / word / "_annotations.coco.json"
            files.append(writers.write_coco(file, rows, sample.names, _json_encoding(sample), **_coco_ids(sample)))
    return Written(root, places, files, splits=True)


# XML


def _xml_encoding(sample: Sample) -> str:
    """One that can be declared and holds all names."""
    text = "".join((*sample.names, *(shot.path for shot in sample.shots)))
    text += composed(text) + unicodedata.normalize("NFD", text)
    fitting = ["utf-8", "utf-8", "utf-8-sig", "utf-16"]
    for encoding in ("gbk", "iso-8859-1", "windows-1252", "shift_jis", "koi8-r"):
        try:
            fitting += [encoding] if text.encode(encoding) else []
        except UnicodeEncodeError:
            continue
    return sample.pick(*fitting)


def voc(root: Path, sample: Sample) -> Written:
    """Annotations/ and JPEGImages/, with ImageSets/Main or without; or files beside their pictures."""
    layout = sample.pick("folders", "lists", "flat", "roboflow")
    words = {"train": "train", "val": "valid", "test": "test"}
    flat, split = layout in ("flat", "roboflow"), layout == "roboflow"
    paths = [f"{words[shot.split]}/{shot.path}" if split else shot.path for shot in sample.shots]
    places = put_pictures(sample, [root / ("" if flat else "JPEGImages") / path for path in paths])
    called = sample.pick(
        lambda name: PurePosixPath(name).name,
        lambda name: unicodedata.normalize("NFD", PurePosixPath(name).name),
        lambda name: PurePosixPath(name).stem,
        lambda name: f"C:\\data\\{PurePosixPath(name).name}",
        lambda name: "000017.jpg",
        lambda name: "",
    )
    rows = [(path, *shot.size, shot.boxes) for path, shot in zip(paths, sample.shots)]
    kinds = {"encoding": _xml_encoding(sample), "prefix": sample.pick("", "", "v"), "filename": called}
    files = writers.write_voc(root, rows, flat, **kinds)
    if layout == "lists":
        for split_name in SPLITS:
            listed = [PurePosixPath(shot.path).with_suffix("").as_posix() for shot in sample.of_split(split_name)]
            text = "".join(f"{sample.spelled(name)}\n" for name in listed)
            encoding = _text_encoding(sample)
            files.append(writers.write_text(root / f"ImageSets/Main/{split_name}.txt", text, encoding))
    return Written(root, places, files, splits=layout in ("lists", "roboflow"))


def cvat(root: Path, sample: Sample) -> Written:
    """annotations.xml with the pictures in images/ or beside it; subsets as a project's export states them."""
    top = sample.pick("images", "", "images/default")
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])
    rows = sample.rows(sample.shots, _address(sample, root, top))
    subset = {"train": "Train", "val": "Validation", "test": "Test"}
    with_subsets = sample.pick(True, False)
    subsets = {row[0]: subset[shot.split] for row, shot in zip(rows, sample.shots)} if with_subsets else None
    file = writers.write_cvat(root, rows, _xml_encoding(sample), subsets)
    return Written(sample.pick(root, file), places, [file], splits=with_subsets)


# The others


def label_studio(root: Path, sample: Sample) -> Written:
    """JSON or JSON_MIN, with addresses of local files, uploads or of the web."""
    top = sample.pick("images", "", "media/upload")
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])
    write = sample.pick(writers.write_label_studio, writers.write_label_studio_min)
    prefix = sample.pick("/data/local-files/?d={}", "/data/upload/1/{}", "s3://bucket/{}", "https://example.org/{}")
    prefix = sample.pick(prefix, prefix, "/data/local-files/?d={} raw")
    rows = sample.rows(sample.shots, lambda shot: f"{top}/{sample.spelled(shot.path)}".lstrip("/"))

    def address(path: str) -> str:
        if prefix.endswith(" raw"):
            return prefix.removesuffix(" raw").format(path)
        return prefix.format(quote(path) if "s3" not in prefix else path)

    file = write(
        root, rows, _json_encoding(sample), sample.pick("rectangle", "rectangle", "polygon", "ellipse"), address
    )
    return Written(sample.pick(root, file), places, [file])


def labelme(root: Path, sample: Sample) -> Written:
    """A JSON beside each picture, or in a folder of their own."""
    top, folder = sample.pick(("", ""), ("images", "images"), ("images", "labels"))
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])

    def stated(name: str) -> str:
        path = PurePosixPath(name)
        if top == folder:
            return path.name
        return "/".join((*[".."] * len(path.parts), top, name))

    mark = sample.pick("/", "\\")
    rows = sample.rows(sample.shots, lambda shot: shot.path)
    shape, encoding = sample.pick("rectangle", "polygon"), _json_encoding(sample)
    writers.write_labelme(
        root / folder, rows, encoding, shape, lambda name: sample.spelled(stated(name)).replace("/", mark)
    )
    files = [root / folder / PurePosixPath(shot.path).with_suffix(".json") for shot in sample.shots]
    return Written(root, places, files)


def manifest(root: Path, sample: Sample) -> Written:
    """One manifest, or one a split."""
    top = sample.pick("images", "")
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])
    before = sample.pick("", "./", f"{root}/", "s3://bucket/set/", "/home/ann/set/")
    split = sample.pick(True, False)
    files = []
    for name in SPLITS if split else ("output",):
        shots = sample.of_split(name) if split else sample.shots
        if shots:
            rows = sample.rows(shots, lambda shot: before + f"{top}/{sample.spelled(shot.path)}".lstrip("/"))
            encoding = sample.pick("utf-8", "utf-8-sig", "ascii", "utf-8 crlf")
            files.append(writers.write_manifest(root / f"{name}.manifest", rows, sample.names, encoding=encoding))
    return Written(root, places, files, splits=split)


def viame(root: Path, sample: Sample) -> Written:
    """One CSV for all pictures, or one for each folder."""
    top = sample.pick("images", "")
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])
    base_only = len({_key(shot.stem) for shot in sample.shots}) == len(sample.shots) and sample.pick(True, False)
    rows = sample.rows(sample.shots, lambda shot: sample.spelled(shot.name if base_only else shot.path))
    file = writers.write_viame(root, rows, sample.pick("utf-8", "utf-8-sig", "utf-16", "utf-8 ;"))
    return Written(sample.pick(root, file), places, [file], empty=False)


def biigle(root: Path, sample: Sample) -> Written:
    """The report of one volume; BIIGLE knows the names of pictures, not their folders."""
    top = sample.pick("images", "")
    places = put_pictures(sample, [root / top / shot.path for shot in sample.shots])
    own = len({_key(shot.stem) for shot in sample.shots}) == len(sample.shots)
    rows = sample.rows(sample.shots, lambda shot: sample.spelled(shot.name if own else shot.path))
    encoding, shape = sample.pick("utf-8", "utf-8-sig", "utf-16", "utf-8 ;"), sample.pick("Rectangle", "Polygon")
    file = writers.write_biigle(root, rows, encoding, shape=sample.pick(shape, shape, "Ellipse"))
    return Written(sample.pick(root, file), places, [file], empty=False)


LAYOUTS: dict[str, Callable[[Path, Sample], Written]] = {
    layout.__name__: layout
    for layout in (
        *(yolo_folders, yolo_lists, yolo_darknet, yolo_roboflow_darknet, yolo_bare),
        *(coco_one, coco_splits, coco_roboflow, voc, cvat, label_studio, labelme, manifest, viame, biigle),
    )
}
FORMATS = {name: re.sub(r"^(yolo|coco)_.*", r"\1", name) for name in LAYOUTS}
"""The format that each layout is read as."""
