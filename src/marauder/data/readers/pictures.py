"""A folder of pictures and nothing else: what a camera brought home, before anybody labelled it."""

from __future__ import annotations

import os
from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.picture_files import find_pictures, is_picture
from marauder.data.readers.base import Draft, Reader, ReadOptions, finish, unique_keys
from marauder.data.records import Dataset, Problem

LABEL_SUFFIXES = (".txt", ".xml", ".json", ".csv")


class PicturesReader(Reader):
    """Reads pictures without labels; subfolders count. They are unlabelled, or empty where the options say so."""

    name = "pictures"

    def recognises(self, path: Path) -> bool:
        """A folder with pictures, none of which has a file of its own name that could be its labels."""
        if not path.is_dir():
            return False
        found = False
        for _, folders, names in os.walk(path, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            stems = {os.path.splitext(name)[0] for name in names if is_picture(name)}  # noqa: PTH122
            others = (os.path.splitext(name) for name in names)  # noqa: PTH122
            if any(suffix.lower() in LABEL_SUFFIXES and stem in stems for stem, suffix in others):
                return False
            found = found or bool(stems)
        return found

    def read(self, path: Path, options: ReadOptions) -> Dataset:
        """Every picture below ``path`` as a record without boxes."""
        pictures = find_pictures(path) if path.is_dir() else []
        if not pictures:
            raise UserError(f"{path}: no pictures in this folder; put some into it, or name another one")
        keys = unique_keys((picture, path) for picture in pictures)
        labelled = options.missing_label == "empty"
        drafts = [Draft(key, picture, labelled=labelled) for key, picture in zip(keys, pictures)]
        problems: list[Problem] = []
        records = finish(drafts, len(options.names or ()), options, problems)
        return Dataset(options.names or (), tuple(records), str(path), tuple(problems))
