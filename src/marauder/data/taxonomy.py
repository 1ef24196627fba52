"""The species taxonomy: a settings file of entries, and the mapping of any source's name onto the most specific one.

The default table is beside this file. Higher taxa are matched by explicit lists of names, so that the same name
maps to the same entry everywhere and offline.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from marauder.core.clock import Clock
from marauder.core.layers import Layer, read_layer
from marauder.core.mistakes import Mistake, MistakesError
from marauder.core.settings import Places, Settings, examine_layer
from marauder.data.records import Dataset, Record

DEFAULT_FILE = Path(__file__).with_name("taxonomy_default.yaml")
Tier = Literal["critical", "important", "general"]
LEAST_LETTERS = 5
"""Shorter words that differ by one letter are different words as a rule: cod and cow, crab and carp."""
# Words that say how sure a name is, not what it names.
QUALIFIERS = frozenset(
    ("sp", "spp", "cf", "aff", "nr", "complex", "indet", "unidentified", "unknown", "juvenile", "adult", "larva", "egg")
)


class Species(Settings):
    """One entry: a class of the detector. ``scientific`` with two words is a species, else a higher taxon."""

    id: int = Field(ge=0)
    common: str = Field(min_length=1)
    scientific: str = Field(min_length=1)
    tier: Tier
    names: tuple[str, ...] = ()

    @field_validator("names", mode="before")
    @classmethod
    def _strings(cls, value: object) -> object:
        return tuple(str(name) for name in value) if isinstance(value, (list, tuple)) else value


class _TaxonomyFile(Settings):
    species: tuple[Species, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Taxonomy:
    """The entries in order of their ids, and the look-up of names."""

    species: tuple[Species, ...]
    source: str = ""
    _by_name: dict[str, Species] = field(init=False, repr=False, compare=False, default_factory=dict)
    _taxa: set[str] = field(init=False, repr=False, compare=False, default_factory=set)

    def __post_init__(self) -> None:
        mistakes = _mistakes(self.species)
        if mistakes:
            raise MistakesError(Mistake(words, self.source or "taxonomy") for _, words in mistakes)
        object.__setattr__(self, "species", tuple(sorted(self.species, key=lambda entry: entry.id)))
        for entry in self.species:
            for name in (entry.common, entry.scientific, *entry.names):
                # In the table a capital marks a taxon; common names are written with one as well, and are none.
                if name[:1].isupper() and name != entry.common:
                    self._taxa.add(normalise(name))
                self._by_name.setdefault(normalise(name), entry)

    @classmethod
    def load(cls, path: Path | str | None = None) -> Taxonomy:
        """Read a taxonomy file; without a path, the default table. Raises ``UserError`` with every mistake in it."""
        file = Path(path) if path is not None else DEFAULT_FILE
        layer = read_layer(file)
        content, mistakes = examine_layer(_TaxonomyFile, layer)
        wrong = _mistakes(_as_far_as_right(layer) if mistakes else content.species)
        mistakes += [Mistake(words, Places(layer).at(f"species.{index}")) for index, words in wrong]
        if mistakes:
            raise MistakesError(mistakes, str(file))
        return cls(content.species, str(file))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Common names by id: the class names of a data set mapped onto this taxonomy."""
        return tuple(entry.common for entry in self.species)

    def match(self, name: str) -> Species | None:
        """The most specific entry for a common name, scientific name or concept, or ``None``.

        Tried in this order: the whole name; the name without qualifiers (``cf.``, ``sp. 1``, a subgenus in brackets)
        and plural; genus and species; an abbreviated genus (``S. purpuratus``) that fits one entry only; the genus, for
        names that the table writes with a capital as taxa.

        >>> [Taxonomy.load().match(n).common for n in ("Pterois volitans", "Sebastes sp.", "S. purpuratus")]
        ['Lionfish', 'Rockfish', 'Purple Sea Urchin']
        """
        whole = normalise(name)
        found = self._by_name.get(whole) or self._by_name.get(_singular(whole))
        if found is not None:
            return found
        words = [word for word in normalise(re.sub(r"\(.*?\)", " ", name)).split() if not _is_qualifier(word)]
        if not words:
            return None
        plain = " ".join(words)
        found = self._by_name.get(plain) or self._by_name.get(_singular(plain))
        if found is not None:
            return found
        found = self._by_name.get(" ".join(words[:2]))
        if found is None and len(words) >= 2 and len(words[0]) == 1:
            found = self._abbreviated(words[0], words[1])
        return found or (self._by_name[words[0]] if words[0] in self._taxa else None)

    def _abbreviated(self, initial: str, epithet: str) -> Species | None:
        fitting = {
            entry.id: entry
            for key, entry in self._by_name.items()
            if key.startswith(initial) and key.split()[1:] == [epithet]
        }
        return next(iter(fitting.values())) if len(fitting) == 1 else None


