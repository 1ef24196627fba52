"""The map of the pool: every picture a dot, similar ones close together, those chosen and those labelled marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from marauder.core.files import atomic_path
from marauder.core.randomness import stream
from marauder.data.picture_files import PictureError, load_rgb
from marauder.data.records import Record
from marauder.selection.basket import Pick, Pool
from marauder.selection.outputs import KIND_WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "uncertain": "#d95f02",
    "medoid": "#66a61e",
    "far": "#7570b3",
    "typical": "#1b9e77",
    "balance": "#e6ab02",
    "quota": "#e7298a",
    "random": "#1f3fff",
}
COMPONENTS, PERPLEXITY = 50, 30.0
GRID = (9, 6)
"""Cells across and down of which each shows a picture in small."""
FACE_PIXELS, FACE_ZOOM = 128, 0.5


def draw_map(
    records: Sequence[Record], pool: Pool, picks: tuple[Pick, ...], most_points: int, seed: int, target: Path
) -> int:
    """Draw ``pool`` with ``picks`` on it as a PNG; returns the number of pictures shown. ``records``: of the pool.

    Two dimensions by principal components, then t-SNE (van der Maaten and Hinton, JMLR 2008) on at most
    ``most_points`` pictures: picks first, then labelled ones (half of the rest at most), then a random part of the
    pool. Some pictures stand on their places in small, so that regions have a face. Distances between far clusters
    mean little in such a map; neighbourhoods do.
    """
    shown, labelled = _sample(pool, picks, most_points, seed)
    places = _flatten(np.concatenate([pool.features[shown], pool.centres[labelled]]), seed)
    own, known = places[: len(shown)], places[len(shown) :]
    kinds = {pick.index: pick.kind for pick in picks}

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot, which looks for a display and keeps every figure.
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _show_faces(axes, records, shown, own)
    unchosen = np.array([index not in kinds for index in shown], bool)
    x, y = own[unchosen].T
    grey = f"not chosen ({int(unchosen.sum()):,} shown)"
    axes.scatter(x, y, s=16, c="#b4babf", edgecolors="white", linewidths=0.4, label=grey)
    if len(known):
        x, y = known.T
        axes.scatter(x, y, s=34, c="white", marker="x", linewidths=2.6)  # a rim, to be seen on dark pictures
        axes.scatter(x, y, s=22, c="#222222", marker="x", linewidths=1.0, label=f"labelled ({len(known):,} shown)")
    for kind, words in KIND_WORDS.items():
        of_kind = np.array([kinds.get(index) == kind for index in shown], bool)
        if of_kind.any():
            label = f"chosen: {words} ({int(of_kind.sum()):,})"
            x, y = own[of_kind].T
            axes.scatter(x, y, s=34, c=COLOURS[kind], edgecolors="white", linewidths=0.6, label=label)
    axes.set(xticks=[], yticks=[], title="Map of the pool: similar pictures are close together")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, frameon=False, fontsize=10)
    with atomic_path(target) as temporary:
        # Matplotlib's version would stand in the file, and make another one of the same map.
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    return len(shown) + len(labelled)


def _show_faces(axes: Axes, records: Sequence[Record], shown: np.ndarray, places: np.ndarray) -> None:
    """Put a small picture into every cell of a grid over the map: that of the dot nearest to the cell's middle."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    low, high = places.min(axis=0), places.max(axis=0)
    # A hair less than the grid, so that dots on its far edges fall into the last cells.
    cells = np.floor((places - low) / np.maximum(high - low, 1e-9) * (np.array(GRID) - 1e-6)).astype(np.int64)
    for cell in np.unique(cells, axis=0):
        inside = np.flatnonzero((cells == cell).all(axis=1))
        middle = low + (cell + 0.5) / np.array(GRID) * (high - low)
        nearest = inside[((places[inside] - middle) ** 2).sum(axis=1).argmin()]
        try:
            pixels = load_rgb(records[int(shown[nearest])].picture, FACE_PIXELS)
        except PictureError:
            continue  # lost since it was looked at: the map does without
        image = Image.fromarray(pixels)
        image.thumbnail((FACE_PIXELS, FACE_PIXELS))
        box = OffsetImage(np.asarray(image), zoom=FACE_ZOOM, alpha=0.85)
        axes.add_artist(AnnotationBbox(box, tuple(places[nearest]), frameon=False, zorder=0.5))


def _sample(pool: Pool, picks: tuple[Pick, ...], most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the pool and of the labelled pictures that are shown, in order."""
    generator = stream(seed, "selection", "map")
    chosen = np.array([pick.index for pick in picks], np.int64)
    if len(chosen) > most:
        # More picks than dots: a random part of them stands for all.
        chosen = generator.choice(chosen, most, replace=False)
    room = most - len(chosen)
    labelled = generator.permutation(len(pool.centres))[: room // 2]
    others = np.setdiff1d(np.arange(len(pool)), chosen)
    others = generator.permutation(others)[: room - len(labelled)]
    return np.sort(np.concatenate([chosen, others])), np.sort(labelled)


def _flatten(points: np.ndarray, seed: int) -> np.ndarray:
    """Two dimensions of N points (N, D): float (N, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = len(points)
    # The same picture many times over has no direction at all; a little noise keeps the methods going.
    noise = stream(seed, "selection", "map noise").normal(scale=1e-5, size=points.shape)
    spread = points + noise.astype(np.float32)
    if count < 4:
        return np.stack([np.arange(count, dtype=np.float64), np.zeros(count)], axis=1)
    components = min(COMPONENTS, count - 1, points.shape[1])
    reduced = PCA(components, random_state=0, svd_solver="randomized").fit_transform(spread)
    if count < 12 or components < 2:
        return np.asarray(np.pad(reduced, ((0, 0), (0, 2)))[:, :2])
    # The perplexity must lie below the number of dots; begun from components, far regions keep their sides of the map.
    method = TSNE(2, perplexity=min(PERPLEXITY, (count - 1) / 3), init="pca", random_state=0, n_jobs=1)
    return np.asarray(method.fit_transform(reduced))
