"""The physical model of underwater picture formation: what water does to a clean picture, given each pixel's range.

Source of the model: Akkaynak and Treibitz, "A revised underwater image formation model", CVPR 2018, and "Sea-thru",
CVPR 2019. The direct signal and the backscatter have different, wavelength-, range- and depth-dependent coefficients:

    I_c = J_c * D_c(z) + B_c(z),
    D_c(z) = sum_l S_c(l) E(l) exp(-beta(l) z),
    B_c(z) = sum_l S_c(l) (b(l) / beta(l)) E(l) (1 - exp(-beta(l) z)),    E(l) = exp(-Kd(l) depth),

summed over 13 wavelengths and the camera's sensitivities S_c, so that the effective coefficient of a channel changes
with range and depth as the papers found. Absorption a(l) and scattering b(l) of the Jerlov water types are those of
Solonenko and Mobley, "Inherent optical properties of Jerlov water types", Applied Optics 54 (2015), tables 4 to 8;
the downwelling attenuation Kd(l) follows from them by their equation 3.

Approximations, ours:
- ``SCATTERED_OUT``: the share of the particles' scattering that leaves the line of sight. Most of it is by less than a
  few degrees; that light stays in the picture and blurs it, so that beam attenuation a + b would make water look far
  too opaque. Molecules scatter all round: their share (eta of table 3) counts in full.
- ``VEIL``: how much of that particles send sideways, from the sun above into a level line of sight (the model as
  published leaves out the phase function).
- The camera's sensitivities are Gaussians, the illuminant is flat, reflectance is flat inside a channel.
- The transfer curve is a square root in place of sRGB's (exponent 2.2). Its square is exact in both directions, and
  shot noise is uniform after it (Anscombe 1948).
- Table rows of 3C (675, 700 nm) and 5C (600 nm and up) are misprinted in the source; the values here are the
  substitutes of Williamson and Hollins, "Measured IOPs of Jerlov water types", Applied Optics 61 (2022).

Pictures are uint8 (H, W, 3) in OpenCV's channel order: blue, green, red.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from marauder.core.errors import UserError

WAVELENGTHS = np.arange(400.0, 701.0, 25.0)
"""Nanometres."""

_ABSORPTION: dict[str, tuple[float, ...]] = {
    "I": (0.022, 0.017, 0.018, 0.019, 0.026, 0.046, 0.062, 0.082, 0.228, 0.295, 0.334, 0.434, 0.582),
    "IA": (0.0295, 0.0225, 0.0221, 0.0216, 0.0282, 0.0468, 0.0622, 0.0821, 0.228, 0.295, 0.334, 0.435, 0.582),
    "IB": (0.0331, 0.0246, 0.0235, 0.0225, 0.0287, 0.0469, 0.0623, 0.0822, 0.2278, 0.296, 0.334, 0.435, 0.582),
    "II": (0.0355, 0.0257, 0.0241, 0.0228, 0.0288, 0.0469, 0.0622, 0.0821, 0.228, 0.296, 0.334, 0.436, 0.582),
    "III": (0.0615, 0.0449, 0.0388, 0.0335, 0.0358, 0.0507, 0.0646, 0.0838, 0.229, 0.297, 0.336, 0.439, 0.583),
    "1C": (0.227, 0.147, 0.105, 0.077, 0.064, 0.068, 0.076, 0.092, 0.236, 0.304, 0.344, 0.455, 0.586),
    "3C": (0.388, 0.236, 0.154, 0.105, 0.081, 0.078, 0.082, 0.095, 0.239, 0.307, 0.346, 0.477, 0.592),
    "5C": (0.660, 0.437, 0.297, 0.204, 0.151, 0.127, 0.117, 0.119, 0.259, 0.327, 0.367, 0.499, 0.598),
}
_SCATTERING: dict[str, tuple[float, ...]] = {
    "I": (
        *(6.20e-3, 4.82e-3, 3.81e-3, 3.06e-3, 2.49e-3, 2.05e-3, 1.70e-3),
        *(1.43e-3, 1.22e-3, 1.04e-3, 8.99e-4, 7.82e-4, 6.85e-4),
    ),
    "IA": (
        *(9.20e-3, 7.55e-3, 6.31e-3, 5.36e-3, 4.61e-3, 4.02e-3, 3.54e-3),
        *(3.15e-3, 2.83e-3, 2.56e-3, 2.34e-3, 2.14e-3, 1.98e-3),
    ),
    "IB": (
        *(0.0795, 0.0732, 0.0680, 0.0635, 0.0597, 0.0565, 0.0536),
        *(0.0511, 0.0488, 0.0468, 0.0450, 0.0434, 0.0420),
    ),
    "II": (0.616, 0.555, 0.504, 0.459, 0.421, 0.387, 0.358, 0.332, 0.309, 0.288, 0.270, 0.253, 0.238),
    "III": (1.69, 1.52, 1.38, 1.26, 1.152, 1.06, 0.980, 0.908, 0.845, 0.788, 0.737, 0.692, 0.650),
    "1C": (0.630, 0.567, 0.514, 0.469, 0.429, 0.395, 0.365, 0.338, 0.314, 0.293, 0.274, 0.257, 0.242),
    "3C": (1.83, 1.65, 1.50, 1.36, 1.25, 1.15, 1.06, 0.985, 0.916, 0.855, 0.800, 0.745, 0.690),
    "5C": (2.28, 2.06, 1.87, 1.71, 1.56, 1.44, 1.33, 1.23, 1.147, 1.070, 1.002, 0.940, 0.883),
}
_MOLECULAR_SHARE = {
    **{"I": 0.93, "IA": 0.44, "IB": 0.06, "II": 0.007, "III": 0.003},
    **{"1C": 0.005, "3C": 0.003, "5C": 0.001},
}
"""eta of the source's table 3: the share of molecular in all scattering."""

