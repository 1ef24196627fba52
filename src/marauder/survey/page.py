"""The page of a survey: MaxN of each clip with the frames it rests on, numbers over time, the surest and least sure
pictures. One file, without scripts, read offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.core.files import write_text
from marauder.core.plain import Plain
from marauder.core.wording import counted
from marauder.data.contact_sheets import colour_of
from marauder.pages.rendering import embed_picture, render_page
from marauder.survey.counts import ClipCounts, Counts, MaxN, surest
from marauder.survey.drawing import small_path
from marauder.survey.seen import Seen
from marauder.survey.tables import clock_time

PAGE_FILE = "report.html"
MOST_CLIPS = 40
"""Clips with a chart and pictures; the others stand in ``maxn.csv``."""
PICTURES_A_CLIP = 4
MOST_PROBLEMS = 40
MOST_LINES = 5
POINTS = 240
LEFT, RIGHT, TOP, BOTTOM = 44, 750, 12, 140
"""The chart's sides in its own units; the template draws the frame around them."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Which frames the page shows. ``of_clips``: up to ``PICTURES_A_CLIP`` frames of MaxN of each clip, by its name,
    with the species and numbers that make them so."""

    surest: tuple[Seen, ...]
    least_sure: tuple[Seen, ...]
    of_clips: dict[str, list[tuple[Seen, list[MaxN]]]]

    @classmethod
    def of(cls, counts: Counts, most: int) -> Shown:
        """Choose them: up to ``most`` surest, and as many least sure ones that are not among these."""
        # Half of the frames at most, so that few frames are not all sure and none unsure.
        sure = surest(counts.scored, min(most, (len(counts.scored) + 1) // 2))
        taken = {(seen.key, seen.number) for seen in sure}
        rest = [one for one in counts.scored if (one[2].key, one[2].number) not in taken]
        of_clips = {clip.clip: _frames_of_max_n(clip, counts.species) for clip in counts.clips[:MOST_CLIPS]}
        return cls(tuple(sure), tuple(surest(rest, most, least=True)), of_clips)

    def places(self) -> frozenset[tuple[str, int]]:
        """Key and number of every frame that is shown."""
        of_clips = (seen for frames in self.of_clips.values() for seen, _ in frames)
        return frozenset((seen.key, seen.number) for seen in (*self.surest, *self.least_sure, *of_clips))


def write_page(
    folder: Path,
    state: Path,
    counts: Counts,
    shown: Shown,
    names: Sequence[str],
    problems: list[tuple[str, str]],
    told: dict[str, str],
) -> Path:
    """Write ``report.html``. ``told``: ``model``, ``threshold``, ``doubt`` and ``beside`` in words. The small
    pictures must be drawn."""
    score_of = {(seen.key, seen.number): score for score, _, seen in counts.scored}

    def card(seen: Seen, caption: str) -> dict[str, str]:
        picture = small_path(state, seen.key, seen.number).read_bytes()
        return {"source": embed_picture(picture), "alt": _moment(seen), "caption": caption}

    def scored(seen: Seen) -> dict[str, str]:
        return card(seen, f"{_moment(seen)} · mean score {score_of[seen.key, seen.number]:.2f}")

    clips = []
    for clip in counts.clips[:MOST_CLIPS]:
        pictures = [
            card(seen, f"{_moment(seen)} · " + ", ".join(f"{one.most} {names[one.species]}" for one in species))
            for seen, species in shown.of_clips[clip.clip]
        ]
        clips.append({**_clip(clip, counts.species, names), "pictures": pictures})
    page = render_page(
        "survey/report.html",
        looked_at=_looked_at(counts),
        total=int(counts.totals.sum()),
        totals=_totals(counts, names),
        clips=clips,
        clips_left_out=max(0, len(counts.clips) - MOST_CLIPS),
        surest=[scored(seen) for seen in shown.surest],
        least_sure=[scored(seen) for seen in shown.least_sure],
        problems=problems[:MOST_PROBLEMS],
        problem_count=len(problems),
        **told,
    )
    write_text(folder / PAGE_FILE, page)
    return folder / PAGE_FILE


def _frames_of_max_n(clip: ClipCounts, species: Sequence[int]) -> list[tuple[Seen, list[MaxN]]]:
    """The frames of MaxN, those of the most numerous species first; one that serves several species is shown once."""
    frames: dict[int, tuple[Seen, list[MaxN]]] = {}
    ranked = sorted((clip.max_n(index) for index in species), key=lambda one: (-one.most, one.species))
    for one in ranked:
        if one.at is not None:
            frames.setdefault(id(one.at), (one.at, []))[1].append(one)
    return list(frames.values())[:PICTURES_A_CLIP]


def _looked_at(counts: Counts) -> str:
    videos = sum(clip.video for clip in counts.clips)
    parts = []
    if counts.pictures:
        parts.append(counted(counts.pictures, "picture"))
    if counts.frames:
        parts.append(f"{counted(counts.frames, 'frame')} of {counted(videos, 'video')}")
    return " and ".join(parts) or "no pictures"


def _totals(counts: Counts, names: Sequence[str]) -> list[Plain]:
    rows = [
        {
            "name": names[index],
            "colour": _colour(index),
            "boxes": int(counts.totals[index]),
            "frames": int(counts.frames_with[index]),
            "most": int(counts.largest[index]),
        }
        for index in counts.species
    ]
    return sorted(rows, key=lambda row: (-int(str(row["boxes"])), str(row["name"])))


def _clip(clip: ClipCounts, species: Sequence[int], names: Sequence[str]) -> Plain:
    found = sorted((clip.max_n(index) for index in species), key=lambda one: (-one.most, names[one.species]))
    found = [one for one in found if one.most]
    rows = [
        {
            "name": names[one.species],
            "colour": _colour(one.species),
            "most": one.most,
            "at": _when(one.at),
            "first": _when(one.first),
            "mean": one.mean,
        }
        for one in found
    ]
    chart = _chart(clip, [one.species for one in found[:MOST_LINES]], names) if found and len(clip.frames) > 1 else None
    moment = "at" if clip.video else "in the picture"
    return {"name": clip.clip, "frames": len(clip.frames), "moment": moment, "rows": rows, "chart": chart}


def _chart(clip: ClipCounts, species: Sequence[int], names: Sequence[str]) -> Plain:
    """The numbers of some species over time as lines of up to ``POINTS`` points, each the largest of its stretch."""
    # Pictures of a clip have no times: their order stands in.
    times = np.array([place if seen.seconds is None else seen.seconds for place, seen in enumerate(clip.frames)])
    begin, span = float(times[0]), max(float(times[-1] - times[0]), 1e-9)
    # The last frame falls on the right border, which belongs to the last column.
    columns = np.minimum((times - begin) / span * POINTS, POINTS - 1).astype(np.int64)
    # Stretches without a frame get no point: nobody looked, which is not the same as none seen.
    used = np.unique(columns)
    counts = clip.counts
    most = max(1, int(counts[:, list(species)].max()))
    lines = []
    for index in species:
        highest = np.zeros(POINTS, np.int64)
        # The largest, not the mean: MaxN must be seen in the chart.
        np.maximum.at(highest, columns, counts[:, index])
        across = LEFT + (RIGHT - LEFT) * used / (POINTS - 1)
        down = BOTTOM - (BOTTOM - TOP) * highest[used] / most
        points = (f"{x:.1f},{y:.1f}" for x, y in zip(across.tolist(), down.tolist(), strict=True))
        lines.append({"points": " ".join(points), "colour": _colour(index), "name": names[index]})
    ends = (clip.frames[0], clip.frames[len(clip.frames) // 2], clip.frames[-1])
    anchors = ("start", "middle", "end")
    places = (LEFT, (LEFT + RIGHT) / 2, RIGHT)
    ticks = [{"x": f"{x:.0f}", "anchor": anchor, "text": _when(seen)} for x, anchor, seen in zip(places, anchors, ends)]
    return {"most": most, "lines": lines, "ticks": ticks}


def _when(seen: Seen | None) -> str:
    """The time of a frame, or the name of a picture."""
    if seen is None:
        return "–"
    return Path(seen.key).name if seen.seconds is None else clock_time(seen.seconds, 1)


def _moment(seen: Seen) -> str:
    return seen.key if seen.seconds is None else f"{seen.key} at {clock_time(seen.seconds, 1)}"


def _colour(index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour_of(index))
