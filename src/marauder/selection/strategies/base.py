"""What every strategy shares: it proposes pictures to a basket, the most wanted first, until enough are taken."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from marauder.core.plugins import Plugin
from marauder.core.randomness import stream
from marauder.core.settings import Settings
from marauder.selection.basket import Basket, Pool
from marauder.selection.clustering import nearest
from marauder.selection.diversity import conditioned_features
from marauder.selection.settings import SelectionSettings


@dataclass(eq=False)
class Space:
    """The pool in the features that strategies measure likeness in, made once for all that look at it."""

    pool: Pool
    settings: SelectionSettings
    notes: list[str] = field(default_factory=list)

    @cached_property
    def points(self) -> np.ndarray:
        """Conditioned features of the pool: float32 (N, D')."""
        return conditioned_features(self.pool.features, self.pool.class_counts, self._category_share)

    @cached_property
    def centres(self) -> np.ndarray:
        """Conditioned features of what is labelled: float32 (L, D')."""
        return conditioned_features(self.pool.centres, self.pool.centre_counts, self._category_share)

    @property
    def _category_share(self) -> float:
        """A detector to which all pictures look the same expects the same animals in all of them."""
        return 0.0 if self.pool.by_look else self.settings.category_share

    @cached_property
    def labelled_distances(self) -> np.ndarray:
        """Squared distance of each picture to the nearest labelled one, infinite without any: float32 (N,)."""
        return nearest(self.points, self.centres)[1]

    def fixed_distances(self, basket: Basket, among: np.ndarray) -> np.ndarray:
        """Squared distance of the pictures ``among`` to the nearest one labelled or in the basket: float32."""
        taken = nearest(self.points[among], self.points[basket.taken()])[1]
        return np.minimum(self.labelled_distances[among], taken)

    def generator(self, *purpose: int | str) -> np.random.Generator:
        """The random stream for a purpose."""
        return stream(self.settings.seed, "selection", *purpose)


class Strategy(Plugin[Settings], ABC):
    """A way to choose pictures.

    It offers pictures to the basket, which may refuse; it never decides on budget, clips or quotas itself.
    """

    needs_scores: bool = False
    """Whether it asks how uncertain the detector is, so that it cannot do without one."""

    @abstractmethod
    def fill(self, space: Space, basket: Basket, among: np.ndarray, count: int) -> None:
        """Put up to ``count`` pictures of ``among`` (bool (N,)) into the basket; fewer where no more are open."""

    @staticmethod
    def choosable(basket: Basket, among: np.ndarray) -> np.ndarray:
        """Indices that are asked for and still open, in order."""
        return np.flatnonzero(among & basket.open)

    @staticmethod
    def expected_number(basket: Basket, places: np.ndarray, count: int) -> int:
        """How many of ``places`` will fit: ``count``, or fewer where the boxes run out before (at least 1)."""
        mean = float(basket.pool.boxes[places].mean()) if len(places) else 0.0
        fitting = count if mean <= 0 or np.isinf(basket.boxes_left) else int(basket.boxes_left / mean)
        return max(1, min(count, fitting, len(places)))


def rank_words(share: float) -> str:
    """``among the 3 % that the detector is least sure of``; ``share``: of the pool at least as uncertain, 0..1."""
    if share > 0.5:
        return "the detector is uncertain about it, though no more than about most of the pool"
    return f"among the {max(1, round(100 * share))} % of the pool on which the detector is least certain"
