"""The model card as Markdown, from the plain content that ``card.card_content`` makes."""

from __future__ import annotations

from collections.abc import Mapping

from marauder.core.plain import Plain, PlainMapping
from marauder.evaluation.figures import CALIBRATION_ERRORS
from marauder.pages.canvas import show_confidence
from marauder.pages.showing import show_any, show_milliseconds, show_number, show_signed
from marauder.reporting.markdown import bullets, escape, table, terms


def render_card(content: PlainMapping) -> str:
    """The Markdown of ``card_content``; all text that comes from outside is escaped."""
    import yaml

    matter = yaml.safe_dump(content["front_matter"], sort_keys=False, allow_unicode=True)
    parts = [f"---\n{matter}---", f"# {escape(content['title'])}"]
    for heading, body in (
        ("Model details", _details(content)),
        ("Intended use", _use(content)),
        ("Factors", _factors(content)),
        ("Metrics", _metrics(content)),
        ("Evaluation and training data", terms(list(content["data"].items()))),
        ("Training", _training(content)),
        ("Quantitative analyses", _results(content)),
        ("Gates", _gates(content)),
        ("Ethical considerations", bullets(content["ethical_considerations"])),
        ("Caveats and recommendations", _caveats(content)),
    ):
        parts.append(f"## {heading}\n\n{body}")
    return "\n\n".join(parts) + "\n"


NO_LICENCE = "none stated, so nobody else may use this model yet; set card.licence"


def _details(content: PlainMapping) -> str:
    details = content["model_details"]
    lines = [("Task", details["task"]), ("Classes", ", ".join(details["classes"]))]
    lines.append(("Licence", details["licence"] or NO_LICENCE))
    lines += [("Contact", details["contact"])] if details["contact"] else []
    lines += [*details["lineage"].items(), *details["provenance"].items()]
    lines += [(name, f"{one['path']}, sha256 {one['sha256']}") for name, one in details["files"].items()]
    return terms(lines)


def _use(content: PlainMapping) -> str:
    use = content["intended_use"]
    return terms([("For", use["primary"]), ("Users", use["users"]), ("Out of scope", use["out_of_scope"])])


def _factors(content: PlainMapping) -> str:
    if not content["factors"]:
        return "No slices of the data were evaluated."
    lines = [
        f"{one['slice']}{' (protected)' if one['protected'] else ''}"
        f"{': ' + one['description'] if one['description'] else ''}"
        for one in content["factors"]
    ]
    return "Measured separately, as parts of the evaluation data:\n\n" + bullets(lines)


def _metrics(content: PlainMapping) -> str:
    return (
        "mAP is COCO's. Precision, recall and F1 are means over the classes that have boxes, at confidence "
        f"{show_confidence(content['metrics']['confidence'])} and IoU 0.5. D-ECE is the calibration error of the "
        "confidences. Intervals are 95 % bootstrap intervals over groups of pictures (clips)."
    )


def _training(content: PlainMapping) -> str:
    training = content["training"]
    lines = [(name, str(value)) for name, value in training["facts"].items()]
    lines += [(name, str(value)) for name, value in _flat(training["settings"]).items()]
    return terms(lines) if lines else "How it was trained is not known."


def _flat(values: PlainMapping, prefix: str = "") -> Plain:
    """Nested settings by dotted names; what is not set is left out."""
    flat: Plain = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value not in (None, [], ""):
            flat[f"{prefix}{name}"] = value
    return flat


def _results(content: PlainMapping) -> str:
    results, names = content["results"], content["metrics"]["names"]
    changed = results["compared_with"]
    heads = ["part", "pictures", "boxes", "groups", *names.values()]
    rows = [
        [
            f"{row['name']}{' (protected)' if row['protected'] else ''}{' (small)' if row['small'] else ''}",
            *(f"{row[key]:,}" for key in ("pictures", "boxes", "groups")),
            *(_cell(row["metrics"][name]) for name in names),
        ]
        for row in (results["overall"], *results["slices"])
    ]
    classes = [
        [
            one["name"],
            f"{one['n_boxes']:,}",
            *(_number(one[key]) for key in ("ap50", "ap50_95", "precision", "recall", "f1")),
        ]
        for one in results["classes"]
    ]
    parts = [
        "### Overall and by slice",
        table(heads, rows),
        "In brackets: the 95 % interval." + (f" Δ: difference from {escape(changed)}." if changed else ""),
        "### By class",
        table(["class", "boxes", "AP50", "AP50-95", "precision", "recall", "F1"], classes),
        "### Calibration",
        terms([(title, _number(content["calibration"][name])) for title, name in CALIBRATION_ERRORS]),
        "### Latency",
        _latency_text(content["latency"]),
    ]
    return "\n\n".join(parts)


def _latency_text(latency: PlainMapping | None) -> str:
    if latency is None:
        return "Not measured."
    shape = f", {latency['width']} × {latency['height']} pixels" if latency["width"] and latency["height"] else ""
    rows = [
        [name, *(show_milliseconds(one[key]) for key in ("p50", "p95", "throughput"))]
        for name, one in latency["formats"].items()
    ]
    about = f"On {latency['machine']}, batches of {latency['batch']}{shape}:"
    return f"{escape(about)}\n\n" + table(["format", "p50, ms", "p95, ms", "pictures a second"], rows)


def _gates(content: PlainMapping) -> str:
    if not content["gates"]:
        return "No gate judged this model."
    rows = [
        [one["gate"], one["answer"], show_any(one["value"]), show_any(one["limit"]), one["why"]]
        for one in content["gates"]
    ]
    return f"Together: **{content['verdict']}**.\n\n" + table(
        ["gate", "answer", "value", "limit", "why"], rows, (0, 1, 4)
    )


def _caveats(content: PlainMapping) -> str:
    if not content["caveats"]:
        return "Nothing stood out in the evidence of this run, which does not prove that nothing is wrong."
    return bullets([one["text"] for one in content["caveats"]])


def _cell(cell: PlainMapping) -> str:
    text = _number(cell["value"])
    if cell["interval"] is not None and cell["interval"][0] is not None:
        text += f" ({_number(cell['interval'][0])} to {_number(cell['interval'][1])})"
    if cell["change"] is not None:
        mark = {True: " ▲" if cell["change"]["better"] else " ▼"}.get(cell["change"]["significant"], "")
        text += f", Δ {show_signed(cell['change']['delta'])}{mark}"
    return text


def _number(value: float | None) -> str:
    return "–" if value is None else show_number(value)
