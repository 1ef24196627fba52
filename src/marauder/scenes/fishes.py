"""Drawings of the scenes' fish: reef fish, grouper, lionfish and shark, each in several patterns and swimming poses.

All face left, one unit long from nose to tail. ``pose`` in 0..1 is the phase of the tail beat.
"""

from __future__ import annotations

import numpy as np

from marauder.scenes.canvas import Canvas, Colour, Sprite, blend, smooth_noise, step

_LEFT = 0.25


class _Body:
    """Coordinates along a swimming body: ``along`` 0 at the nose, 1 at the tail's root; ``across`` -1 back, 1 belly."""

    def __init__(
        self, canvas: Canvas, centre: float, body_length: float, back: np.ndarray, belly: np.ndarray, bend: float
    ) -> None:
        self.canvas, self.centre, self.length, self.bend = canvas, centre, body_length, bend
        knots = np.linspace(0.0, 1.0, len(back))
        self.along = (canvas.x - _LEFT) / body_length
        inside = np.clip(self.along, 0.0, 1.0)
        up = np.interp(inside, knots, back).astype(np.float32)
        down = np.interp(inside, knots, belly).astype(np.float32)
        offset = canvas.y - (centre + self.sway(self.along))
        height = np.where(offset < 0, up, down)
        self.across = (offset / np.maximum(height, 1e-3)).astype(np.float32)
        ends = np.maximum(-self.along, self.along - 1.0) * body_length
        self.mask = canvas.below(np.maximum(np.abs(offset) - height, ends))
        self.back, self.belly, self.knots = back, belly, knots

    def sway(self, along: np.ndarray | float) -> np.ndarray:
        """Sideways bend of the body's axis, growing towards the tail, in units."""
        return self.bend * np.clip(along, 0.0, 2.0) ** 2

    def point(self, along: float, height: float) -> tuple[float, float]:
        """Unit coordinates of a point ``height`` units above (negative) or below the axis."""
        return _LEFT + along * self.length, self.centre + float(self.sway(along)) + height

    def edge(self, along: float, upper: bool) -> tuple[float, float]:
        """Unit coordinates of the outline at ``along``."""
        height = np.interp(along, self.knots, self.back if upper else self.belly)
        return self.point(along, -0.9 * float(height) if upper else 0.9 * float(height))


def _profile(*heights: float) -> np.ndarray:
    """A rounded outline through ``heights`` (units) at equal steps from nose to tail root: float64 (49,)."""
    fine = np.linspace(0.0, 1.0, 49)
    coarse = np.interp(fine, np.linspace(0.0, 1.0, len(heights)), heights)
    smooth = np.convolve(np.pad(coarse, 4, mode="edge"), np.hanning(11)[1:-1] / np.hanning(11).sum(), mode="valid")
    # The square root rounds the nose; smoothing alone would leave it flat.
    return np.minimum(smooth, np.sqrt(fine + 1e-4) * 2.2 * max(heights))


def _eye(body: _Body, along: float, height: float, radius: float) -> None:
    x, y = body.point(along, height)
    distance = np.hypot(body.canvas.x - x, body.canvas.y - y)
    body.canvas.tint(body.canvas.below(distance, radius), (0.75, 0.85, 0.85))
    body.canvas.tint(body.canvas.below(distance, 0.65 * radius), (0.03, 0.03, 0.03))


def _fin(body: _Body, points: list[tuple[float, float]], colour: Colour, opacity: float = 0.95) -> None:
    body.canvas.paint(body.canvas.outline(np.array(points)), colour, opacity)


def _countershade(body: _Body, back: Colour, belly: Colour) -> np.ndarray:
    return blend(back, belly, step(body.across, 0.15, 1.3))


def _round_light(body: _Body) -> None:
    body.canvas.shade(1.0 - 0.28 * np.clip(np.abs(body.across), 0, 1) ** 3 + 0.10 * (body.across < 0))


