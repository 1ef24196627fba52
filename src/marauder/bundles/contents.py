"""What a bundle holds: graphs by precision, what turns answers into boxes, fixtures, and the programs of the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from marauder.bundles.fixtures import Fixture, describe_rules
from marauder.bundles.limits import LIMITS, PRECISIONS
from marauder.core.files import as_json, fingerprint
from marauder.core.plain import Plain
from marauder.prediction.predictor import Predictor

FORMAT = 1
PROGRAMS = ("build.sh", "runner.py", "selftest.py")
"""Files of ``device`` that every bundle holds."""


def bundle_files(
    name: str, weights_sha256: str, predictor: Predictor, graphs: Mapping[str, Path], fixtures: Sequence[Fixture]
) -> dict[str, bytes]:
    """The files by their path within the bundle. ``graphs``: ONNX files by precision, fp32 among them."""
    assert predictor.accepts.size is not None
    files = {f"graphs/model_{one}.onnx": graphs[one].read_bytes() for one in PRECISIONS if one in graphs}
    device = resources.files("marauder.bundles") / "device"
    files |= {program: (device / program).read_bytes() for program in PROGRAMS}
    for fixture in fixtures:
        files |= fixture.files()
    listed = [{"name": fixture.name, "animals": list(fixture.animals)} for fixture in fixtures]
    files["fixtures/fixtures.json"] = as_json({"fixtures": listed})
    files["labels.txt"] = "".join(f"{one}\n" for one in predictor.names).encode()
    said: Plain = {
        "format": FORMAT,
        "name": name,
        "weights_sha256": weights_sha256,
        "input": list(predictor.accepts.size),
        "names": list(predictor.names),
        "rules": describe_rules(predictor),
        "precisions": [one for one in PRECISIONS if one in graphs],
        "limits": {one: LIMITS[one] for one in PRECISIONS if one in graphs},
    }
    # What a verdict that comes home names, so that it is told from that of another bundle of the same detector.
    said["digest"] = fingerprint([said, {path: fingerprint(content.hex()) for path, content in sorted(files.items())}])
    files["bundle.json"] = as_json(said)
    return files