def _as_far_as_right(layer: Layer) -> list[Species]:
    """The entries of a file in which some are wrong, each with ``None`` for what is: to find out what else is."""
    entries = layer.content.get("species")
    given = entries if isinstance(entries, list) else []
    plain = [dict(entry) if isinstance(entry, Mapping) else {} for entry in given]
    return [examine_layer(Species, Layer(entry, {}))[0] for entry in plain]


def _mistakes(species: Sequence[Species]) -> list[tuple[int, str]]:
    """What is wrong with the entries together: the place of the entry, from 0, and what to say of it. Of an entry that
    is wrong in itself, what is ``None`` is left out."""
    found = []
    ids: dict[int, str] = {}
    by_name: dict[str, int] = {}
    called = [entry.common or f"species.{index}" for index, entry in enumerate(species)]
    numbers = {index: entry.id for index, entry in enumerate(species) if isinstance(entry.id, int)}
    for index, entry in enumerate(species):
        if index in numbers:
            if entry.id in ids:
                found.append((index, f"id {entry.id} is that of {ids[entry.id]!r}; give {called[index]!r} another"))
            elif entry.id >= len(species):
                found.append((index, f"id {entry.id}: ids must be 0 to {len(species) - 1}, each once"))
            ids.setdefault(entry.id, called[index])
        for name in filter(None, (entry.common, entry.scientific, *(entry.names or ()))):
            other = by_name.setdefault(normalise(name), index)
            if other != index:
                found.append((index, f"{name!r} is in both {called[other]!r} and {called[index]!r}"))
    return found