WATER_TYPES = tuple(_ABSORPTION)
"""Jerlov's types, clearest first in each group: I to III oceanic, 1C to 5C coastal."""

SCATTERED_OUT = 0.3
VEIL = 0.45
_SENSITIVITY_PEAK = (460.0, 535.0, 605.0)
_SENSITIVITY_WIDTH = 30.0

NEAREST_RANGE = 0.3
FARTHEST_RANGE = 80.0
ENDLESS = 255
"""Range index of open water: no surface in sight."""


def index_from_range(range_m: np.ndarray | float) -> np.ndarray:
    """Range in metres to uint8 index 0..254, log-spaced from 0.3 to 80 m; ranges outside are moved to the ends.

    Log spacing bounds the error of ``exp(-beta z)`` by 0.4 % of full scale whatever beta is (z * beta * exp(-beta z)
    is at most 1/e, and neighbours differ by 2.2 %).
    """
    clipped = np.clip(range_m, NEAREST_RANGE, FARTHEST_RANGE)
    span = math.log(FARTHEST_RANGE / NEAREST_RANGE)
    return np.rint(np.log(clipped / NEAREST_RANGE) * (254.0 / span)).astype(np.uint8)


def range_from_index(index: np.ndarray | int) -> np.ndarray:
    """Inverse of ``index_from_range``: float64 metres; ``ENDLESS`` gives infinity."""
    values = np.asarray(index, np.float64)
    ranges = NEAREST_RANGE * np.exp(values * (math.log(FARTHEST_RANGE / NEAREST_RANGE) / 254.0))
    return np.where(values == ENDLESS, np.inf, ranges)


