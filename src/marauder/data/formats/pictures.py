"""A folder of pictures and nothing else: what a camera brought home, before anybody labelled it."""

from __future__ import annotations

import os
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.wording import counted
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Entry, Findings
from marauder.data.formats.source import Source, fold, next_door, stem

LABEL_SUFFIXES = (".txt", ".xml", ".json", ".csv")


class PicturesReader(Reader):
    """Pictures without labels; subfolders count. They are unlabelled, or empty where the options say so."""

    name = "pictures"
    title = "Pictures without labels"

    def files(self, source: Source) -> list[Path]:
        """The pictures, if none of them has a file of its own name that could be its labels."""
        if source.path.is_file() or source.delivery:
            return []
        stems = {stem(name) for name in source.pictures.names}
        if any(name.lower().endswith(LABEL_SUFFIXES) and stem(name) in stems for name in source.files):
            return []
        return [source.root / name for name in source.pictures.names]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        """Every picture as an entry without labels."""
        pictures = [source.root / name for name in source.pictures.names] if source.path.is_dir() else []
        if not pictures:
            raise UserError(f"{source.path}: no pictures in this folder; put some into it, or name another one")
        labelled = options.missing_label == "empty"
        if not labelled:
            beside = next_door(source.path, LABEL_SUFFIXES)
            mine = next((beside[name] for path in pictures if (name := stem(fold(path.name))) in beside), None)
            what = "start with step 3, which chooses what to label first"
            if mine is not None:
                around = source.shown(Path(os.path.commonpath((source.path.absolute(), mine))))
                what = f"{source.shown(mine)} is called as a picture is; are the labels there? "
                what += f"Name the folder around both, {around}"
            message = f"{counted(len(pictures), 'picture')} and no label file: {what}"
            findings.add("labels-none", message, source.path)
        return Parsed([Entry((), path, picture=path, labelled=labelled) for path in pictures])
