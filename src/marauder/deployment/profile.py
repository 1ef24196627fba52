"""The deployment profile: what a set of models costs on a device, from published figures and stated assumptions. Pure.

A day is cut into four parts, and every second is in one of them: *inference* (at the board's active power), *wake*
(awake but not computing: starting, watching, saving; at idle power), *idle* (always on, between pictures; also at idle
power) and *off*. Models run one after another on the one GPU, so that their latencies add up.

Assumptions, which every profile carries in words: latency grows with the number of pixels; a model without a published
latency takes what those of the same board that need about as many operations take (linear in between); memory is
weights and the outputs of all convolutions in fp16, of the largest model for the latter, beside a fixed share for CUDA
and TensorRT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

from marauder.core.plain import Plain
from marauder.deployment.device_table import Device, DeviceTable

BASE_SIZE = 640
SECONDS_OF_A_DAY = 86_400.0
BYTES_FP16 = 2
RUNTIME_MEGABYTES = 800.0
"""Assumed: CUDA's context and TensorRT's library, once for all models."""
PARTS = ("inference", "wake", "idle", "off")
ASSUMPTIONS = (
    "latencies are published by others for fp16 at 640 pixels; none was measured here",
    "latency grows with the number of pixels",
    "memory: weights of all models and the convolutions' outputs of the largest in fp16, and "
    f"{RUNTIME_MEGABYTES:g} MB for CUDA and TensorRT",
)


@dataclass(frozen=True)
class DutyCycle:
    """A day of a device: ``wakes_per_day`` times it wakes (``wake_seconds`` beside watching), watches ``cameras`` for
    ``watch_seconds`` at ``frames_per_second`` each, and is switched off. ``always_on``: it watches all day."""

    cameras: int = 1
    frames_per_second: float = 1.0
    watch_seconds: float = 60.0
    wake_seconds: float = 45.0
    wakes_per_day: float = 96.0
    always_on: bool = False

    @property
    def watching(self) -> float:
        """Seconds a day that cameras are watched."""
        return SECONDS_OF_A_DAY if self.always_on else self.wakes_per_day * self.watch_seconds

    @property
    def starting(self) -> float:
        """Seconds a day that go into starting and stopping."""
        return 0.0 if self.always_on else self.wakes_per_day * self.wake_seconds

    @property
    def pictures(self) -> float:
        """Pictures a day, of all cameras."""
        return self.cameras * self.frames_per_second * self.watching


@dataclass(frozen=True)
class MemberCost:
    """A model on a device. ``milliseconds``: of one picture; ``None``: it does not run there, or nothing is known.
    ``estimated``: from operations, not published; ``source``: of the latency, in the table's names; ``why``: why there
    is none. ``weights_megabytes``, ``activations_megabytes``: fp16; ``None``: not known."""

    name: str
    model: str
    milliseconds: float | None
    estimated: bool = False
    source: str = ""
    why: str = ""
    weights_megabytes: float | None = None
    activations_megabytes: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it is known to run there."""
        return self.milliseconds is not None


@dataclass(frozen=True)
class Day:
    """Seconds and watt-hours of each of ``PARTS``. ``fits``: whether a day is enough for its pictures."""

    seconds: Mapping[str, float]
    watt_hours: Mapping[str, float]
    fits: bool

    @property
    def budgeted(self) -> float:
        """Watt-hours of inference and wake time, which a budget is for."""
        return self.watt_hours["inference"] + self.watt_hours["wake"]

    @property
    def total(self) -> float:
        """Watt-hours of the whole day."""
        return sum(self.watt_hours.values())


@dataclass(frozen=True)
class Power:
    """Watts of a device."""

    active: float
    idle: float
    off: float


@dataclass(frozen=True)
class Profile:
    """What ``members`` cost on a device. ``latency``: milliseconds of a picture through all that run; ``megabytes``:
    memory needed; ``memory``: there is; ``day``: with all that run."""

    device: str
    title: str
    image_size: int
    members: tuple[MemberCost, ...]
    cycle: DutyCycle
    power: Power
    latency: float
    megabytes: float
    memory: float
    day: Day
    remarks: tuple[str, ...]

    def day_of(self, names: Sequence[str]) -> Day:
        """The day with some of the members alone."""
        chosen = [one for one in self.members if one.name in set(names)]
        return day_of(sum(one.milliseconds or 0.0 for one in chosen), self.cycle, self.power)

    def to_json(self) -> Plain:
        """Plain values, with the sums."""
        content = asdict(self)
        content["day"] |= {"budgeted": self.day.budgeted, "total": self.day.total}
        return {**content, "assumptions": list(ASSUMPTIONS)}


