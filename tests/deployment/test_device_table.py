"""The device table: every figure has a source, and what can be counted is counted again."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from marauder.core.files import read_json
from marauder.deployment.device_table import TABLE, device_table
from marauder.models.naming import FAMILIES, detector_names
from marauder.models.ultralytics_adapter import build_detector


def test_every_number_names_a_listed_source_and_every_source_is_used() -> None:
    content = read_json(TABLE)
    figures: list[dict[str, object]] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "source" in value:
                figures.append(value)
            for inner in value.values():
                walk(inner)
        else:
            # A bare number would have no source.
            assert not isinstance(value, (int, float)) or any(value == one.get("value") for one in figures), value

    walk({"models": content["models"], "devices": content["devices"]})
    assert len(figures) > 50
    named = {str(one["source"]) for one in figures}
    assert named == set(content["sources"])
    assert all(len(words) > 30 for words in content["sources"].values())


def test_what_nobody_published_is_called_assumed() -> None:
    content = read_json(TABLE)
    for device in content["devices"].values():
        for figure in [*device["latencies"].values(), *(device[name] for name in ("idle_watts", "off_watts"))]:
            assert (figure["kind"] == "assumed") == (figure["source"] == "planning")


def test_all_detectors_are_in_it_and_devices_are_sound() -> None:
    table = device_table()
    assert list(table.models) == detector_names()
    assert {"jetson_nano", "orin_nano", "agx_orin"} <= set(table.names)
    for device in table.devices.values():
        assert device.active_watts.value > device.idle_watts.value > device.off_watts.value >= 0
        assert device.latencies and set(device.latencies) <= set(table.models)
        assert not set(device.latencies) & set(device.does_not_run)
        for family in FAMILIES:
            known = [
                device.latencies[name].value for name in table.models if name in device.latencies and family in name
            ]
            assert known == sorted(known), "larger models of a family take longer"


@pytest.mark.parametrize(
    "name", ["yolov8n", "yolo11n", *(pytest.param(n, marks=pytest.mark.slow) for n in ("yolov8x", "yolo11x"))]
)
def test_operations_parameters_and_activations_are_those_of_the_network(name: str) -> None:
    # On the meta device nothing is computed; the decoding, which reads values, is left out by training mode.
    model = build_detector(name, [str(number) for number in range(80)]).train().to("meta")
    outputs = 0

    def count(_: nn.Module, __: object, output: torch.Tensor) -> None:
        nonlocal outputs
        outputs += output.numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 640, 640, device="meta"))
    cost = device_table().models[name]
    assert cost.gflops.value == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-3)
    assert cost.parameters.value == pytest.approx(sum(one.numel() for one in model.parameters()) / 1e6, rel=1e-4)
    assert cost.activations.value == pytest.approx(outputs / 1e6, rel=1e-4)
