"""What is pasted into training pictures: animals of the critical classes, and hard negatives, which have no label.

Both go through one machine (``imaging.copy_paste``). That matters: were only animals pasted, their seams would tell the
detector what is an animal; pasted distractors take that away (Dwibedi, Misra, Hebert, "Cut, Paste and Learn", ICCV
2017, section 5.2). An error that was a confusion of species is pasted with the label of what it really shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from marauder.core.randomness import stream
from marauder.imaging.augmentation import Source
from marauder.imaging.copy_paste import CopyPasteSettings, cut_outs, draw_count, paste

UNLABELLED = -1
"""The class of what is pasted to be seen and not to be found."""

UNTRUSTED = -2
"""The class of what a teacher found: nothing is cut out by it, though it may cover what is."""

SAME_BOX = 0.5
"""Pixels up to which two boxes are one."""

TRIES = 3
"""Pictures that are looked through for an animal that can be cut out."""


@dataclass(frozen=True, eq=False)
class Negative:
    """An error that can be pasted: the picture's place among the donors, a box (4,) in pixels of the whole picture,
    and its class. Background: the box of the detection and ``UNLABELLED``; a confusion: the labelled box it lies on."""

    donor: int
    box: np.ndarray
    label: int


@dataclass(frozen=True, eq=False)
class PastePlan:
    """What may be pasted. ``animals``: by class the places, among the donors, of pictures that show it."""

    seed: int
    animals: Mapping[int, tuple[int, ...]]
    animal_settings: CopyPasteSettings
    negatives: tuple[Negative, ...]
    negative_settings: CopyPasteSettings

    @property
    def active(self) -> bool:
        """Whether anything is ever pasted."""
        return bool(self.animals and self.animal_settings.probability) or bool(
            self.negatives and self.negative_settings.probability
        )


class Pasting:
    """Pastes into sources. ``donor(place)`` gives a donor's picture with its boxes, and the pixels of the store for one
    of the picture, or ``None`` where it cannot be read."""

    def __init__(self, plan: PastePlan, donor: Callable[[int], tuple[Source, float] | None]) -> None:
        self.plan, self.donor = plan, donor
        # Sorted: a draw by position must not depend on how the plan was put together.
        self.classes = sorted(plan.animals)

    def apply(self, target: Source, epoch: int, index: int, place: int) -> Source:
        """``target`` with what falls to it; a function of the seed, the sample's (epoch, index) and the place in it."""
        # A stream beside the sample's own: with pasting on, mosaic and colours are drawn as without it.
        random = stream(self.plan.seed, "paste", epoch, index, place)
        if self.classes:
            target = self._paste(target, self._animal, self.plan.animal_settings, random)
        if self.plan.negatives:
            target = self._paste(target, self._negative, self.plan.negative_settings, random)
        return target

    def _paste(
        self,
        target: Source,
        draw: Callable[[CopyPasteSettings, np.random.Generator], Source | None],
        settings: CopyPasteSettings,
        random: np.random.Generator,
    ) -> Source:
        found = [draw(settings, random) for _ in range(draw_count(settings, random))]
        donors = [one for one in found if one is not None]
        if not donors:
            return target
        pasted = paste(target, donors, settings, random)
        # The distractor stays in the picture, its box goes.
        labelled = pasted.classes != UNLABELLED
        trusts = None if pasted.trusts is None else pasted.trusts[labelled]
        return Source(pasted.picture, pasted.boxes[labelled], pasted.classes[labelled], pasted.ignored, trusts)

    def _animal(self, settings: CopyPasteSettings, random: np.random.Generator) -> Source | None:
        """An animal of a class drawn first (all alike), then of a picture of it."""
        # By class, not by box: else the most frequent critical class would be pasted most.
        number = self.classes[int(random.integers(len(self.classes)))]
        places = self.plan.animals[number]
        # In many pictures every animal is cut off or covered.
        for _ in range(TRIES):
            known = self.donor(places[int(random.integers(len(places)))])
            animals = cut_outs(known[0], [number], settings) if known is not None else []
            if animals:
                return animals[int(random.integers(len(animals)))]
        return None

    def _negative(self, settings: CopyPasteSettings, random: np.random.Generator) -> Source | None:
        error = self.plan.negatives[int(random.integers(len(self.plan.negatives)))]
        known = self.donor(error.donor)
        if known is None:
            return None
        source, gain = known
        box = error.box * gain
        others = (
            # The label itself must not count as a box that covers the cut-out.
            np.abs(source.boxes - box).max(axis=1, initial=0) > SAME_BOX if error.label != UNLABELLED else slice(None)
        )
        shown = Source(
            source.picture,
            np.concatenate([box[None], source.boxes[others]]),
            np.append(UNLABELLED, source.classes[others]),
        )
        # Under a class of its own, so that only this box is cut out and the others say what covers it.
        found = cut_outs(shown, [UNLABELLED], settings)
        return replace(found[0], classes=np.array([error.label])) if found else None
