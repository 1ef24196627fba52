"""What people read about a pretraining: the page and the model card, from plain evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marauder.core.files import to_plain, write_json, write_text
from marauder.core.plain import Plain, PlainMapping
from marauder.gates.verdict import Verdict, worst
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import show_number, show_plain, show_signed
from marauder.reporting.advice import Advice
from marauder.reporting.card import ETHICS
from marauder.reporting.caveats import Caveat
from marauder.reporting.evidence import Artifact, DataPin, Lineage, Provenance
from marauder.reporting.markdown import bullets, escape, table, terms
from marauder.reporting.origin import data_lines, lineage_lines, origin_tables, provenance_lines
from marauder.reporting.render import ReportFigure, gate_row, gates_banner

ANSWERS = {"yes": "Yes.", "no": "No.", "unclear": "Unclear."}
GROUPS_SHOWN = 25
PROBE_CAPTION = (
    "Average precision of a linear probe on frozen features inside labelled boxes, judged on clips that the probe "
    "was not fitted on. It shows how well the features separate classes, not how well a detector performs: where it "
    "was measured, detectors gained nothing although the probe did. Train one from each, and compare."
)


@dataclass(frozen=True, eq=False)
class PretrainingEvidence:
    """What a pretraining leaves to be judged by people.

    ``probe``: the content of ``probe.json``. ``signs``: of collapse, ``before`` and ``after``. ``groups``: clip to its
    account (found, near, over, unreadable, kept). ``transfer``: the account of tensors. ``use``: intended use and
    limits, by heading.
    """

    title: str
    run_id: str
    project: str
    probe: PlainMapping
    signs: Mapping[str, Mapping[str, float]]
    groups: Mapping[str, Mapping[str, int]]
    thinning: str
    transfer: str
    verdicts: Sequence[Verdict] = ()
    figures: Sequence[ReportFigure] = ()
    cautions: Sequence[str] = ()
    advice: Sequence[Advice] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: PlainMapping = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)
    data: DataPin = field(default_factory=DataPin)
    lineage: Lineage = field(default_factory=Lineage)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    use: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()


def write_pretraining_report(folder: Path, evidence: PretrainingEvidence) -> Path:
    """Write ``report.html``, ``model_card.md`` and ``model_card.json`` into ``folder``; returns the page's path."""
    write_text(folder / "report.html", render_pretraining(evidence))
    content = card_content(evidence)
    write_json(folder / "model_card.json", content)
    write_text(folder / "model_card.md", render_card(content))
    return folder / "report.html"


def render_pretraining(evidence: PretrainingEvidence) -> str:
    """The page as text; all text is escaped."""
    classes = _classes(evidence.probe)
    groups = sorted(evidence.groups.items(), key=lambda item: (-item[1]["found"], item[0]))
    sections = [
        ("verdict", "Does it tell the classes apart better?", True),
        ("gates", "Gates", bool(evidence.verdicts)),
        ("caveats", "Read with care", bool(evidence.cautions)),
        ("probe", "The probe", bool(classes)),
        ("curves", "Training", True),
        ("pictures", "Pictures", True),
        ("transfer", "Into step 2", True),
        ("origin", "How it was made", True),
    ]
    context = {
        "title": evidence.title,
        "subtitle": f"project {evidence.project} · run {evidence.run_id} · {evidence.provenance.created}",
        "sections": [(anchor, name) for anchor, name, there in sections if there],
        "answer": ANSWERS[evidence.probe["verdict"]],
        "why": f"{evidence.probe['why'][:1].upper()}{evidence.probe['why'][1:]}.",
        "gates": [gate_row(verdict) for verdict in evidence.verdicts],
        "banner": gates_banner(evidence.verdicts),
        "tiles": _tiles(evidence),
        "advice": evidence.advice,
        "caveats": [Caveat("pretraining", "note", text) for text in evidence.cautions],
        "classes": classes,
        "probe_caption": PROBE_CAPTION,
        "figures": [
            {"title": one.title, "caption": one.caption, "source": embed_picture(one.png)} for one in evidence.figures
        ],
        "thinning": evidence.thinning,
        "groups": [{"name": name, **account} for name, account in groups[:GROUPS_SHOWN]],
        "groups_left": max(0, len(groups) - GROUPS_SHOWN),
        "transfer": evidence.transfer,
        "latency": None,
        "origin": origin_tables(evidence),
        "settings": show_plain(evidence.settings) if evidence.settings else "",
    }
    return render_page("reporting/pretraining.html", **context)


