"""What is known of the boxes of one picture before anything is decided, and the distribution over classes of a box.

A YOLO head gives each class a sigmoid of its own, so that the scores of a box do not sum to 1 and "nothing here" has
none. Taken as independent Bernoulli variables, under the condition that a box shows one thing or nothing, they are a
distribution over the classes and "none"::

    P(c)    = s_c · Π_{j≠c} (1 - s_j) / Z        P(none) = Π_j (1 - s_j) / Z

which is the softmax over the logits together with a 0 for none. With one class it is (s, 1 - s), and a faint box is
a nearly certain "none" instead of a tie between faint classes, as plain normalisation of the scores would have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ODDS_LIMIT = 1e-12
"""Scores end this far below 1, so that odds are finite."""


@dataclass(frozen=True, eq=False)
class BoxEvidence:
    """N boxes of one picture, C classes; coordinates x0 y0 x1 y1 in pixels of the picture, scores calibrated, 0..1.

    ``boxes`` (N, 4), ``scores`` (N, C). ``members`` (K, N, C): what each member of the committee (each model of an
    ensemble, or each pass with dropout) says of each box; zeros where it saw none. ``side_deviation`` (N, 4): how
    unsure each side is, pixels, left top right bottom. ``view_boxes`` (V + 1, N, 4) and ``view_scores`` (V + 1, N, C):
    the first model on the picture as it is (row 0) and on V changed views, put back into the picture; NaN boxes and
    zero scores where it saw none. ``None``: not asked for.
    """

    boxes: np.ndarray
    scores: np.ndarray
    members: np.ndarray | None = None
    side_deviation: np.ndarray | None = None
    view_boxes: np.ndarray | None = None
    view_scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def class_distribution(scores: np.ndarray) -> np.ndarray:
    """Scores (..., C) in 0..1 as a distribution (..., C + 1) over the classes and, last, "none"."""
    shares = np.clip(np.asarray(scores, np.float64), 0.0, 1.0 - ODDS_LIMIT)
    odds = np.concatenate([shares / (1.0 - shares), np.ones((*shares.shape[:-1], 1))], axis=-1)
    return odds / odds.sum(axis=-1, keepdims=True)


def presence(scores: np.ndarray) -> np.ndarray:
    """Probability (...,) that a box with these scores (..., C) shows anything: 1 - P(none)."""
    return np.asarray(class_distribution(scores)[..., :-1].sum(axis=-1))


def shannon_entropy(distribution: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis (Shannon, "A mathematical theory of communication", 1948); 0 log 0 = 0."""
    # log 1 is 0, as the terms of zeros are to be.
    positive = np.where(distribution > 0, distribution, 1.0)
    return np.asarray(-(distribution * np.log(positive)).sum(axis=-1))


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence to base 2, 0 (equal) to 1 (nothing in common), over the last axis (Lin, IEEE
    Transactions on Information Theory, 1991)."""
    apart = (shannon_entropy(first) + shannon_entropy(second)) / 2
    return np.clip((shannon_entropy((first + second) / 2) - apart) / np.log(2), 0.0, 1.0)
