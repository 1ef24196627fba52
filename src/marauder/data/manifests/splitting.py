"""Splitting a data set for manifests: groups whole, copies and near-duplicates together, unlabelled pictures apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.environment import cache_folder
from marauder.core.files import fingerprint
from marauder.data.duplicates import PictureHash, hash_pictures, near_clusters
from marauder.data.groups import join_groups
from marauder.data.records import Dataset
from marauder.data.splits import split_dataset


def divided(
    dataset: Dataset,
    fractions: Mapping[str, float],
    seed: int = 0,
    near_duplicates: bool = True,
    clock: Clock | None = None,
) -> Dataset:
    """The data set with new splits. With ``near_duplicates`` pictures that look the same share a group from here on.

    Pictures without labels have no say in the balance, and get the split of their group (none, if it has no other).
    The clock is asked all along (``Interrupted``); looking at pixels continues when called again. Raises
    ``UserError`` for fractions that are none.
    """
    if near_duplicates:
        name = fingerprint(str(Path(dataset.source).absolute()))[:16]
        store = cache_folder() / "near-duplicates" / f"{name}.jsonl"
        hashes = hash_pictures([record.picture for record in dataset], clock, store, label="looking for duplicates")
        known = [(record.key, found) for record, found in zip(dataset, hashes) if isinstance(found, PictureHash)]
        clusters = near_clusters([found for _, found in known], clock=clock)
        dataset = join_groups(dataset, [[known[index][0] for index in cluster] for cluster in clusters])
    labelled = dataset.with_records(record for record in dataset if record.labelled)
    split_of = {record.group: record.split for record in split_dataset(labelled, fractions, seed, clock=clock)}
    return dataset.with_records(replace(record, split=split_of.get(record.group)) for record in dataset)
