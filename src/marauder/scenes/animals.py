"""Drawings of the scenes' animals other than fish: sea star, sea urchin, jellyfish and sea turtle.

Each is one unit long or across. ``pose`` in 0..1 is the phase of its movement.
"""

from __future__ import annotations

import numpy as np

from marauder.scenes.canvas import Canvas, Colour, Sprite, blend, curve, shaded, smooth_noise, step


def sea_star(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A five-armed sea star from above: orange, red, purple or sand-coloured, with rows of pale granules."""
    canvas = Canvas(1.2, 1.2, scale)
    x, y = canvas.x - 0.6, canvas.y - 0.6
    turn = generator.uniform(0, 2 * np.pi)
    radius, angle = np.hypot(x, y), np.arctan2(y, x) + turn
    lean = generator.uniform(-0.25, 0.25, 5).astype(np.float32)
    length = generator.uniform(0.86, 1.0, 5).astype(np.float32)
    arm = np.rint(angle / (2 * np.pi / 5)).astype(np.int64) % 5
    local = (angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5 - lean[arm] * np.maximum(radius - 0.12, 0.0)
    reach = 0.5 * length[arm]
    sideways = radius * np.abs(np.sin(local))
    width = 0.155 * np.sqrt(np.clip(1.0 - (radius * np.cos(local) / reach) ** 2, 0.0, 1.0)) * (1.0 - 0.62 * radius)
    field = np.minimum(sideways - width, radius - 0.155)
    mask = canvas.below(field)
    base: Colour = ((0.10, 0.42, 0.92), (0.14, 0.18, 0.78), (0.55, 0.25, 0.62), (0.35, 0.62, 0.86))[variant % 4]
    pale: Colour = (0.6 * base[0] + 0.35, 0.55 * base[1] + 0.42, 0.4 * base[2] + 0.58)
    canvas.paint(mask, base)
    ridge = np.exp(-((sideways / 0.03) ** 2)) * (0.6 + 0.4 * np.cos(radius * 110.0))
    canvas.tint(ridge.astype(np.float32), pale, 0.75)
    granules = smooth_noise(generator, canvas.coverage.shape, 42, octaves=1)
    canvas.tint(step(granules, 0.72, 0.15), pale, 0.7)
    canvas.shade(0.62 + 0.42 * np.clip(-field / 0.09, 0.0, 1.0))
    return canvas.sprite()


def sea_urchin(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A sea urchin: a dark ball with some hundred spines, black, purple or red-brown."""
    canvas = Canvas(1.1, 1.1, scale)
    centre = np.array([0.55, 0.55])
    dark: Colour = ((0.05, 0.04, 0.05), (0.24, 0.07, 0.20), (0.07, 0.08, 0.22), (0.12, 0.08, 0.10))[variant % 4]
    light: Colour = ((0.40, 0.34, 0.36), (0.70, 0.36, 0.60), (0.34, 0.36, 0.68), (0.52, 0.42, 0.48))[variant % 4]
    longest = 0.5 if variant % 2 else 0.44
    # From behind to the front: the outer, darker spines first.
    for ring, shade in ((1.0, 0.55), (0.92, 0.8), (0.8, 1.0)):
        for index in range(30):
            angle = 2 * np.pi * (index + generator.uniform(-0.35, 0.35)) / 30 + 0.1 * np.sin(2 * np.pi * pose + index)
            reach = longest * ring * generator.uniform(0.84, 1.04)
            direction = np.array([np.cos(angle), np.sin(angle)])
            colour = shaded(light if index % 2 else dark, shade)
            canvas.paint(canvas.line(np.array([centre, centre + 0.62 * reach * direction]), 0.030), colour)
            canvas.paint(canvas.line(np.array([centre, centre + reach * direction]), 0.017), colour)
    radius = np.hypot(canvas.x - centre[0], canvas.y - centre[1])
    canvas.paint(canvas.below(radius, 0.235), dark)
    canvas.tint(np.exp(-(((canvas.x - 0.5) ** 2 + (canvas.y - 0.48) ** 2) / 0.02)).astype(np.float32), light, 0.55)
    for _ in range(46):
        angle, start = generator.uniform(0, 2 * np.pi), generator.uniform(0.02, 0.2)
        root = centre + start * np.array([np.cos(angle), np.sin(angle)])
        tip = root + generator.uniform(0.10, 0.22) * np.array([np.cos(angle), np.sin(angle)])
        colour = shaded(light, generator.uniform(0.5, 1.0))
        canvas.paint(canvas.line(np.array([root, tip]), 0.015), colour)
    return canvas.sprite()


def jellyfish(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A jellyfish from the side: a striped pulsing bell with frilly arms and thin trailing tentacles."""
    canvas = Canvas(1.2, 1.7, scale)
    pulse = np.sin(2 * np.pi * pose)
    half, top, height = 0.42 - 0.05 * pulse, 0.1, 0.46 + 0.05 * pulse
    base: Colour = ((0.92, 0.80, 0.86), (0.62, 0.66, 0.95), (0.45, 0.62, 0.90), (0.95, 0.78, 0.62))[variant % 4]
    deep: Colour = (0.62 * base[0], 0.45 * base[1], 0.62 * base[2])
    rim = top + height
    # From behind to the front: tentacles, arms, and the bell over both.
    for index in range(13):
        start = 0.6 + half * 0.92 * (index / 6 - 1.0)
        down = np.linspace(0.0, generator.uniform(0.65, 0.98), 14)
        drift = 0.05 * np.sin(down * 7.0 + 2 * np.pi * (pose + generator.uniform(0, 0.6)))
        points = np.stack([start + drift * (0.3 + down) + (0.6 - start) * 0.25 * down, rim - 0.03 + down], axis=1)
        canvas.paint(canvas.line(points, 0.016), deep, 0.8)
    for index in range(5):
        start = 0.6 + 0.085 * (index - 2)
        down = np.linspace(0.0, 1.0, 12)
        centre = start + 0.05 * np.sin(6.0 * down + 2 * np.pi * pose + index)
        width = 0.06 * (1.0 - down) * (1.0 + 0.4 * np.sin(18.0 * down + index)) + 0.008
        reach = rim - 0.1 + down * generator.uniform(0.45, 0.68)
        left, right = np.stack([centre - width, reach], 1), np.stack([centre + width, reach], 1)
        canvas.paint(canvas.outline(np.concatenate([left, right[::-1]])), base, 0.85)
    angle = np.linspace(np.pi, 2 * np.pi, 26)
    dome = np.stack([0.6 + half * np.cos(angle), rim + height * np.sin(angle)], 1)
    scallops = np.linspace(1.0, -1.0, 29)
    frill = np.stack([0.6 + half * scallops, rim + 0.03 * np.abs(np.sin(np.arange(29) * np.pi / 4)) + 0.015], 1)
    bell = canvas.everywhere(canvas.outline(np.concatenate([dome, frill])))
    sideways, up = (canvas.x - 0.6) / half, (rim - canvas.y) / height
    canvas.paint(bell, blend(base, deep, np.clip(1.0 - up, 0, 1) * 0.5))
    meridian = sideways / np.sqrt(np.clip(1.0 - np.clip(up, 0, 0.98) ** 2, 0.03, 1.0))
    canvas.tint(bell * step(np.cos(meridian * np.pi * 6.0), 0.72, 0.3), deep, 0.85)
    organs = np.exp(-(((sideways / 0.45) ** 2 + ((up - 0.42) / 0.28) ** 2) ** 2)).astype(np.float32)
    canvas.tint(bell * organs, (0.55 * base[0], 0.35 * base[1], 0.8 * base[2]), 0.5)
    edge = np.clip(np.hypot(sideways, np.clip(up, 0, 1)), 0, 1)
    canvas.tint(bell * step(edge, 0.93, 0.12), (1.0, 0.98, 0.98), 0.55)
    return canvas.sprite(length=1.0)


def sea_turtle(generator: np.random.Generator, variant: int, pose: float, scale: float) -> Sprite:
    """A sea turtle from above at a slant: an oval shell of plates, long front flippers, scaly head; facing left."""
    canvas = Canvas(1.3, 1.3, scale)
    skin: Colour = ((0.30, 0.42, 0.42), (0.24, 0.38, 0.46), (0.34, 0.46, 0.40))[variant % 3]
    plate: Colour = ((0.10, 0.26, 0.36), (0.12, 0.30, 0.30), (0.08, 0.20, 0.38))[variant % 3]
    seam: Colour = (0.52, 0.70, 0.74)
    stroke = 0.16 * np.sin(2 * np.pi * pose)
    scales = smooth_noise(generator, canvas.coverage.shape, 60, octaves=1)
    skin_map = blend(seam, (0.55 * skin[0], 0.6 * skin[1], 0.6 * skin[2]), step(scales, 0.42, 0.12))
    for side in (-1.0, 1.0):
        front = np.array(
            [
                *((0.42, 0.15), (0.38, 0.30), (0.45 + stroke, 0.50), (0.60 + stroke, 0.62)),
                *((0.68 + stroke, 0.61), (0.60 + 0.6 * stroke, 0.42), (0.56, 0.22)),
            ]
        )
        rear = np.array([(0.90, 0.10), (1.00, 0.20), (1.10 - 0.4 * stroke, 0.27), (1.08, 0.14), (0.98, 0.05)])
        for flipper in (front, rear):
            points = np.stack([flipper[:, 0] + 0.02, 0.65 + side * flipper[:, 1] * 0.92], 1)
            canvas.paint(canvas.outline(curve(points)), skin_map)
    head = ((canvas.x - 0.23) / 0.125) ** 2 + ((canvas.y - 0.65) / 0.088) ** 2
    canvas.paint(canvas.below((np.sqrt(head) - 1.0) * 0.09), skin_map)
    neck = np.array([(0.28, 0.585), (0.44, 0.55), (0.44, 0.75), (0.28, 0.715)])
    canvas.paint(canvas.outline(neck), skin_map)
    across = (canvas.y - 0.65) / 0.30
    along = (canvas.x - 0.70) / 0.36
    taper = 1.0 - 0.22 * np.clip(along, 0, 1) ** 2
    shell = np.hypot(along, across / taper)
    canvas.paint(canvas.below((shell - 1.0) * 0.3), plate)
    grid_x = along * 2.6 + 0.5
    row = np.where(np.abs(across) < 0.33, 0.0, 0.5)
    seam_x = np.abs((grid_x + row) - np.rint(grid_x + row))
    seam_y = np.minimum(np.abs(np.abs(across) - 0.33), np.abs(shell - 0.86))
    lines = np.maximum(1.0 - seam_x / 0.09, 0.0) * (shell < 0.86)
    lines = np.maximum(lines, np.maximum(1.0 - seam_y / 0.07, 0.0)) * (shell < 1.0)
    rays = smooth_noise(generator, canvas.coverage.shape, 26)
    canvas.tint((shell < 1.0) * step(rays, 0.58, 0.2), (0.22, 0.48, 0.60), 0.6)
    canvas.tint(step(lines, 0.35, 0.4), seam, 0.85)
    canvas.shade(1.0 + (shell < 1.0) * (0.16 - 0.36 * np.clip(shell, 0, 1) ** 2 - 0.12 * across))
    for side in (-1.0, 1.0):
        eye = np.hypot(canvas.x - 0.17, canvas.y - 0.65 - side * 0.052)
        canvas.tint(canvas.below(eye, 0.016), (0.02, 0.02, 0.02))
    return canvas.sprite()
