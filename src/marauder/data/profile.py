"""A profile of a data set: what its pictures, boxes and attributes are like, kept small so that others can be compared.

Features are measured on a sample of pictures and kept for every one of them, with the picture's group: whoever compares
two profiles can then tell a shift from the difference between any two handfuls of clips.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import DamagedFileError, read_json, write_bytes, write_json
from marauder.core.plain import PlainMapping
from marauder.core.progress import Progress
from marauder.data.picture_files import PictureError, load_rgb
from marauder.data.records import Attribute, Dataset, Record

FORMAT = 1
PROFILE_NAME = "reference_profile"
DEFAULT_SAMPLE = 2000
LONG_SIDE = 256
"""Pixels of the longer side at which pictures are measured: sharpness and contrast depend on the size."""
PICTURE_FEATURES = (
    *("brightness", "contrast", "red", "green", "blue", "blue_red"),
    *("sharpness", "width", "height", "boxes"),
)
MOST_VALUES = 50
"""Different values above which a text attribute is a name of the picture (a URL, a date) and is not compared."""
NO_VALUE = "(none)"
READERS_OWN = frozenset({"picture_missing"})
BLOCK, THREADS = 128, 2


@dataclass(frozen=True, eq=False)
class Profile:
    """Features of n sampled pictures of a data set and of their m boxes.

    ``keys``/``groups``: of each sampled picture. ``numeric``: float32 (n,) by feature, NaN where unknown: brightness,
    contrast (standard deviation of luminance), red, green, blue (means), all 0..1; blue_red = log2 of the blue mean
    over the red one; sharpness = log2 of the Laplacian's standard deviation; width, height in pixels; boxes = count.
    ``categories``: text (n,) by attribute. ``box_picture`` int64 (m,): position of a box's picture; ``box_numeric``:
    float32 (m,), box_size = sqrt(area of the box / area of the picture); ``box_class``: class names (m,).
    ``embeddings``: float16 (n, D) of unit length or ``None``, made with the weights of SHA-256 ``embedded_by``; rows of
    NaN belong to pictures that could not be read. ``pictures`` and ``set_aside``: size of the data set, and sampled
    pictures that could not be read (their pixel features are NaN).
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    numeric: Mapping[str, np.ndarray]
    categories: Mapping[str, np.ndarray]
    box_picture: np.ndarray
    box_numeric: Mapping[str, np.ndarray]
    box_class: np.ndarray
    pictures: int
    source: str = ""
    set_aside: tuple[str, ...] = ()
    embeddings: np.ndarray | None = None
    embedded_by: str | None = None
    about: PlainMapping = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def group_count(self) -> int:
        """Number of different groups among the sampled pictures."""
        return len(set(self.groups))

    def take(self, positions: Sequence[int] | np.ndarray) -> Profile:
        """The profile of some of the sampled pictures, as if the data set held no others."""
        chosen = np.asarray(positions, np.int64)
        place = np.full(len(self), -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        kept = place[self.box_picture] >= 0
        return replace(
            self,
            keys=tuple(self.keys[index] for index in chosen),
            groups=tuple(self.groups[index] for index in chosen),
            numeric={name: values[chosen] for name, values in self.numeric.items()},
            categories={name: values[chosen] for name, values in self.categories.items()},
            box_picture=place[self.box_picture[kept]],
            box_numeric={name: values[kept] for name, values in self.box_numeric.items()},
            box_class=self.box_class[kept],
            pictures=len(chosen),
            embeddings=None if self.embeddings is None else self.embeddings[chosen],
        )

    def with_embeddings(self, embeddings: np.ndarray, weights_sha256: str) -> Profile:
        """The same profile with embeddings (n, D) made by the weights of that SHA-256."""
        if embeddings.ndim != 2 or len(embeddings) != len(self):
            raise ValueError(f"{len(self)} pictures, embeddings of shape {embeddings.shape}")
        return replace(self, embeddings=embeddings.astype(np.float16), embedded_by=weights_sha256)


def sample_records(records: Sequence[Record], sample: int, seed: int) -> list[Record]:
    """The ``sample`` records whose keys have the smallest hash under ``seed``, in the order given.

    Which pictures are drawn depends on their keys alone, so a data set that grew keeps most of its sample and two
    profiles of nearly the same data differ little (bottom-k sampling; Cohen & Kaplan, PODC 2007).
    """
    if len(records) <= sample:
        return list(records)
    salt = f"{seed}\x1fprofile\x1f".encode()
    hashes = [hashlib.blake2b(salt + record.key.encode(), digest_size=8).digest() for record in records]
    chosen = sorted(range(len(records)), key=lambda index: (hashes[index], index))[:sample]
    return [records[index] for index in sorted(chosen)]


def profile_dataset(
    dataset: Dataset,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    clock: Clock | None = None,
) -> Profile:
    """Measure up to ``sample`` pictures of ``dataset``. The clock is asked between blocks; raises ``Interrupted``.

    A picture that cannot be read keeps its boxes and attributes and is named in ``set_aside``.
    """
    records = sample_records(dataset.records, sample, seed)
    pixels: list[dict[str, float] | PictureError] = []
    with ThreadPoolExecutor(THREADS) as pool, Progress("profiling pictures", len(records)) as progress:
        for start in range(0, len(records), BLOCK):
            if clock is not None:
                clock.check()
            block = records[start : start + BLOCK]
            pixels.extend(pool.map(_measured, block))
            progress.advance(len(block))
    rows = [
        {**(found if isinstance(found, dict) else {}), **_of_record(record)}
        for record, found in zip(records, pixels, strict=True)
    ]
    numeric, categories = _attributes(records)
    counted = [record.boxes[~record.ignored] if record.labelled else np.zeros((0, 4)) for record in records]
    kinds = [record.classes[~record.ignored] if record.labelled else np.zeros(0, np.int64) for record in records]
    names = np.array([*dataset.names, ""], dtype=np.str_)
    return Profile(
        keys=tuple(record.key for record in records),
        groups=tuple(record.group for record in records),
        numeric={name: np.array([row.get(name, math.nan) for row in rows], np.float32) for name in PICTURE_FEATURES}
        | numeric,
        categories=categories,
        box_picture=np.repeat(np.arange(len(records)), [len(boxes) for boxes in counted]).astype(np.int64),
        box_numeric={"box_size": _box_sizes(records, counted)},
        box_class=names[np.concatenate([*kinds, np.zeros(0, np.int64)])],
        pictures=len(dataset),
        source=dataset.source,
        set_aside=tuple(f"{error.path}: {error.detail}" for error in pixels if isinstance(error, PictureError)),
        about={"sample": sample, "seed": seed, "names": list(dataset.names)},
    )


def measure_pixels(picture: np.ndarray) -> dict[str, float]:
    """Pixel features of a picture, uint8 (H, W, 3), red first; measured at ``LONG_SIDE`` pixels."""
    import cv2

    gain = LONG_SIDE / max(picture.shape[:2])
    size = (max(3, round(picture.shape[1] * gain)), max(3, round(picture.shape[0] * gain)))
    way = cv2.INTER_AREA if gain < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, size, interpolation=way).astype(np.float32) / 255
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    red, green, blue = cv2.mean(small)[:3]  # sums in double precision, unlike NumPy along two axes
    brightness, contrast = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    sharpness = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))[1][0, 0])
    return {
        "brightness": brightness,
        "contrast": contrast,
        "red": red,
        "green": green,
        "blue": blue,
        # One grey level is added, so that a black channel has a logarithm, too.
        "blue_red": math.log2((blue + 1 / 255) / (red + 1 / 255)),
        "sharpness": math.log2(sharpness + 1 / 255),
    }