@dataclass(frozen=True)
class Water:
    """A stretch of water: Jerlov type, depth of the scene below the surface in metres, and turbidity.

    ``turbidity`` multiplies the type's scattering (1: as tabulated). ``lamp`` is the light of a lamp at the camera,
    in units of the daylight just below the surface, as it arrives on a surface one metre away (0: daylight only).
    Raises ``UserError`` for an unknown type or values out of range.
    """

    water_type: str
    depth_m: float
    turbidity: float = 1.0
    lamp: float = 0.0

    def __post_init__(self) -> None:
        if self.water_type not in _ABSORPTION:
            raise UserError(f"no water type {self.water_type!r}; choose one of: {', '.join(WATER_TYPES)}")
        if self.depth_m < 0 or self.turbidity <= 0 or self.lamp < 0:
            raise UserError(f"depth and lamp must not be negative and turbidity must be positive: {self}")

    def absorption(self) -> np.ndarray:
        """a in 1/m at ``WAVELENGTHS``: float64 (13,)."""
        return np.array(_ABSORPTION[self.water_type])

    def scattering(self) -> np.ndarray:
        """b in 1/m at ``WAVELENGTHS``, all angles, turbidity applied: float64 (13,)."""
        return np.array(_SCATTERING[self.water_type]) * self.turbidity

    def line_of_sight(self) -> np.ndarray:
        """beta in 1/m: what a picture loses along the line of sight: all of a, and the scattered-out part of b."""
        molecules = _MOLECULAR_SHARE[self.water_type]
        return self.absorption() + (molecules + (1.0 - molecules) * SCATTERED_OUT) * self.scattering()

    def veiling(self) -> np.ndarray:
        """Scattering in 1/m that sends light from all around into the line of sight: float64 (13,)."""
        molecules = _MOLECULAR_SHARE[self.water_type]
        return (molecules + (1.0 - molecules) * SCATTERED_OUT * VEIL) * self.scattering()

    def downwelling(self) -> np.ndarray:
        """Kd in 1/m at ``WAVELENGTHS``: how fast daylight fades with depth (equation 3 of Solonenko and Mobley)."""
        absorption, scattering = self.absorption(), self.scattering()
        eta = _MOLECULAR_SHARE[self.water_type]
        cosine = 0.85 if self.water_type.endswith("C") else 0.98
        shape = (0.451 + 2.584 * eta) * cosine - (0.205 + 0.521 * eta)
        return absorption / cosine * np.sqrt(1.0 + scattering / absorption * shape)

    def visibility_m(self) -> float:
        """Range at which contrast at 550 nm falls to 2 % (Koschmieder's definition), in metres."""
        return math.log(50.0) / float(self.line_of_sight()[WAVELENGTHS == 550.0][0])


def camera_sensitivity() -> np.ndarray:
    """Share of each wavelength in the blue, green and red channel: float64 (3, 13), rows sum to 1."""
    distance = (WAVELENGTHS[None, :] - np.array(_SENSITIVITY_PEAK)[:, None]) / _SENSITIVITY_WIDTH
    weights = np.exp(-0.5 * distance**2)
    return weights / weights.sum(axis=1, keepdims=True)


def direct_signal(water: Water, range_m: np.ndarray) -> np.ndarray:
    """D: light that arrives from a white surface ``range_m`` (N,) metres away: float64 (N, 3), 1 = full daylight."""
    beta = water.line_of_sight()[None, :]
    distance = np.asarray(range_m, np.float64)[:, None]
    light = np.exp(-water.downwelling() * water.depth_m)[None, :]
    if water.lamp:
        near = np.maximum(distance, NEAREST_RANGE)
        light = light + water.lamp / near**2 * np.exp(-beta * distance)
    return (light * np.exp(-beta * distance)) @ camera_sensitivity().T


def backscatter(water: Water, range_m: np.ndarray) -> np.ndarray:
    """B: light that the water itself sends to the camera before ``range_m`` (N,) metres: float64 (N, 3), linear."""
    beta = water.line_of_sight()[None, :]
    distance = np.asarray(range_m, np.float64)[:, None]
    daylight = np.exp(-water.downwelling() * water.depth_m)[None, :]
    veil = water.veiling()[None, :]
    light = veil / beta * daylight * (1.0 - np.exp(-beta * distance))
    if water.lamp:
        light = light + veil * water.lamp * _lamp_path(beta[0], distance[:, 0])
    return light @ camera_sensitivity().T


def _lamp_path(beta: np.ndarray, range_m: np.ndarray) -> np.ndarray:
    """Integral of exp(-2 beta s) / s^2 from the nearest range on, where the beam enters the view: float64 (N, 13)."""
    grid = np.geomspace(NEAREST_RANGE, FARTHEST_RANGE, 200)
    values = np.exp(-2.0 * beta[None, :] * grid[:, None]) / grid[:, None] ** 2
    steps = 0.5 * (values[1:] + values[:-1]) * np.diff(grid)[:, None]
    total = np.concatenate([np.zeros((1, len(beta))), np.cumsum(steps, axis=0)])
    clipped = np.clip(range_m, NEAREST_RANGE, FARTHEST_RANGE)
    return np.stack([np.interp(clipped, grid, total[:, column]) for column in range(len(beta))], axis=1)


