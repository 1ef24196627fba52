"""The pictures of a pretraining: which are trained on, which are held out for signs of collapse, which stay unseen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock
from marauder.core.environment import cache_folder
from marauder.core.errors import UserError
from marauder.core.files import fingerprint, hash_file, write_json
from marauder.core.plain import Plain
from marauder.core.randomness import stream
from marauder.data.duplicates import hash_pictures
from marauder.data.manifests.pinning import hash_pinned
from marauder.data.picture_files import PictureError
from marauder.data.pictures import scaled_size
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.thinning import GroupAccount, Thinned, spread_evenly, thin
from marauder.tasks.pretraining.settings import PretrainingSettings

log = logging.getLogger("marauder")

LEFT_OUT = ("val", "test")
"""Splits that pretraining never sees, so that what is measured on them later was new to the backbone too."""
LEAST_PICTURES = 8
LEAST_SIDE = 8
"""Pixels of the short side, scaled as for training, below which a picture holds no view."""
HELD_OUT_SHARE = 10
"""At most one in so many of the pictures that are left after thinning is held out."""
LEAST_HELD_OUT = 16
LABEL = "looking for near-duplicate frames"
THINNING_FILE = "thinning.json"


@dataclass(frozen=True, eq=False)
class PicturePool:
    """What pretraining works on. ``training`` and ``held_out``: records, apart by groups. ``left_out``: pictures by
    split that it never sees. ``account``: of the thinning, by group; ``unreadable``: files, and why."""

    dataset: Dataset
    training: tuple[Record, ...]
    held_out: tuple[Record, ...]
    left_out: dict[str, int]
    account: dict[str, GroupAccount]
    total: GroupAccount
    words: str
    unreadable: tuple[tuple[str, str], ...]


def open_pool(settings: PretrainingSettings, clock: Clock | None = None) -> PicturePool:
    """Read, leave out, thin, hold out: deterministic, whatever the order of files on the disk.

    Raises ``UserError`` where fewer than ``LEAST_PICTURES`` pictures are left, ``Interrupted``.
    """
    plan = settings.pretraining
    dataset = read_dataset(settings.data, group_pattern=plan.group_pattern)
    for problem in _unread(dataset)[:10]:
        log.warning("set aside: %s", problem)
    left_out = {name: count for name, count in dataset.splits().items() if name in LEFT_OUT}
    # By key: the order in which the disk lists files must not reach the indices of training.
    offered = sorted((one for one in dataset if one.split not in LEFT_OUT), key=lambda one: one.key)
    narrow = [one for one in offered if min(scaled_size(one.width, one.height, settings.source_side)) < LEAST_SIDE]
    for record in narrow[:10]:
        log.warning("set aside: %s: %d×%d pixels are too thin for a view", record.picture, record.width, record.height)
    offered = [one for one in offered if one.key not in {record.key for record in narrow}] if narrow else offered
    if left_out:
        told = " and ".join(f"{count:,} of {name}" for name, count in left_out.items())
        log.info("pictures left out of pretraining, so that later evaluation stays honest: %s", told)
    thinned = _thin(offered, settings, clock)
    log.info("%s", thinned.describe())
    for error in thinned.unreadable[:10]:
        log.warning("set aside: %s: %s", error.path, error.detail)
    kept = [offered[index] for index in thinned.kept]
    if len(kept) < LEAST_PICTURES:
        raise UserError(
            f"{settings.data}: {len(kept)} pictures are left to pretrain on, at least {LEAST_PICTURES} are needed "
            f"({thinned.describe()}; {len(dataset.problems)} could not be read; "
            f"{sum(left_out.values())} in the splits val and test are left out); give more "
            "pictures, or set pretraining.thinning.near_duplicates=false"
        )
    # After thinning, so that no near copy of a held-out picture is trained on.
    held, training = _hold_out(kept, min(plan.held_out, max(LEAST_HELD_OUT, len(kept) // HELD_OUT_SHARE)))
    account, told = thinned.groups, thinned.describe()
    aside = _set_aside(dataset, thinned)
    return PicturePool(dataset, training, held, left_out, account, thinned.total(), told, aside)


def pool_identity(pool: PicturePool, settings: PretrainingSettings, clock: Clock | None = None) -> str:
    """Fingerprint of the pictures trained on and held out, by content, and of the weights that training starts from."""
    start, sides = settings.weights, (pool.training, pool.held_out)
    hashes = hash_pinned([one.picture for side in sides for one in side], settings.data, clock)
    # Held-out pictures, too: collapse is judged on them, and may end the training. A list of its own for each side, so
    # that a picture that changes sides shows.
    pictures = [[[one.key, one.width, one.height, hashes[one.picture]] for one in side] for side in sides]
    return fingerprint([pictures, hash_file(start) if start is not None and start.is_file() else None])


def write_account(pool: PicturePool, folder: Path) -> None:
    """``thinning.json``: what became of every group, and which pictures were set aside."""
    content: Plain = {
        "summary": pool.words,
        "total": {**asdict(pool.total), "kept": pool.total.kept},
        "trained_on": len(pool.training),
        "held_out": [record.key for record in pool.held_out],
        "left_out_splits": pool.left_out,
        "set_aside": [list(one) for one in pool.unreadable],
        "groups": {name: {**asdict(one), "kept": one.kept} for name, one in pool.account.items()},
    }
    write_json(folder / THINNING_FILE, content)


def probe_records(settings: PretrainingSettings, pool: PicturePool) -> Dataset:
    """The labelled pictures that the probe learns and is measured on, those of the split test left out.

    At most ``probe.pictures``, whole groups at a time, drawn by the seed; in the order of their keys.
    """
    dataset = pool.dataset if settings.probe.data is None else read_dataset(settings.probe.data)
    # Test stays unseen by all that leads to a choice.
    labelled = [one for one in dataset if one.labelled and one.split != "test" and one.picture.is_file()]
    chosen = draw_groups(labelled, settings.probe.pictures, settings.training.seed, "probe")
    return dataset.with_records(chosen)


def draw_groups(records: Sequence[Record], most: int, seed: int, purpose: str) -> tuple[Record, ...]:
    """Whole groups in a drawn order until ``most`` pictures are reached, sorted by key."""
    if len(records) <= most:
        return tuple(sorted(records, key=lambda one: one.key))
    members: dict[str, list[Record]] = {}
    for record in records:
        members.setdefault(record.group, []).append(record)
    groups = sorted(members)
    chosen: list[Record] = []
    for place in stream(seed, purpose).permutation(len(groups)):
        group = members[groups[int(place)]]
        # Passed over, not cut: a smaller group may still fit.
        if len(chosen) + len(group) <= most:
            chosen += group
    return tuple(sorted(chosen, key=lambda one: one.key))


def _thin(records: Sequence[Record], settings: PretrainingSettings, clock: Clock | None) -> Thinned:
    """Like frames first, also of clips that only folder and numbering tell of; then so many of each group at most."""
    plan = settings.pretraining.thinning
    # Once for both passes; they are kept from run to run.
    hashes = hash_pictures([one.picture for one in records], clock, _hash_store(settings.data), label=LABEL)
    # Two passes: like frames are sought in guessed clips, but a limit by group must count the real ones.
    unlimited = plan.changed({"most_per_group": 0})
    single = thin([_in_clips(one) for one in records], unlimited, hashes, clock).kept.tolist()
    limited = plan.changed({"near_duplicates": False})
    last = thin([records[index] for index in single], limited, [hashes[index] for index in single], clock)
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(record.group, []).append(index)
    left = set(single)
    account = {}
    for name in sorted(groups):
        unread = sum(isinstance(hashes[index], PictureError) for index in groups[name])
        # Unreadable ones are missing from ``left`` as well, and have a column of their own.
        near = sum(index not in left for index in groups[name]) - unread
        over = last.groups[name].over if name in last.groups else 0
        account[name] = GroupAccount(len(groups[name]), near, over, unread)
    kept = np.array([single[place] for place in last.kept.tolist()], np.int64)
    return Thinned(kept, account, tuple(found for found in hashes if isinstance(found, PictureError)))


def _hold_out(kept: Sequence[Record], count: int) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Held-out and training pictures, no group on both sides where there are groups enough."""
    # Of few pictures at most a third: training needs them more.
    wanted = min(count, len(kept) // 3)
    # A fixed seed: another training seed is judged on the same pictures.
    held = {one.key for one in draw_groups(kept, wanted, 0, "held out")}
    if len(held) < min(LEAST_HELD_OUT, wanted):  # a few long clips: frames of them, spread in time
        held = {kept[place].key for place in spread_evenly(len(kept), wanted)}
    return tuple(one for one in kept if one.key in held), tuple(one for one in kept if one.key not in held)


def _in_clips(record: Record) -> Record:
    """A picture whose name tells of no clip belongs, for thinning, to the clip that its folder and the name without its
    number make: dive3_0017 to dive3. Splits are not touched by it."""
    # A group known from the name or a pattern is left as it is.
    if record.group not in (record.key, record.picture.stem):
        return record
    stem = record.picture.stem.rstrip("0123456789").rstrip("._- ")
    return replace(
        record, group=f"{record.picture.parent.name}/{stem}" if stem != record.picture.stem else record.group
    )


def _hash_store(data: Path) -> Path:
    # Beside neither data nor run: the data may be read-only, and other runs find the hashes again.
    return cache_folder() / "perceptual" / f"{fingerprint(str(data.absolute()))[:16]}.jsonl"


def _unread(dataset: Dataset) -> list[str]:
    kinds = ("picture-missing", "picture-empty", "picture-unreadable", "picture-truncated")
    return [str(problem) for problem in dataset.problems if problem.kind in kinds]


def _set_aside(dataset: Dataset, thinned: Thinned) -> tuple[tuple[str, str], ...]:
    found = [(text.partition(": ")[0], text.partition(": ")[2]) for text in _unread(dataset)]
    return tuple(found) + tuple((str(error.path), error.detail) for error in thinned.unreadable)
