"""Which pictures belong together by name: frames of one clip, copies of one source picture.

A group is never on two sides of a split. Likeness of pixels is the matter of data.duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from marauder.core.errors import UserError
from marauder.data.records import Dataset

# Roboflow names an exported copy <name>_<suffix>.rf.<hash>; copies of one picture differ in the hash alone.
ROBOFLOW_COPY = re.compile(r"^(?P<stem>.+?)(?:[_-](?:jpe?g|png|bmp|webp|tiff?))?\.rf\.[0-9a-zA-Z]{8,}$", re.IGNORECASE)

CLIP_PATTERNS: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # A video's name with its kind, then the frame: IMG_2274_MOV-3, dive7.mp4_000123, GOPR0012.MP4-55
        r"^(?P<clip>.+?[._-](?:mov|mp4|m4v|avi|mkv|mpg|mts|wmv))[._-]?(?:frame)?[._-]?\d+$",
        # The word says it: dive7_frame_0012, dive7-frame12, frame0012
        r"^(?P<clip>.*?)[._-]?frame[._-]?\d+$",
        # DeepFish: 7117_Caranx_sexfasciatus_juvenile_f000005
        r"^(?P<clip>.+)_f\d{3,}$",
    )
)
"""Names of frames, in the order tried; ``clip`` is what the frames of a clip share. A bare number at the end does not
count: stills are numbered too."""


def group_of(name: str, pattern: str | None = None, folder: str = "") -> str:
    """The group of a picture by its name (no folder, no suffix): its clip, its source picture, or the name itself.

    ``pattern`` is a regular expression tried before the built-in ones; its group named ``clip``, else its first group,
    is what pictures of one group share. Raises ``UserError`` for a pattern that is not valid.

    >>> group_of("IMG_2274_MOV-3"), group_of("IMG_2274"), group_of("7117_no_fish_2_f000004")
    ('IMG_2274_MOV', 'IMG_2274', '7117_no_fish_2')
    """
    copy = ROBOFLOW_COPY.match(name)
    stem = copy["stem"] if copy else name
    own = [compile_group_pattern(pattern)] if pattern else []
    for expression in (*own, *CLIP_PATTERNS):
        # The user's own pattern sees the name as it is, too.
        match = expression.search(stem) or (expression.search(name) if expression in own else None)
        if match:
            clip = match["clip"] if "clip" in expression.groupindex else match[1]
            if clip is not None:
                # Names that are nothing but a frame number share their folder.
                return clip.strip("._- ") or folder or "frame"
    return stem


@lru_cache(maxsize=32)
def compile_group_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of a user's pattern. Raises ``UserError`` when it is not valid or captures nothing."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group pattern {pattern!r}: not a regular expression ({error})") from None
    if not expression.groups:
        raise UserError(
            f"group pattern {pattern!r}: put the part that pictures of one group share in brackets, "
            r"for example '^(?P<clip>dive\d+)_'"
        )
    return expression


def _compiling(pattern: str) -> str:
    try:
        compile_group_pattern(pattern)
    except UserError as error:
        raise ValueError(str(error)) from None
    return pattern


GroupPattern = Annotated[str, AfterValidator(_compiling)]
"""A setting: a pattern for ``group_of``."""


def join_groups(dataset: Dataset, clusters: Iterable[Sequence[str]]) -> Dataset:
    """Join the groups of records whose keys stand in one cluster (near-duplicates), keeping every group whole.

    A joined group takes the first of its groups' names in sorted order, so that the result does not depend on the order
    of the clusters.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    group_by_key = {record.key: record.group for record in dataset}
    for cluster in clusters:
        first = root(group_by_key[cluster[0]])
        for key in cluster[1:]:
            other = root(group_by_key[key])
            low, high = sorted((first, other))
            parent[high] = low
            first = low
    return dataset.with_records(replace(record, group=root(record.group)) for record in dataset)
