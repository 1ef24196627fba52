"""COCO JSON: one file, or a folder with one file a split; pictures beside it, in ``images/`` or a split's folder."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.data.readers.base import SPLIT_NAMES, Draft, Reader, ReadOptions, finish, make_keys_unique
from marauder.data.records import Dataset, Problem

SNIFFED_BYTES = 65536
UNIDENTIFIED = "unidentified"


class CocoReader(Reader):
    """Reads COCO detection annotations; crowds become ignored boxes, category ids become 0, 1, 2 … in id order."""

    name = "coco"
    unboxed_pictures_are_labelled = True
    pictures_required = True

    def recognises(self, path: Path) -> bool:
        return any(_looks_like_coco(file) for file in annotation_files(path)[:3])

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        files = [path] if path.is_file() else annotation_files(path)
        if not files:
            raise UserError(f"{path}: no COCO annotations (*.json) here; name the JSON file itself")
        problems: list[Problem] = []
        names: list[str] = []
        drafts: list[Draft] = []
        for file in files:
            content = load_coco(file)
            # Files of one folder may number their categories differently; the name is what counts.
            categories = _categories(content, file, problems)
            for identity in sorted(categories):
                if categories[identity] not in names:
                    names.append(categories[identity])
            index_of = {identity: names.index(name) for identity, name in categories.items()}
            split = split_of_file(file) if len(files) > 1 or file.parent != path else None
            drafts.extend(self._drafts(content, file, split, index_of, names, options, problems))
        make_keys_unique(drafts)
        final_names = options.names or tuple(names)
        records = finish(drafts, len(final_names), options, problems, self.pictures_required)
        return Dataset(final_names, tuple(records), str(path), tuple(problems))

    def _drafts(
        self,
        content: dict[str, Any],
        file: Path,
        split: str | None,
        index_of: dict[int, int],
        names: list[str],
        options: ReadOptions,
        problems: list[Problem],
    ) -> list[Draft]:
        drafts: dict[Any, Draft] = {}
        rows = [row for row in content["images"] if isinstance(row, dict)]
        folders = _picture_folders(file, options.pictures)
        for row in rows:
            name = str(row.get("file_name") or "")
            if not name or row.get("id") is None:
                problems.append(Problem(str(file), None, "label-syntax", f"image without id or file_name: {row}"))
                continue
            draft = Draft(
                key=re.sub(r"\.[A-Za-z]{3,4}$", "", Path(name).as_posix().lstrip("/")),
                picture=_locate(name, folders),
                label_file=str(file),
                width=_whole(row.get("width")),
                height=_whole(row.get("height")),
                split=split,
            )
            self.describe(row, draft)
            drafts[row["id"]] = draft
        for row in content.get("annotations") or []:
            self._add_annotation(row, drafts, file, index_of, names, problems)
        for draft in drafts.values():
            searched = self.unboxed_pictures_are_labelled and "annotations" in content
            draft.labelled = bool(draft.boxes) or searched
        return list(drafts.values())

    def describe(self, row: dict[str, Any], draft: Draft) -> None:
        """Take attributes from an image's entry."""
        if row.get("coco_url"):
            draft.attributes["url"] = str(row["coco_url"])
        if row.get("date_captured"):
            draft.attributes["date"] = str(row["date_captured"])

    def _add_annotation(
        self,
        row: Any,
        drafts: dict[Any, Draft],
        file: Path,
        index_of: dict[int, int],
        names: list[str],
        problems: list[Problem],
    ) -> None:
        place = f"annotation {row.get('id') if isinstance(row, dict) else row!r}"
        draft = drafts.get(row.get("image_id")) if isinstance(row, dict) else None
        if draft is None:
            message = f"{place}: no image of this id"
            problems.append(Problem(str(file), None, "label-without-picture", message))
            return
        box = _box(row.get("bbox"))
        if box is None:
            message = f"{place}: bbox {row.get('bbox')!r} is not four finite numbers"
            problems.append(Problem(str(file), None, "label-syntax", message, draft.key))
            return
        identity = category_id(row.get("category_id"))
        if identity is not None:
            if identity in index_of:
                draft.add(box, index_of[identity], bool(row.get("iscrowd")))
            else:
                message = f"{place}: category_id {identity} is not among the categories"
                problems.append(Problem(str(file), None, "class-unknown", message, draft.key))
            return
        message = f"{place}: no category; kept as an ignored box of class {UNIDENTIFIED!r}"
        problems.append(Problem(str(file), None, "category-missing", message, draft.key))
        if UNIDENTIFIED not in names:
            names.append(UNIDENTIFIED)
        draft.add(box, names.index(UNIDENTIFIED), ignored=True)


