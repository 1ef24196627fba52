"""Where the splits of a YOLO data set lead: the pictures that a ``train:``, ``val:`` or ``test:`` names, and their
label files by Ultralytics' rule (``images`` becomes ``labels``)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from marauder.core.plain import PlainMapping
from marauder.data.formats.base import ReadOptions
from marauder.data.formats.entries import Findings
from marauder.data.formats.source import Listing, Source
from marauder.data.formats.text import clean_text, lines_of, read_text
from marauder.data.picture_files import PICTURE_SUFFIXES, common_suffix_match, is_picture, path_exists
from marauder.data.stored import RECORDS_FILE


class Places:
    """Where the entries of a data.yaml lead."""

    def __init__(
        self, file: Path, root: Path, tree: Source, options: ReadOptions, findings: Findings, used: set[Path]
    ) -> None:
        self.file, self.root, self.tree, self.options, self.used = file, root, tree, options, used
        self.findings = findings
        self.climbing, self.neighbour = True, ""
        self.listing = Listing()

    def climbs(self, content: PlainMapping, keys: Sequence[str]) -> bool:
        """Whether ``../`` leads out of the folder. Roboflow writes ``../train/images`` and means the folder below the
        data.yaml; followed, it reads the neighbour's train/."""
        entries = [content.get(key) for key in keys]
        texts = [text for entry in entries for text in (entry if isinstance(entry, list) else [entry]) if text]
        climbing = [text for text in map(str, texts) if text.replace("\\", "/").startswith("../")]
        own = [text for text in climbing if (self.root / _without_climbing(text)).exists()]
        neighbours = [
            text
            for text in climbing
            if any((resolved(text, self.root).parents[up] / "data.yaml").is_file() for up in range(2))
        ]
        if own:
            message = f"{own[0]}: read as {_without_climbing(own[0])} below this file; ../ was not followed"
            self.findings.add("root-moved", message, self.file)
        self.neighbour = neighbours[0] if neighbours and not own else ""
        return not own and not neighbours

    def pictures(self, entry: str) -> list[tuple[Path, Path]]:
        """Pictures of one ``train:``/``val:``/``test:`` entry (a folder, a list file, or one picture), each with the
        path as listed."""
        text = entry if self.climbing else _without_climbing(entry)
        place = resolved(text, self.root)
        if not path_exists(place) and (found := self.listing.find(place)) is not None:
            place = found
        bare = not path_exists(place) or (place.is_dir() and not self.tree.below(place).pictures.names)
        if bare and self.options.pictures is not None:
            return self._apart(text, place)
        if not path_exists(place):
            moved = common_suffix_match(text, dict.fromkeys((self.root, self.file.parent)))
            if moved is not None and moved.name.lower() == "images" and "/" in text.strip("./"):
                # The end of train/images alone is the images/ of all splits.
                moved = moved if moved.parent.name == place.parent.name else None
            if moved is None:
                message = f"{entry}: no such folder or list file below {self.root}"
                self.findings.add("split-missing", message, self.file)
                return []
            words = "belongs to another data set" if self.neighbour else "does not exist"
            self.findings.add("root-moved", f"{entry} {words}; using {moved}", self.file)
            place = moved
        if place.is_dir():
            tree = self.tree.below(place)
            self.tree.odd_names += tree.odd_names
            return [(place / name, place / name) for name in tree.pictures.names]
        return [(place, place)] if is_picture(place) else self._list_file(place)

    def _apart(self, text: str, place: Path) -> list[tuple[Path, Path]]:
        """Pictures of a split that lie in ``options.pictures``: those with a label file in the split's folder of
        labels, else those of the folder that has the split's name, else all."""
        folder = self.options.pictures
        assert folder is not None
        index = self.tree.below(folder).pictures
        labels = label_path(place / "x").parent
        labels = labels if labels.is_dir() else place
        if labels.is_dir():
            files = [name for name in self.tree.below(labels).files if name.lower().endswith(".txt")]
            found = [(index.find(name.rpartition(".")[0]), place / name) for name in files]
            return [(folder / match.name, name) for match, name in found if match is not None and not match.others]
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            top = "/".join(parts[start:]) + "/"
            if below := [name for name in index.names if name.startswith(top)]:
                return [(folder / name, place / name[len(top) :]) for name in below]
        return [(folder / name, place / name) for name in index.names]

    def _list_file(self, file: Path) -> list[tuple[Path, Path]]:
        self.used.add(file)
        index = self.tree.below(self.options.pictures).pictures
        pictures, moved = [], 0
        # Lists written with mode "reference" may name absent pictures, whose labels count all the same.
        written_by_us = (self.root / RECORDS_FILE).exists()
        for line, content in enumerate(lines_of(read_text(file, self.findings) or ""), 1):
            text = content.strip().strip("\ufeff").strip("\"'")
            if not text:
                continue
            # Ultralytics takes ./ for the folder of the list; everything else lies below the root.
            listed = resolved(text, file.parent if text.startswith("./") else self.root)
            picture = listed if path_exists(listed) else self.listing.find(listed)
            if picture is None:
                # A folder that is here lacks the picture; one of that name elsewhere is another picture.
                here = is_picture(listed) and listed.parent.is_dir() and listed.parent != self.root
                match = None if here else index.find(text)
                if match is not None and not match.others:
                    picture = (self.options.pictures or self.root) / match.name
                    moved += not match.whole
                elif not written_by_us:
                    words = "may be one of several pictures" if match is not None else "does not exist"
                    kind = "picture-ambiguous" if match is not None else "picture-missing"
                    self.findings.add(kind, f"listed picture {clean_text(text)} {words}", file, line)
                    continue
            pictures.append((picture or listed, listed if is_picture(listed) else picture or listed))
        if moved:
            message = f"{moved} listed pictures have moved; found below {self.options.pictures or self.root}"
            self.findings.add("root-moved", message, file)
        return pictures


def label_path(picture: Path) -> Path:
    """Where Ultralytics looks for a picture's labels: the last ``images`` folder becomes ``labels``, suffix .txt."""
    # With a slash before it, so that a relative path may begin with images/.
    text = f"/{picture}"
    place = text.lower().rfind("/images/")
    return text_file(f"{text[:place]}/labels/{text[place + 8 :]}"[1:] if place >= 0 else text[1:])


def text_file(picture: str) -> Path:
    """A picture's path with the suffix .txt. What follows the last dot belongs to the name, where it is no suffix of a
    picture: ``dive.2`` is not ``dive``."""
    name, suffix = os.path.splitext(picture)  # noqa: PTH122 - of every picture
    return Path(f"{name if suffix.lower() in PICTURE_SUFFIXES else picture}.txt")


def resolved(text: str, base: Path) -> Path:
    """``text`` below ``base``, without ``..`` steps, links left as they are."""
    return Path(os.path.normpath(base / Path(text.replace("\\", "/")).expanduser()))


def _without_climbing(text: str) -> str:
    return re.sub(r"^(\.\./)+", "", text.replace("\\", "/"))