def card_content(evidence: PretrainingEvidence) -> Plain:
    """The card as plain values, in the sections of Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019)."""
    content = {
        "title": evidence.title,
        "model_details": {
            "task": "self-supervised pretraining of a detector's backbone",
            "lineage": dict(lineage_lines(evidence)),
            "provenance": dict(provenance_lines(evidence)),
            "files": {name: vars(one) for name, one in evidence.artifacts.items()},
        },
        "intended_use": dict(evidence.use),
        "data": {**dict(data_lines(evidence)), "Thinning": evidence.thinning},
        "training": {"facts": dict(evidence.facts), "settings": dict(evidence.settings)},
        "results": {"probe": dict(evidence.probe), "signs": {name: dict(one) for name, one in evidence.signs.items()}},
        "gates": [verdict.to_json() for verdict in evidence.verdicts],
        "verdict": worst(evidence.verdicts),
        "caveats": list(evidence.cautions),
        "ethical_considerations": list(ETHICS),
    }
    plain: Plain = to_plain(content)
    return plain


def render_card(content: PlainMapping) -> str:
    """The card as Markdown; all text that comes from outside is escaped."""
    details, probe = content["model_details"], content["results"]["probe"]
    signs = content["results"]["signs"]
    files = [(name, f"{one['path']}, sha256 {one['sha256']}") for name, one in details["files"].items()]
    measured = [
        [name, show_number(_float(signs["before"].get(name))), show_number(_float(signs["after"].get(name)))]
        for name in signs["after"]
    ]
    gates = [[one["gate"], one["answer"], one["why"]] for one in content["gates"]]
    parts = [f"# {escape(content['title'])}"]
    made = [("Task", details["task"]), *details["lineage"].items(), *details["provenance"].items(), *files]
    probed = f"{ANSWERS[probe['verdict']]} {escape(probe['why'])}\n\n{table(['sign', 'before', 'after'], measured)}"
    for heading, body in (
        ("Model details", terms(made)),
        ("Intended use", terms(list(content["intended_use"].items()))),
        ("Training data", terms(list(content["data"].items()))),
        ("Training", terms(list(content["training"]["facts"].items()))),
        ("Does it tell the classes apart better", probed),
        ("Gates", table(["gate", "answer", "why"], gates, (0, 1, 2)) if gates else "No gate was run."),
        ("Ethical considerations", bullets(content["ethical_considerations"])),
        ("Caveats and recommendations", bullets(content["caveats"]) if content["caveats"] else "None known."),
    ):
        parts.append(f"## {heading}\n\n{body}")
    return "\n\n".join(parts) + "\n"


def _tiles(evidence: PretrainingEvidence) -> list[Plain]:
    probe, after, before = evidence.probe, evidence.signs["after"], evidence.signs["before"]
    tiles = [
        {
            "label": "tells classes apart better",
            "value": probe["verdict"],
            "notes": ["a linear probe on frozen features"],
        }
    ]
    if probe["gain"] is not None:
        notes = [
            f"{show_signed(probe['low'])} to {show_signed(probe['high'])} ({probe['level']:.0%})",
            f"{show_number(probe['before'])} before, {show_number(probe['after'])} after",
        ]
        tiles.append({"label": "gain of the probe", "value": show_signed(probe["gain"]), "notes": notes})
    for name, label in (("effective_rank", "effective rank"), ("deviation", "spread")):
        notes = [f"{show_number(before[name])} before", f"of {after['pictures']:.0f} held-out pictures"]
        tiles.append({"label": label, "value": show_number(after[name]), "notes": notes})
    return tiles


def _classes(probe: PlainMapping) -> list[Plain]:
    rows = probe.get("by_class") or {}
    return [
        {"name": name, "before": _float(before), "after": _float(after), "gain": _float(after) - _float(before)}
        for name, (before, after) in rows.items()
    ]


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
