"""Pictures without labels: a plain folder of pictures, or whatever a data set holds, as records of one data set."""

from __future__ import annotations

from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.picture_files import find_pictures
from marauder.data.readers.base import Draft, ReadOptions, finish, unique_keys
from marauder.data.reading import choose_reader, is_empty, read_dataset
from marauder.data.records import Dataset, Problem


def read_plain_folder(folder: Path, group_pattern: str | None = None) -> Dataset:
    """All pictures below ``folder`` as records that nobody labelled, in no split; sizes are read from the headers.

    A picture that cannot be read is left out with a problem. Groups follow from the names (data.groups), or from
    ``group_pattern``. Raises ``UserError`` for a folder without a readable picture.
    """
    pictures = find_pictures(folder)
    keys = unique_keys((picture, folder) for picture in pictures)
    drafts = [Draft(key, picture, labelled=False) for key, picture in zip(keys, pictures, strict=True)]
    problems: list[Problem] = []
    records = finish(drafts, None, ReadOptions(group_pattern=group_pattern), problems)
    if not records:
        found = "".join(f"\n  {problem}" for problem in problems[:5])
        raise UserError(f"{folder}: holds no picture that can be read{found}\nput .jpg or .png files into it")
    return Dataset((), tuple(records), str(folder), tuple(problems))


def read_pictures(path: Path | str, group_pattern: str | None = None) -> Dataset:
    """The data set at ``path``, or, where a folder is none that any reader knows, its pictures.

    Raises ``UserError`` for a path that does not exist, and for one that holds no picture.
    """
    place = Path(path).expanduser()
    if place.is_dir() and not is_empty(place) and not is_dataset(place):
        return read_plain_folder(place, group_pattern)
    return read_dataset(place, group_pattern=group_pattern)


def is_dataset(place: Path) -> bool:
    """Whether a reader knows the layout of ``place``."""
    try:
        choose_reader(place)
    except UserError:
        return False
    return True