def grey_balance(water: Water, strength: float, range_m: float = 2.0) -> np.ndarray:
    """Gains of blue, green, red that a camera's white balance applies: float64 (3,), geometric mean 1.

    ``strength`` 0 leaves the cast, 1 turns a grey card at ``range_m`` grey.
    """
    place = np.array([range_m])
    card = 0.3 * direct_signal(water, place)[0] + backscatter(water, place)[0]
    gains = np.maximum(card, 1e-6) ** -strength
    return gains / np.exp(np.log(gains).mean())


class FormationModel:
    """Turns clean pictures and range maps into underwater pictures of one water and one camera setting.

    ``gains``: float (3,) for blue, green, red: exposure times white balance. The model is tabulated once over the
    256 range indices, so a picture costs two look-ups and one multiply-add a pixel.
    """

    def __init__(self, water: Water, gains: np.ndarray) -> None:
        self.water = water
        self.gains = np.asarray(gains, np.float64).reshape(3)
        ranges = np.minimum(range_from_index(np.arange(256)), 1e4)
        direct = direct_signal(water, ranges) * self.gains
        direct[ENDLESS] = 0.0
        self._direct = direct.astype(np.float32)[None]
        self._backscatter = (backscatter(water, ranges) * self.gains).astype(np.float32)[None]
        self._linear = ((np.arange(256) / 255.0) ** 2).astype(np.float32)

    def veiling_light(self) -> np.ndarray:
        """Linear colour of endless water, gains applied: float32 (3,)."""
        return self._backscatter[0, ENDLESS].copy()

    def radiance(self, clean: np.ndarray, range_index: np.ndarray) -> np.ndarray:
        """Linear light at the sensor, 1 = full scale: float32 (H, W, 3).

        ``clean`` uint8 (H, W, 3) is the scene as it would look in air under white light; ``range_index`` uint8 (H, W).
        """
        return self.see_through(cv2.LUT(clean, self._linear), range_index)

    def see_through(self, light: np.ndarray, range_index: np.ndarray) -> np.ndarray:
        """Linear light, float32 (H, W, 3), as it looks from ``range_index`` uint8 (H, W) away, gains applied."""
        ranges = cv2.merge([range_index, range_index, range_index])
        return np.asarray(
            cv2.add(cv2.multiply(light, cv2.LUT(ranges, self._direct)), cv2.LUT(ranges, self._backscatter))
        )

    def form(self, clean: np.ndarray, range_index: np.ndarray) -> np.ndarray:
        """The underwater picture, without noise: uint8 (H, W, 3)."""
        return develop(self.radiance(clean, range_index))


def develop(radiance: np.ndarray, noise: np.ndarray | None = None, noise_level: float = 1.0) -> np.ndarray:
    """Linear light (float32, 1 = full scale) to an 8-bit picture.

    ``noise``: float32 of the same shape, added last, ``noise_level`` grey levels to its unit.
    """
    encoded = cv2.sqrt(radiance)
    if noise is None:
        return np.asarray(cv2.convertScaleAbs(encoded, alpha=255.0))
    return np.asarray(cv2.addWeighted(encoded, 255.0, noise, noise_level, 0.0, dtype=cv2.CV_8U))


def lens_kernel(blur_sigma: float, motion_x: float, motion_y: float) -> np.ndarray | None:
    """Kernel of forward scattering and lens (Gaussian of ``blur_sigma`` pixels) and camera motion (pixels): sums to 1.

    float32 (K, K) with odd K, or ``None`` where there is nothing to blur.
    """
    length = math.hypot(motion_x, motion_y)
    if blur_sigma < 0.2 and length < 1.0:
        return None
    radius = math.ceil(length / 2 + 2.0 * blur_sigma)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    sigma = max(blur_sigma, 0.35)
    kernel = np.zeros_like(rows)
    for position in np.linspace(-0.5, 0.5, max(2, math.ceil(2 * length) + 1)):
        distance = (columns - position * motion_x) ** 2 + (rows - position * motion_y) ** 2
        kernel += np.exp(-0.5 * distance / sigma**2)
    return (kernel / kernel.sum()).astype(np.float32)
