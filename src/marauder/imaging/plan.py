"""Which stages a picture gets, and how strongly: measured from the picture, decided by a pure function."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from marauder.core.errors import UserError
from marauder.imaging.content import content_area
from marauder.imaging.stages import channel_means, reduce_picture, underwater_dark_channel

NEGLIGIBLE = 0.08
"""A stage whose strength (0..1) would stay below this is left out: nobody would see it."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured of a picture (all on the reduced picture, 0..1 unless said otherwise).

    ``blue``, ``green``, ``red``: channel means. ``cast``: distance of the mean colour from grey in the a*b* plane of
    CIE Lab (about 0..100). ``cast_ratio``: that distance over the spread of colours around the mean; above 1.5 the
    colour belongs to the light, below 0.6 to the things seen (Gasparini and Schettini, "Color balancing of digital
    photos using simple image statistics", Pattern Recognition 37, 2004). ``veil``: the underwater dark channel of the
    clearest tenth of the picture; clear water leaves it near 0. ``dark_end``, ``bright_end``: 5th and 95th percentile
    of the lightness. ``lightness``: its mean. ``detail``: mean standard deviation of lightness in a 9 × 9 window.
    """

    blue: float
    green: float
    red: float
    cast: float
    cast_ratio: float
    veil: float
    dark_end: float
    bright_end: float
    lightness: float
    detail: float

    @property
    def contrast(self) -> float:
        """Range of lightness that the picture uses, 0..1."""
        return self.bright_end - self.dark_end


@dataclass(frozen=True, slots=True)
class Plan:
    """Strength of each stage; the value that switches a stage off is the default.

    ``red``, ``blue``: compensation of the channel, 0..1. ``white_balance``: 0..1. ``dehaze``: share of the veil
    removed, 0..1. ``clip_limit``: of CLAHE, 0 is off, else 1..8. ``gamma``: exponent, 0.3..3, 1 is off.
    """

    red: float = 0.0
    blue: float = 0.0
    white_balance: float = 0.0
    dehaze: float = 0.0
    clip_limit: float = 0.0
    gamma: float = 1.0

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that are on, in order."""
        switched_on = (
            ("compensation", self.red > 0 or self.blue > 0),
            ("white balance", self.white_balance > 0),
            ("dehazing", self.dehaze > 0),
            ("CLAHE", self.clip_limit > 0),
            ("gamma", self.gamma != 1),
        )
        return tuple(name for name, on in switched_on if on)

    @property
    def changes_nothing(self) -> bool:
        """True when no stage is on."""
        return not self.stages

    def as_dict(self) -> dict[str, float]:
        """The strengths by name."""
        return asdict(self)


METHODS: dict[str, tuple[str, Plan | None]] = {
    "auto": ("stages and strengths chosen for each picture; good pictures are not changed", None),
    "full": (
        "every stage at a middling strength",
        Plan(red=1.0, blue=0.5, white_balance=0.7, dehaze=0.5, clip_limit=1.6, gamma=0.9),
    ),
    "colour": ("red and blue compensation and white balance", Plan(red=1.0, blue=0.5, white_balance=0.8)),
    "dehaze": ("dehazing alone", Plan(dehaze=0.7)),
    "contrast": ("CLAHE alone", Plan(clip_limit=2.0)),
    "none": ("no enhancement: pictures are only checked and turned upright", Plan()),
}
"""Method name to its description and its plan (``None``: a plan for each picture)."""


def measure(picture: np.ndarray) -> Measurements:
    """Measure a uint8 (H, W, 3) picture, channels blue, green, red; costs under a millisecond."""
    small = reduce_picture(picture)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2Lab)
    (lightness, red_green, blue_yellow), (_, spread_a, spread_b) = (values.ravel() for values in cv2.meanStdDev(lab))
    cast = math.hypot(red_green - 128, blue_yellow - 128)
    levels = cv2.extractChannel(lab, 0)
    dark_end, bright_end = _quantiles(levels, (0.05, 0.95))
    veil = _quantiles(underwater_dark_channel(small, max(3, max(small.shape[:2]) // 16) | 1), (0.1,))[0]
    unit = levels.astype(np.float32) / 255
    mean = cv2.blur(unit, (9, 9))
    variance = np.maximum(cv2.blur(unit * unit, (9, 9)) - mean * mean, 0)
    blue, green, red = channel_means(small)
    return Measurements(
        blue=blue,
        green=green,
        red=red,
        cast=cast,
        cast_ratio=cast / max(math.hypot(spread_a, spread_b), 1.0),
        veil=veil,
        dark_end=dark_end,
        bright_end=bright_end,
        lightness=float(lightness) / 255,
        detail=float(np.sqrt(variance).mean()),
    )


def choose_plan(measured: Measurements, strength: float = 1.0) -> Plan:
    """Choose the stages and their strengths from what was measured; a good picture gets the plan that changes nothing.

    Light so coloured that other colours are all but missing (stage light in an aquarium) is undone by half only: the
    rest would be noise. ``strength`` scales all of them (0: nothing, 1: as tuned, up to 2).
    """
    artificial = 1 - 0.5 * _ramp(measured.cast, 45, 80)
    cast = _ramp(measured.cast, 8, 24) * _ramp(measured.cast_ratio, 0.7, 1.8) * artificial * strength
    worth_it = _ramp(measured.detail, 0.006, 0.02)
    flat = _ramp(measured.contrast, 0.6, 0.25) * _ramp(measured.detail, 0.1, 0.05)
    haze = _ramp(measured.veil, 0.14, 0.4) * _ramp(measured.contrast, 0.75, 0.35) * worth_it * strength
    stretch = flat * worth_it * strength
    dark = _ramp(measured.bright_end, 0.7, 0.3) * _ramp(measured.lightness, 0.4, 0.25) * strength
    return Plan(
        red=_kept(min(1.0, cast * _lack(measured.red, measured.green))),
        blue=_kept(min(1.0, 0.7 * cast * _lack(measured.blue, measured.green))),
        white_balance=_kept(min(1.0, 0.75 * cast)),
        dehaze=_kept(min(0.9, 0.65 * haze)),
        clip_limit=round(1 + 1.2 * stretch * (1 - 0.4 * min(1.0, haze)), 2) if stretch >= NEGLIGIBLE else 0.0,
        gamma=round(1 - 0.28 * min(dark, 2.0), 3) if dark >= NEGLIGIBLE else 1.0,
    )


def plan_for(picture: np.ndarray, method: str, strength: float = 1.0) -> tuple[Plan, Measurements]:
    """The plan of a named method for a picture, with what was measured of it inside any black bars.

    An unknown name raises ``UserError``.
    """
    if method not in METHODS:
        raise UserError(f"no preprocessing method named {method!r}; choose one of: {', '.join(METHODS)}")
    measured = measure(picture[content_area(picture)])
    fixed = METHODS[method][1]
    return (fixed if fixed is not None else choose_plan(measured, strength)), measured


def _lack(channel: float, green: float) -> float:
    """How clearly a channel is weaker than green: 0 (not) to 1 (by two fifths or more)."""
    return _ramp((green - channel) / max(green + channel, 1e-6), 0.04, 0.25)


def _ramp(value: float, nothing: float, everything: float) -> float:
    """0 at ``nothing``, 1 at ``everything``, linear between, whichever of the two is larger."""
    return min(1.0, max(0.0, (value - nothing) / (everything - nothing)))


def _kept(strength: float) -> float:
    return round(strength, 3) if strength >= NEGLIGIBLE else 0.0


def _quantiles(levels: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Quantiles of a uint8 picture, in 0..1, from its histogram."""
    counts = np.cumsum(cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel())
    return [int(np.searchsorted(counts, share * counts[-1])) / 255 for share in shares]
