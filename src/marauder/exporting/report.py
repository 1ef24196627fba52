"""The export report as people read it: one table of files and one of latency, in Markdown."""

from __future__ import annotations

from marauder.core.plain import Plain
from marauder.exporting.latency import PYTORCH


def markdown(report: Plain) -> str:
    """``export_report.md`` from the content of ``export_report.json``."""
    height, width = report["image_size"]
    lines = [
        f"# Export of {report['name']}",
        "",
        f"{report['architecture'] or 'Detector'}, {len(report['names'])} classes, input {width}×{height}, "
        f"weights `{report['weights_sha256'][:12]}`. Compared on {report['pictures']['source']}.",
        "",
    ]
    if not report["pictures"]["real"]:
        lines += [
            "**Not compared on real pictures.** None were given; name a folder with `--pictures`.",
            "",
        ]
    lines += _parity_table(report["formats"])
    if report.get("latency"):
        lines += ["", *_latency_table(report["latency"])]
        unsteady = report["latency"].get("unsteady")
        lines += ["", f"{unsteady[:1].upper()}{unsteady[1:]}."] if unsteady else []
    lines += ["", report["tensorrt"]]
    return "\n".join(lines) + "\n"


def describe_ties(parity: Plain) -> list[str]:
    """What suppression kept on one side only, in a sentence, of a file whose raw answers are the model's; else none."""
    differing = parity["near_ties"] + parity["unmatched"]
    if not differing or parity["reasons"]:
        return []
    kept = "1 box was" if differing == 1 else f"{differing} boxes were"
    return [f"{kept} kept by suppression on one side only: ties, since the raw answers are alike"]


def _parity_table(formats: Plain) -> list[str]:
    lines = [
        "| format | file | MB | verdict | boxes | least IoU | score difference | raw boxes (px) | raw scores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes: list[str] = []
    remarks: dict[str, None] = {}  # of the model: the same for every format
    for name, entry in formats.items():
        parity = entry["parity"]
        cells = [
            name,
            f"`{entry['file']}`",
            f"{entry['bytes'] / 1e6:.1f}",
            f"**{parity['verdict']}**",
            f"{parity['boxes']} at {parity['confidence']:.2g}",
            _number(parity["least_iou"], ".5f"),
            _number(parity["score_difference"], ".1e"),
            _number(parity["raw_box_difference"], ".1e"),
            _number(parity["raw_score_difference"], ".1e"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        notes += [f"- {name}: {note}" for note in (*parity["reasons"], *describe_ties(parity))]
        remarks.update(dict.fromkeys(f"- {remark}" for remark in parity["remarks"]))
    return [*lines, "", *notes, *remarks] if notes or remarks else lines


def _latency_table(latency: Plain) -> list[str]:
    threads = f"{latency['threads']} thread{'s' if latency['threads'] != 1 else ''}"
    lines = [
        f"One call of {latency['batch']} × {latency['width']}×{latency['height']} on {latency['machine']}, {threads}, "
        f"{latency['rounds']} interleaved rounds:",
        "",
        "| format | p50 (ms) | p95 (ms) | times PyTorch |",
        "|---|---|---|---|",
    ]
    for name, timing in latency["timings"].items():
        label = "PyTorch" if name == PYTORCH else name
        lines.append(f"| {label} | {timing['p50']:.2f} | {timing['p95']:.2f} | {timing['speedup']:.2f} |")
    return lines


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