def reef_fish(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A small deep-bodied reef fish, yellow, silver-blue or orange, with three to five dark bars."""
    canvas = Canvas(1.5, 1.0, scale)
    body = _Body(
        canvas,
        *(0.5, 0.78),
        *(_profile(0.02, 0.13, 0.21, 0.235, 0.20, 0.13, 0.05), _profile(0.02, 0.12, 0.19, 0.215, 0.19, 0.12, 0.05)),
        0.05 * np.sin(2 * np.pi * pose),
    )
    base: Colour = ((0.10, 0.72, 0.95), (0.80, 0.72, 0.50), (0.12, 0.50, 0.95), (0.25, 0.85, 0.92))[variant % 4]
    fin: Colour = (0.6 * base[0], 0.7 * base[1], 0.75 * base[2])
    tail_x, tail_y = body.point(0.97, 0.0)
    swing = 0.09 * np.sin(2 * np.pi * pose)
    _fin(
        body,
        [
            *((tail_x, tail_y - 0.04), (tail_x + 0.24, tail_y - 0.17 + swing), (tail_x + 0.17, tail_y + swing)),
            *((tail_x + 0.24, tail_y + 0.17 + swing), (tail_x, tail_y + 0.04)),
        ],
        fin,
    )
    _fin(body, [body.edge(0.28, True), body.point(0.45, -0.31), body.point(0.88, -0.22), body.edge(0.92, True)], fin)
    _fin(body, [body.edge(0.5, False), body.point(0.66, 0.29), body.point(0.9, 0.2), body.edge(0.92, False)], fin)
    canvas.paint(body.mask, _countershade(body, base, (0.85, 0.92, 0.95)))
    bars = 3 + variant % 3
    phase = generator.uniform(0.0, 0.3)
    wave = np.cos(2 * np.pi * (body.along * bars + phase + 0.05 * body.across))
    canvas.tint(step(wave, 0.45, 0.3) * (body.along > 0.14), (0.09, 0.07, 0.06), 0.92)
    _round_light(body)
    side = canvas.outline(np.array([body.point(0.32, 0.02), body.point(0.5, -0.03), body.point(0.48, 0.09)]))
    canvas.tint(side, fin, 0.8)
    _eye(body, 0.13, -0.045, 0.032)
    return canvas.sprite()


def grouper(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A heavy grouper: brown or olive, mottled, with pale spots, a large mouth and a rounded tail."""
    canvas = Canvas(1.5, 0.9, scale)
    body = _Body(
        canvas,
        *(0.45, 0.84),
        *(_profile(0.05, 0.125, 0.17, 0.18, 0.16, 0.115, 0.065), _profile(0.06, 0.13, 0.16, 0.165, 0.145, 0.1, 0.06)),
        0.045 * np.sin(2 * np.pi * pose),
    )
    back: Colour = ((0.16, 0.26, 0.36), (0.18, 0.33, 0.34), (0.14, 0.19, 0.30))[variant % 3]
    fin: Colour = (0.7 * back[0], 0.7 * back[1], 0.72 * back[2])
    tail_x, tail_y = body.point(0.97, 0.0)
    swing = 0.07 * np.sin(2 * np.pi * pose)
    angle = np.linspace(-1.1, 1.1, 12)
    fan = [(tail_x - 0.02 + 0.19 * np.cos(a), tail_y + swing + 0.15 * np.sin(a)) for a in angle]
    _fin(body, [(tail_x - 0.02, tail_y - 0.05), *fan, (tail_x - 0.02, tail_y + 0.05)], fin)
    spikes = [body.point(0.28 + 0.05 * i, -(0.255 if i % 2 else 0.21) + 0.006 * i) for i in range(9)]
    crest = [body.point(0.76, -0.23), body.point(0.9, -0.17), body.edge(0.9, True)]
    _fin(body, [body.edge(0.26, True), *spikes, *crest], fin)
    _fin(body, [body.edge(0.62, False), body.point(0.7, 0.235), body.point(0.84, 0.19), body.edge(0.86, False)], fin)
    _fin(body, [body.edge(0.33, False), body.point(0.42, 0.25), body.point(0.48, 0.15)], fin)
    canvas.paint(body.mask, _countershade(body, back, (0.52, 0.62, 0.68)))
    mottle = smooth_noise(generator, canvas.coverage.shape, 9)
    canvas.tint(step(mottle, 0.60, 0.18), (0.07, 0.10, 0.15), 0.75)
    spots = smooth_noise(generator, canvas.coverage.shape, 34, octaves=1)
    canvas.tint(step(spots, 0.83, 0.08) * (body.along < 0.98), (0.70, 0.80, 0.86), 0.75)
    _round_light(body)
    canvas.tint(
        canvas.line(np.array([body.point(0.0, 0.035), body.point(0.09, 0.05), body.point(0.15, 0.08)]), 0.014),
        (0.05,) * 3,
        0.8,
    )
    gill = np.array([body.point(0.27 + 0.025 * np.cos(a), 0.115 * np.sin(a)) for a in np.linspace(-1.2, 1.2, 9)])
    canvas.tint(canvas.line(gill, 0.01), (0.05, 0.07, 0.1), 0.6)
    angle = np.linspace(-0.8, 0.8, 8)
    pectoral = [body.point(0.32 + 0.17 * np.cos(a), 0.06 + 0.09 * np.sin(a)) for a in angle]
    canvas.tint(canvas.outline(np.array([body.point(0.3, 0.05), *pectoral])), fin, 0.85)
    _eye(body, 0.15, -0.055, 0.026)
    return canvas.sprite()


def lionfish(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A lionfish: narrow red-brown and white bars, free dorsal spines and fans of long pectoral rays."""
    canvas = Canvas(1.55, 1.3, scale)
    body = _Body(
        canvas,
        *(0.68, 0.78),
        *(_profile(0.03, 0.10, 0.135, 0.135, 0.115, 0.08, 0.045), _profile(0.03, 0.09, 0.12, 0.12, 0.1, 0.07, 0.045)),
        0.03 * np.sin(2 * np.pi * pose),
    )
    dark: Colour = ((0.08, 0.12, 0.45), (0.10, 0.14, 0.34), (0.06, 0.08, 0.55))[variant % 3]
    pale: Colour = (0.80, 0.86, 0.94)
    sway = 0.04 * np.sin(2 * np.pi * pose)
    tail_x, tail_y = body.point(0.97, 0.0)
    angle = np.linspace(-0.75, 0.75, 9)
    fan = [(tail_x + 0.24 * np.cos(a), tail_y + 2 * sway + 0.24 * np.sin(a)) for a in angle]
    _fin(body, [(tail_x, tail_y - 0.03), *fan, (tail_x, tail_y + 0.03)], pale, 0.8)
    for index in range(12):
        along = 0.24 + 0.045 * index
        height = (0.40 - 0.014 * index) * generator.uniform(0.88, 1.1)
        tip = body.point(along + 0.07 + 0.018 * index + sway, -height)
        _ray_with_bands(canvas, body.edge(along, True), tip, 0.026, dark, pale)
    for side, count in ((1.0, 11), (-0.35, 6)):
        root = body.point(0.3, 0.03)
        for index in range(count):
            a = np.pi / 2 + side * (index / (count - 1) - 0.42) * 1.9 - 0.35
            reach = (0.46 if side > 0 else 0.34) * generator.uniform(0.88, 1.08)
            tip = (root[0] + reach * np.cos(a) + 0.08, root[1] + reach * np.sin(a) * 0.95 + sway)
            _ray_with_bands(canvas, root, tip, 0.024, dark, pale)
    web = [body.point(0.28, 0.0)] + [
        (body.point(0.3, 0.03)[0] + 0.30 * np.cos(a) + 0.06, body.point(0.3, 0.03)[1] + 0.29 * np.sin(a))
        for a in np.linspace(0.25, 2.1, 10)
    ]
    _fin(body, web, (0.25, 0.33, 0.62), 0.75)
    canvas.paint(body.mask, _countershade(body, pale, (0.9, 0.94, 0.97)))
    wave = np.sin(2 * np.pi * (body.along * 9.0 + 0.12 * np.sin(5 * body.across)))
    irregular = smooth_noise(generator, canvas.coverage.shape, 10) - 0.5
    canvas.tint(step(wave + 1.2 * irregular, 0.0, 0.5), dark, 0.95)
    beyond = np.hypot(canvas.x - tail_x, canvas.y - tail_y) * (canvas.x > tail_x)
    canvas.tint(step(np.sin(2 * np.pi * beyond * 16), 0.2, 0.6) * (beyond > 0.02), dark, 0.6)
    canvas.shade(1.0 - 0.25 * np.clip(np.abs(body.across), 0, 1) ** 3 * body.mask)
    _eye(body, 0.14, -0.045, 0.026)
    return canvas.sprite()


def _ray_with_bands(
    canvas: Canvas, root: tuple[float, float], tip: tuple[float, float], width: float, dark: Colour, pale: Colour
) -> None:
    ends = np.array([root, tip])
    for index in range(8):
        start, end = ends[0] + (ends[1] - ends[0]) * index / 8, ends[0] + (ends[1] - ends[0]) * (index + 1) / 8
        mask = canvas.line(np.array([start, end]), width * (1.0 - 0.06 * index))
        canvas.paint(mask, dark if index % 2 else pale)


def shark(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A reef shark: slender, grey above and white below, with a tall dorsal fin and an uneven tail."""
    canvas = Canvas(1.5, 0.8, scale)
    body = _Body(
        canvas,
        *(0.4, 0.84),
        *(
            _profile(0.01, 0.055, 0.085, 0.095, 0.08, 0.05, 0.025),
            _profile(0.015, 0.05, 0.075, 0.08, 0.065, 0.04, 0.025),
        ),
        0.055 * np.sin(2 * np.pi * pose),
    )
    back: Colour = ((0.42, 0.40, 0.36), (0.50, 0.45, 0.38), (0.34, 0.36, 0.36))[variant % 3]
    fin: Colour = (0.85 * back[0], 0.85 * back[1], 0.85 * back[2])
    tail_x, tail_y = body.point(0.98, 0.0)
    swing = 0.05 * np.sin(2 * np.pi * pose)
    _fin(
        body,
        [
            *((tail_x - 0.03, tail_y - 0.02), (tail_x + 0.19, tail_y - 0.2 + swing), (tail_x + 0.075, tail_y - 0.01)),
            *((tail_x + 0.11, tail_y + 0.1 + swing), (tail_x - 0.02, tail_y + 0.025)),
        ],
        fin,
    )
    _fin(body, [body.edge(0.38, True), body.point(0.54, -0.235), body.point(0.56, -0.16), body.edge(0.57, True)], fin)
    _fin(body, [body.edge(0.82, True), body.point(0.9, -0.085), body.edge(0.91, True)], fin)
    _fin(body, [body.edge(0.8, False), body.point(0.88, 0.075), body.edge(0.88, False)], fin)
    canvas.paint(body.mask, blend(back, (0.92, 0.93, 0.92), step(body.across, 0.22, 0.4)))
    grain = smooth_noise(generator, canvas.coverage.shape, 30)
    canvas.shade(0.92 + 0.16 * grain)
    _round_light(body)
    _fin(
        body,
        [body.point(0.3, 0.035), body.point(0.47, 0.225), body.point(0.49, 0.17), body.point(0.41, 0.05)],
        fin,
        1.0,
    )
    for index in range(4):
        x = 0.21 + 0.018 * index
        canvas.tint(canvas.line(np.array([body.point(x, -0.02), body.point(x + 0.006, 0.03)]), 0.006), (0.15,) * 3, 0.7)
    if variant % 2:
        canvas.tint(step(-canvas.y, -(0.4 - 0.2), 0.03) * (canvas.x < 0.9), (0.12, 0.12, 0.12), 0.9)
    _eye(body, 0.09, -0.015, 0.014)
    return canvas.sprite()
