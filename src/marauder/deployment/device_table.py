"""The devices that are known, from ``devices.json``: every figure with its source, and none measured by Marauder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from marauder.core.files import read_json
from marauder.core.plain import PlainMapping

TABLE = Path(__file__).with_name("devices.json")
KINDS = ("published", "counted", "assumed")


@dataclass(frozen=True)
class Figure:
    """A number and where it is from. ``kind``: published by somebody, counted on the network, or assumed."""

    value: float
    kind: Literal["published", "counted", "assumed"]
    source: str
    note: str = ""


@dataclass(frozen=True)
class ModelCost:
    """One picture of 640 x 640 through a network: millions of ``parameters``, ``gflops`` (billions of operations, two
    for each multiply-add), millions of ``activations`` (values that its convolutions put out)."""

    parameters: Figure
    gflops: Figure
    activations: Figure


@dataclass(frozen=True)
class Device:
    """A board. ``latencies``: milliseconds of a picture of 640 x 640, fp16, by model; ``does_not_run``: models that are
    known not to run there, with the source. ``off_watts``: while its supply is switched off."""

    name: str
    title: str
    memory_gigabytes: Figure
    idle_watts: Figure
    active_watts: Figure
    off_watts: Figure
    latencies: Mapping[str, Figure]
    does_not_run: Mapping[str, str]


@dataclass(frozen=True)
class DeviceTable:
    """``sources`` in words by name; ``models`` and ``devices`` by name."""

    sources: Mapping[str, str]
    models: Mapping[str, ModelCost]
    devices: Mapping[str, Device]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices, small to large."""
        return tuple(self.devices)


@cache
def device_table() -> DeviceTable:
    """The table that ships with Marauder. Raises ``ValueError`` for a figure whose source is not listed."""
    content = read_json(TABLE)
    sources = dict(content["sources"])
    models = {
        name: ModelCost(**{part: _figure(one, sources) for part, one in costs.items()})
        for name, costs in content["models"].items()
    }
    devices = {name: _device(name, one, sources) for name, one in content["devices"].items()}
    return DeviceTable(sources, models, devices)


def _device(name: str, one: PlainMapping, sources: Mapping[str, str]) -> Device:
    figures = {
        part: _figure(one[part], sources) for part in ("memory_gigabytes", "idle_watts", "active_watts", "off_watts")
    }
    latencies = {model: _figure(figure, sources) for model, figure in one["latencies"].items()}
    impossible = {model: _known(why["source"], sources) for model, why in one["does_not_run"].items()}
    return Device(name, one["title"], latencies=latencies, does_not_run=impossible, **figures)


def _figure(one: PlainMapping, sources: Mapping[str, str]) -> Figure:
    if one["kind"] not in KINDS:
        raise ValueError(f"{TABLE.name}: {one['kind']!r} is no kind of figure")
    return Figure(float(one["value"]), one["kind"], _known(one["source"], sources), one.get("note", ""))


def _known(source: str, sources: Mapping[str, str]) -> str:
    if source not in sources:
        raise ValueError(f"{TABLE.name}: the source {source!r} is not listed")
    return source