def normalise(name: str) -> str:
    """Lower case, without accents, punctuation and repeated spaces: the form in which names are compared."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", " ", plain).strip()


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return f"{name[:-3]}y"
    if name.endswith(("shes", "ches", "sses")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def look_alike(one: str, other: str) -> bool:
    """Whether two names may be one: equal but for capitals, accents, punctuation and plural, or in one of their words,
    of ``LEAST_LETTERS`` or more, by one letter that is missing, too many, another, or swapped with its neighbour.

    >>> look_alike("Platlets", "Platelets"), look_alike("Sea Urchins", "sea_urchin"), look_alike("class 1", "class 2")
    (True, True, False)
    """
    return _alike(normalise(one), normalise(other))


def alike_pairs(names: Sequence[str], clock: Clock | None = None) -> list[tuple[int, int, bool]]:
    """The positions of any two different names that ``look_alike``, and whether a letter parts them: else they differ
    in capitals, accents, punctuation or plural alone. The clock is asked with every name (``Interrupted``)."""
    plain = [normalise(name) for name in names]
    held: dict[tuple[str, str], list[int]] = {}
    found: dict[tuple[int, int], bool] = {}
    for number, name in enumerate(plain):
        if clock is not None:
            clock.check()
        for key in _alike_keys(name):
            others = held.setdefault(key, [])
            for other in others:
                if names[other] != names[number] and _alike(plain[other], name):
                    found[other, number] = _singular(plain[other]) != _singular(name)
            others.append(number)
    return [(*pair, found[pair]) for pair in sorted(found)]


def _alike_keys(name: str) -> set[tuple[str, str]]:
    """What a normalised name has in common with every one that it looks alike, so that only few need be compared: the
    singular, or a word without one of its letters (or whole) and the rest of the name."""
    parts = name.split()
    keys = {("", _singular(name))} if parts else set()
    for place, word in enumerate(parts):
        if len(word) >= LEAST_LETTERS:
            rest = " ".join((*parts[:place], "*", *parts[place + 1 :]))
            keys |= {(rest, word), *((rest, word[:at] + word[at + 1 :]) for at in range(len(word)))}
    return keys


def _alike(first: str, second: str) -> bool:
    """``look_alike`` of normalised names."""
    if not first or not second:  # of other alphabets nothing is left
        return False
    if _singular(first) == _singular(second):
        return True
    parts, others = first.split(), second.split()
    differing = [pair for pair in zip(parts, others) if pair[0] != pair[1]]
    return len(parts) == len(others) and len(differing) == 1 and _one_slip(*differing[0])


def _one_slip(one: str, other: str) -> bool:
    """Whether two different words are long enough, have no digit, and differ by one slip of the hand."""
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < LEAST_LETTERS or not (one.isalpha() and other.isalpha()) or len(longer) - len(shorter) > 1:
        return False
    at = next((place for place, pair in enumerate(zip(shorter, longer)) if pair[0] != pair[1]), len(shorter))
    if len(shorter) < len(longer):
        return shorter[at:] == longer[at + 1 :]
    swapped = shorter[at + 1 : at + 2] + shorter[at] + shorter[at + 2 :]
    return shorter[at + 1 :] == longer[at + 1 :] or swapped == longer[at:]


def _is_qualifier(word: str) -> bool:
    return word in QUALIFIERS or word.isdigit()


@dataclass(frozen=True)
class NameMapping:
    """How a source's class names map: ``mapped`` name to entry, ``unmapped`` names; counts are boxes of the name."""

    mapped: dict[str, Species]
    unmapped: tuple[str, ...]
    boxes: dict[str, int]


def map_names(names: Iterable[str], taxonomy: Taxonomy, boxes: dict[str, int] | None = None) -> NameMapping:
    """Match each name once."""
    matches = {name: taxonomy.match(name) for name in names}
    return NameMapping(
        {name: entry for name, entry in matches.items() if entry is not None},
        tuple(name for name, entry in matches.items() if entry is None),
        dict(boxes or {}),
    )


def apply_taxonomy(dataset: Dataset, taxonomy: Taxonomy) -> tuple[Dataset, NameMapping]:
    """The data set with the taxonomy's classes; boxes of names that match no entry are left out.

    A picture whose boxes all go stays, as one without any of the taxonomy's species; it counts as unlabelled when one
    of the boxes that went was ignored, that is of an animal nobody could name.
    """
    counts = {name: int(count) for name, count in zip(dataset.names, dataset.class_counts())}
    for record in dataset:
        for index in record.classes[record.ignored].tolist():
            counts[dataset.names[index]] += 1
    mapping = map_names(dataset.names, taxonomy, counts)
    lookup = np.array(
        [mapping.mapped[name].id if name in mapping.mapped else -1 for name in dataset.names] or [-1], np.int64
    )
    records = [_mapped_record(record, lookup) for record in dataset]
    return Dataset(taxonomy.class_names, tuple(records), dataset.source, dataset.problems), mapping


def _mapped_record(record: Record, lookup: np.ndarray) -> Record:
    if not len(record.boxes):
        return record
    classes = lookup[record.classes]
    keep = classes >= 0
    lost_unknown = bool((record.ignored & ~keep).any()) and not keep.any()
    kept = record.with_boxes(keep)
    return replace(kept, classes=classes[keep], labelled=record.labelled and not lost_unknown)