def save_profile(profile: Profile, folder: Path) -> Path:
    """Write ``reference_profile.npz`` (arrays) and ``reference_profile.json`` (facts, quantiles to read); returns the
    latter. The same profile gives the same bytes."""
    arrays: dict[str, np.ndarray] = {
        "keys": np.array(profile.keys, np.str_),
        "groups": np.array(profile.groups, np.str_),
        "box_picture": profile.box_picture,
        "box_class": profile.box_class,
        **{f"numeric/{name}": values for name, values in profile.numeric.items()},
        **{f"category/{name}": values for name, values in profile.categories.items()},
        **{f"box/{name}": values for name, values in profile.box_numeric.items()},
    }
    if profile.embeddings is not None:
        arrays["embeddings"] = profile.embeddings
    # The arrays first, then the JSON with their hash: a kill in between leaves a pair that is refused.
    digest = write_bytes(folder / f"{PROFILE_NAME}.npz", _packed(arrays))
    content = {
        "format": FORMAT,
        "arrays_sha256": digest,
        "pictures": profile.pictures,
        "sampled": len(profile),
        "groups": profile.group_count(),
        "source": profile.source,
        "set_aside": profile.set_aside,
        "embedded_by": profile.embedded_by,
        "about": profile.about,
        "features": {name: _quantiles(values) for name, values in {**profile.numeric, **profile.box_numeric}.items()},
        "classes": _shares(profile.box_class),
        "attributes": {name: _shares(values) for name, values in profile.categories.items()},
    }
    path = folder / f"{PROFILE_NAME}.json"
    write_json(path, content)
    return path