def profile(
    members: Mapping[str, str], device: Device, cycle: DutyCycle, table: DeviceTable, image_size: int = BASE_SIZE
) -> Profile:
    """The profile of ``members`` (name to architecture) on ``device``, pictures of ``image_size`` pixels a side."""
    costs = tuple(_member(name, model, device, table, image_size) for name, model in members.items())
    power = Power(device.active_watts.value, device.idle_watts.value, device.off_watts.value)
    running = [one for one in costs if one.runs]
    latency = sum(one.milliseconds or 0.0 for one in running)
    weights = sum(one.weights_megabytes or 0.0 for one in running)
    outputs = max((one.activations_megabytes or 0.0 for one in running), default=0.0)
    return Profile(
        device=device.name,
        title=device.title,
        image_size=image_size,
        members=costs,
        cycle=cycle,
        power=power,
        latency=latency,
        megabytes=RUNTIME_MEGABYTES + weights + outputs,
        memory=1000 * device.memory_gigabytes.value,
        day=day_of(latency, cycle, power),
        remarks=tuple(_remarks(device)),
    )


def day_of(milliseconds: float, cycle: DutyCycle, power: Power) -> Day:
    """A day on which every picture takes ``milliseconds``."""
    inference = cycle.pictures * milliseconds / 1000
    # What does not fit into the watching keeps the board awake after it; always on there is no after.
    waiting = max(0.0, cycle.watching - inference)
    rest = SECONDS_OF_A_DAY - cycle.starting - max(cycle.watching, inference)
    seconds = {
        "inference": inference,
        "wake": cycle.starting + (0.0 if cycle.always_on else waiting),
        "idle": waiting if cycle.always_on else 0.0,
        "off": 0.0 if cycle.always_on else max(rest, 0.0),
    }
    watts = {"inference": power.active, "wake": power.idle, "idle": power.idle, "off": power.off}
    hours = {name: seconds[name] * watts[name] / 3600 for name in PARTS}
    # Rounding: a day that is exactly full is one that fits.
    return Day(seconds, hours, fits=rest >= -1e-6)


def _member(name: str, model: str, device: Device, table: DeviceTable, image_size: int) -> MemberCost:
    cost, scale = table.models.get(model), (image_size / BASE_SIZE) ** 2
    if cost is None:
        return MemberCost(name, model, None, why="its operations are not known")
    weights, outputs = cost.parameters.value * BYTES_FP16, cost.activations.value * BYTES_FP16 * scale
    known = MemberCost(name, model, None, weights_megabytes=weights, activations_megabytes=outputs)
    published = device.latencies.get(model)
    if published is not None:
        return replace(known, milliseconds=published.value * scale, source=published.source)
    if model in device.does_not_run:
        return replace(known, source=device.does_not_run[model], why="it does not run there")
    points = sorted((table.models[other].gflops.value, figure.value) for other, figure in device.latencies.items())
    if device.does_not_run and cost.gflops.value > points[-1][0]:
        # Between the largest that runs and the smallest that does not nobody knows.
        return replace(known, why="it is larger than any that is known to run there")
    return replace(known, milliseconds=_between(points, cost.gflops.value) * scale, estimated=True)


def _between(points: Sequence[tuple[float, float]], gflops: float) -> float:
    """Milliseconds for ``gflops``, by ``points`` (operations, milliseconds) of other models, sorted."""
    if gflops <= points[0][0]:
        # A small model is held up by other things than operations: no faster than the smallest that is known.
        return points[0][1]
    for (below, fast), (above, slow) in pairwise(points):
        if gflops <= above:
            return fast + (slow - fast) * (gflops - below) / (above - below)
    return points[-1][1] * gflops / points[-1][0]


def _remarks(device: Device) -> list[str]:
    """Which of the device's own figures are assumed, and what their notes say."""
    words = []
    for what in ("idle_watts", "active_watts", "off_watts"):
        figure = getattr(device, what)
        named = f"{what.replace('_', ' ')}: {figure.value:g}"
        if figure.kind == "assumed":
            words.append(f"{named}, assumed" + (f" ({figure.note})" if figure.note else ""))
        elif figure.note:
            words.append(f"{named}, {figure.note}")
    return words
