"""Pascal VOC: one XML file a picture, with ``ImageSets/Main`` lists for the splits where there are any.

Coordinates are pixels counted from 1 (VOC development kit), so that the left and top edges move by one; objects
marked ``difficult`` become ignored boxes, ``occluded`` and ``truncated`` attributes of their box.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from marauder.core.errors import UserError
from marauder.data.picture_files import PICTURE_SUFFIXES
from marauder.data.readers.base import SPLIT_NAMES, Draft, Reader, ReadOptions, finish, unique_keys
from marauder.data.records import Dataset, Problem

BOX_FLAGS = ("occluded", "truncated")
PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "")


class VocReader(Reader):
    """Reads Pascal VOC folders, and XML files beside their pictures."""

    name = "voc"

    def recognises(self, path: Path) -> bool:
        folder = _annotation_folder(path)
        if folder is None:
            return False
        with next(folder.glob("*.xml")).open("rb") as stream:
            return b"<annotation" in stream.read(2048)

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        folder = _annotation_folder(path)
        if folder is None:
            raise UserError(f"{path}: no XML annotations in Annotations/ or in the folder itself")
        root = folder.parent if folder.name.lower() == "annotations" else folder
        problems: list[Problem] = []
        splits = _splits(root)
        files = sorted(folder.glob("*.xml"))
        objects: list[tuple[Draft, list[str]]] = []
        for file in files:
            draft, class_names = _read_xml(file, root, options, problems)
            draft.split = splits.get(file.stem)
            objects.append((draft, class_names))
        for draft, key in zip((draft for draft, _ in objects), unique_keys((d.picture, root) for d, _ in objects)):
            draft.key = key
        keys = {draft.label_file: draft.key for draft, _ in objects}
        problems = [replace(problem, key=keys[problem.path]) if problem.key else problem for problem in problems]
        names = options.names or tuple(sorted({name for _, class_names in objects for name in class_names}))
        index_of = {name: index for index, name in enumerate(names)}
        for draft, class_names in objects:
            # A class that --names leaves out is out of range, so that it is reported and dropped like any other.
            draft.classes = [index_of.get(name, len(names)) for name in class_names]
        problems.extend(_unlabelled(root, [draft.picture for draft, _ in objects]))
        records = finish([draft for draft, _ in objects], len(names), options, problems)
        return Dataset(names, tuple(records), str(path), tuple(problems))


def _annotation_folder(path: Path) -> Path | None:
    if not path.is_dir():
        return None
    for folder in (path / "Annotations", path / "annotations", path):
        if folder.is_dir() and next(folder.glob("*.xml"), None) is not None:
            return folder
    return None


def _splits(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in sorted((root / "ImageSets" / "Main").glob("*.txt")):
        split = SPLIT_NAMES.get(file.stem.lower())
        if split:
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.split():
                    found[line.split()[0]] = split
    return found


def _read_xml(file: Path, root: Path, options: ReadOptions, problems: list[Problem]) -> tuple[Draft, list[str]]:
    """The file's picture with its boxes, and the class name of each box."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        # The declared encoding no longer holds for decoded text.
        tree = fromstring(re.sub(r"^\ufeff?\s*<\?xml[^>]*\?>", "", text))
    except ParseError as error:
        draft = Draft(file.stem, _picture(file, None, root, options), label_file=str(file), labelled=False)
        problems.append(Problem(str(file), error.position[0], "label-syntax", f"not valid XML ({error})", file.stem))
        return draft, []
    except DefusedXmlException as error:
        draft = Draft(file.stem, _picture(file, None, root, options), label_file=str(file), labelled=False)
        problems.append(Problem(str(file), None, "label-syntax", f"XML entities are not accepted ({error})", file.stem))
        return draft, []
    lines = [number for number, line in enumerate(text.splitlines(), 1) for _ in re.findall(r"<object\b", line)]
    draft = Draft(file.stem, _picture(file, tree.findtext("filename"), root, options), label_file=str(file))
    draft.width, draft.height = _number(tree, "size/width"), _number(tree, "size/height")
    names = []
    for position, element in enumerate(tree.iter("object")):
        line = lines[position] if position < len(lines) else 0
        try:
            name, box = _object(element)
        except ValueError as error:
            problems.append(Problem(str(file), line or None, "label-syntax", str(error), file.stem))
            continue
        names.append(name)
        draft.add(box, 0, _flags(element, ("difficult",)).get("difficult", False), line, _flags(element, BOX_FLAGS))
    return draft, names


def _object(element: Element) -> tuple[str, tuple[float, float, float, float]]:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("object without a name")
    texts = [element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x0, y0, x1, y1 = (float(text or "") for text in texts)
    except ValueError:
        raise ValueError(f"object {name!r}: bndbox {texts} is not four numbers") from None
    return name, (x0 - 1, y0 - 1, x1, y1)


def _flags(element: Element, names: tuple[str, ...]) -> dict[str, bool]:
    """Those of the flags that the object states as 0 or 1."""
    texts = {name: (element.findtext(name) or "").strip() for name in names}
    return {name: text == "1" for name, text in texts.items() if text in ("0", "1")}


def _number(tree: Element, path: str) -> int:
    try:
        return max(0, int(float(tree.findtext(path) or 0)))
    except ValueError:
        return 0


def _picture(file: Path, stated: str | None, root: Path, options: ReadOptions) -> Path:
    folders = [options.pictures] if options.pictures else [root / name for name in PICTURE_FOLDERS]
    names = [Path(stated.replace("\\", "/")).name] if stated else []
    names += [f"{file.stem}{suffix}" for suffix in sorted(PICTURE_SUFFIXES)]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return folders[0] / names[0]


def _unlabelled(root: Path, pictures: list[Path]) -> list[Problem]:
    known = set(pictures)
    folder = root / "JPEGImages"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        Problem(str(file), None, "picture-without-label", "no XML annotation belongs to this picture (left out)")
        for file in found
        if file.suffix.lower() in PICTURE_SUFFIXES and file not in known
    ]