def annotation_files(path: Path) -> list[Path]:
    """COCO files of a data set: the file itself, or those of a folder, its annotations/, its splits' folders."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    if not path.is_dir():
        return []
    for pattern in ("annotations/*.json", "*.json", "*/_annotations.coco.json", "*/annotations.json"):
        files = [file for file in sorted(path.glob(pattern)) if _looks_like_coco(file)]
        if pattern.startswith("annotations/"):
            instances = [file for file in files if file.name.startswith("instances_")]
            files = instances or files
        if files:
            return files
    return []


def load_coco(file: Path) -> dict[str, Any]:
    """The file's content, with ``images`` at least. Raises ``UserError`` with the line of a syntax error."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not valid JSON ({error.msg}); restore or export it again") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file}: cannot be read as text ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise UserError(f"{file}: not COCO: there is no list 'images'")
    return content


def category_id(value: Any) -> int | None:
    """A category id as a whole number (FathomNet writes 214.0); ``None`` when it is missing or not a number."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if math.isfinite(number) and number.is_integer() else None


def split_of_file(file: Path) -> str | None:
    """The split a file's name (instances_val2017.json) or its folder's name says."""
    words = [*re.findall(r"[a-z]+", file.stem.lower()), file.parent.name.lower()]
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _looks_like_coco(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(SNIFFED_BYTES)
            stream.seek(max(0, file.stat().st_size - SNIFFED_BYTES))
            tail = stream.read(SNIFFED_BYTES)
    except OSError:
        return False
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return False
    return b'"images"' in head or (b'"annotations"' in head and b'"images"' in tail) or b'"coco_url"' in head


def _categories(content: dict[str, Any], file: Path, problems: list[Problem]) -> dict[int, str]:
    found = {}
    for row in content.get("categories") or []:
        identity = category_id(row.get("id")) if isinstance(row, dict) else None
        if identity is None:
            problems.append(Problem(str(file), None, "label-syntax", f"category without a whole id: {row}"))
        else:
            found[identity] = str(row.get("name") or f"class_{identity}")
    return found


def _picture_folders(file: Path, chosen: Path | None) -> list[Path]:
    if chosen is not None:
        return [chosen]
    base = file.parent
    split = split_of_file(file)
    word = re.sub(r"^(instances|annotations)_", "", file.stem)
    folders = [base, base / "images", base / word, base / "images" / word]
    if base.name == "annotations":
        folders += [base.parent, base.parent / "images", base.parent / word, base.parent / "images" / word]
    if split:
        folders += [base / "images" / split, base.parent / "images" / split, base.parent / split]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()] or [base]


def _locate(name: str, folders: list[Path]) -> Path:
    """The picture's file, or where it would stand first when absent. Names without a suffix are tried with one."""
    inside = Path(name.replace("\\", "/").lstrip("/"))
    if ".." in inside.parts:
        inside = Path(inside.name)
    names = [inside] if inside.suffix else [inside, *(inside.with_suffix(end) for end in (".png", ".jpg", ".jpeg"))]
    for folder in folders:
        for candidate in names:
            if (folder / candidate).is_file():
                # The folder that holds one picture is tried first for the next.
                folders.remove(folder)
                folders.insert(0, folder)
                return folder / candidate
    return folders[0] / inside


def _box(value: Any) -> tuple[float, float, float, float] | None:
    try:
        x, y, width, height = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    box = (x, y, x + width, y + height)
    return box if all(math.isfinite(number) for number in box) else None


def _whole(value: Any) -> int:
    number = category_id(value)
    return number if number is not None and number > 0 else 0