def load_profile(folder: Path) -> Profile:
    """Read what ``save_profile`` wrote. Raises ``FileNotFoundError`` where there is none, ``DamagedFileError`` for
    files that do not belong together or are no profile."""
    path = folder / f"{PROFILE_NAME}.json"
    content = read_json(path)
    packed = folder / f"{PROFILE_NAME}.npz"
    remedy = "delete both files of the profile; the next run makes a new one"
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedFileError(f"{path}: is not a profile of format {FORMAT}; {remedy}")
    raw = packed.read_bytes()
    if hashlib.sha256(raw).hexdigest() != content.get("arrays_sha256"):
        raise DamagedFileError(f"{packed}: is not the one that {path.name} describes; {remedy}")
    try:
        # From the bytes that were hashed, not from the file once more.
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return _unpacked(arrays, content)
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{packed}: cannot be read ({error}); {remedy}") from error


def _unpacked(arrays: Mapping[str, np.ndarray], content: PlainMapping) -> Profile:
    def below(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}

    return Profile(
        keys=tuple(arrays["keys"].tolist()),
        groups=tuple(arrays["groups"].tolist()),
        numeric=below("numeric/"),
        categories=below("category/"),
        box_picture=arrays["box_picture"],
        box_numeric=below("box/"),
        box_class=arrays["box_class"],
        pictures=int(content["pictures"]),
        source=str(content["source"]),
        set_aside=tuple(content["set_aside"]),
        embeddings=arrays.get("embeddings"),
        embedded_by=content["embedded_by"],
        about=dict(content["about"]),
    )


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as a compressed ``.npz``: the same arrays give the same bytes, in whatever order they come."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in sorted(arrays.items()):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(values), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _measured(record: Record) -> dict[str, float] | PictureError:
    try:
        return measure_pixels(load_rgb(record.picture, at_least=LONG_SIDE))
    except PictureError as error:
        return error


def _of_record(record: Record) -> dict[str, float]:
    known = {"width": float(record.width), "height": float(record.height)}
    if record.labelled:
        known["boxes"] = float((~record.ignored).sum())
    return known


def _box_sizes(records: Sequence[Record], boxes: Sequence[np.ndarray]) -> np.ndarray:
    sizes = [
        np.sqrt((part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1]) / (record.width * record.height))
        for record, part in zip(records, boxes, strict=True)
    ]
    return np.concatenate([*sizes, np.zeros(0)]).astype(np.float32)


def _attributes(records: Sequence[Record]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Attributes as numbers (NaN where absent) and as text; those that name the single picture are left out."""
    numeric: dict[str, np.ndarray] = {}
    categories: dict[str, np.ndarray] = {}
    for name in sorted({name for record in records for name in record.attributes} - READERS_OWN):
        values = [record.attributes.get(name) for record in records]
        given = [value for value in values if value is not None]
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given):
            column = np.array([math.nan if value is None else float(value) for value in values], np.float32)
            numeric[f"attribute {name}"] = column
        elif len({str(value) for value in given}) <= MOST_VALUES:
            categories[f"attribute {name}"] = np.array([_text(value) for value in values], np.str_)
    return numeric, categories


def _text(value: Attribute | None) -> str:
    return NO_VALUE if value is None else str(value)


def _quantiles(values: np.ndarray) -> dict[str, float | int]:
    known = values[np.isfinite(values)].astype(np.float64)
    if not len(known):
        return {"known": 0}
    shares = (("least", 0.0), ("q25", 0.25), ("median", 0.5), ("q75", 0.75), ("most", 1.0))
    return {"known": len(known), **{name: round(float(np.quantile(known, share)), 5) for name, share in shares}}


def _shares(values: np.ndarray) -> dict[str, float]:
    found, counts = np.unique(values, return_counts=True)
    return {str(name): round(float(count / len(values)), 5) for name, count in zip(found, counts, strict=True)}
