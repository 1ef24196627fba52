"""The report of an ensemble: what it and its members are worth, what each adds and costs; JSON, a page, a card, and
what the terminal shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.files import to_plain, write_json, write_text
from marauder.core.plain import Plain
from marauder.core.text_table import screen_width, table_lines
from marauder.core.wording import counted, joined, to_type
from marauder.ensembles.cost import ENSEMBLE, Cost
from marauder.ensembles.figures import members_figure
from marauder.ensembles.fitting import CrossFitted, Fitted, class_weights_of
from marauder.ensembles.judging import Contributions, Difference, Measured
from marauder.ensembles.members import Member
from marauder.ensembles.settings import EnsembleSettings
from marauder.evaluation.intervals import Interval
from marauder.evaluation.metrics import Metrics
from marauder.pages.rendering import embed_picture, render_page

REPORT_JSON, REPORT_PAGE, CARD = "ensemble_report.json", "ensemble_report.html", "card.md"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class AssemblySummary:
    """What an assembly came to. ``report``: content of ``ensemble_report.json``; ``already_done``: an earlier call had
    done it."""

    output: Path
    report: Plain
    already_done: bool = False

    @property
    def page(self) -> Path:
        """The page to look at."""
        return self.output / REPORT_PAGE

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the members that the ensemble has."""
        return tuple(one["name"] for one in self.report["members"] if one["kept"])

    def message(self) -> str:
        """What came of it: a table of the members, verdicts, what to do next."""
        lines = ["nothing to do, already assembled"] if self.already_done else []
        lines += table_lines(*_table(self.report), numeric=range(1, 6), width=screen_width())
        lines += ["", *self.report["verdicts"], ""]
        lines += [f"report: {self.page}", *self.report["next"]]
        return "\n".join(lines)


def report_content(
    settings: EnsembleSettings,
    members: Sequence[Member],
    names: Sequence[str],
    kept: Sequence[int],
    fitted: Fitted,
    crossed: CrossFitted,
    adds: Contributions,
    gain: Difference | None,
    threshold: float,
    judged: Measured,
    cost: Cost | None,
    set_aside: Mapping[str, str],
) -> Plain:
    """The content of ``ensemble_report.json``, plain values. ``kept``: places among ``members`` of those that
    ``fitted``, ``crossed`` and ``judged`` are about."""
    content: Plain = {
        "format": FORMAT,
        "metric": settings.metric,
        "names": list(names),
        "fusion": fitted.recipe.fusion,
        "options": dict(fitted.recipe.options),
        "least": fitted.recipe.least,
        "threshold": threshold,
        "data": str(settings.data),
        "fit": _fit(settings, fitted, crossed, gain),
        "measured": {
            "split": settings.split,
            "pictures": len(judged.records),
            "groups": len({record.group for record in judged.records}),
            "ensemble": _figures(*judged.ensemble, settings.metric),
            "best_member": members[kept[judged.best]].name,
            "against_best": judged.against_best.to_json(),
            "weights_add": None if judged.weights_add is None else judged.weights_add.to_json(),
            "members": [members[place].name for place in kept],
            "disagreement": judged.disagreement,
            "correlation_of_errors": judged.correlation,
        },
        "members": _members(settings, members, names, kept, fitted, adds, judged, cost),
        "removable": [members[place].name for place, _ in adds.removed],
        "pruned": settings.prune,
        "cost": None if cost is None else cost.to_json(),
        "set_aside": dict(set_aside),
    }
    content["verdicts"] = verdicts(content)
    folder = settings.output
    content["next"] = [
        "next: " + to_type("predict", "--model", folder, "--input", "FOLDER_OR_VIDEO"),
        "      " + to_type("evaluate", "--model", folder, "--data", settings.data, "--output", "measured"),
    ]
    plain: Plain = to_plain(content)
    return plain


def _fit(settings: EnsembleSettings, fitted: Fitted, crossed: CrossFitted, gain: Difference | None) -> Plain:
    """On what, and how, fusing was fitted."""
    looked = crossed.looked.records
    return {
        "split": settings.fit,
        "pictures": len(looked),
        "groups": len({record.group for record in looked}),
        "parts": len(crossed.fits),
        "weighing": fitted.weighing,
        "power": fitted.power,
        "weights_gain": None if gain is None else gain.to_json(),
        "tried": [{"what": words, settings.metric: value} for words, value in fitted.tried],
    }


def _members(
    settings: EnsembleSettings,
    members: Sequence[Member],
    names: Sequence[str],
    kept: Sequence[int],
    fitted: Fitted,
    adds: Contributions,
    judged: Measured,
    cost: Cost | None,
) -> list[Plain]:
    weights = dict(zip(kept, class_weights_of(fitted.recipe.weights, names), strict=True))
    removed = {place for place, _ in adds.removed}
    rows = []
    for place, member in enumerate(members):
        here = kept.index(place) if place in kept else None
        row: Plain = {
            "name": member.name,
            "source": str(member.path),
            "sha256": member.digest,
            "classes": list(member.predictor.names),
            "lacks": [name for name in names if name not in member.predictor.names],
            "image_size": member.predictor.image_size,
            "kept": here is not None,
            "removable": place in removed,
            "adds_on_fit": adds.of[place].to_json(),
            "weight": None,
            "class_weights": {},
            "calibration": None,
            "alone": None,
            "adds": None,
            "milliseconds": None if cost is None else cost.timings[member.name].p50,
        }
        if here is not None:
            row["weight"], row["class_weights"] = weights[place]
            row["calibration"] = member.own_calibration(fitted.calibrations[here]).describe()
            row["alone"] = _figures(*judged.members[here], settings.metric)
            row["adds"] = judged.adds[here].to_json()
        rows.append(row)
    return rows


def _figures(measured: Metrics, interval: Interval, metric: str) -> Plain:
    bounds = {"value": interval.value, "low": interval.low, "high": interval.high, "groups": interval.groups}
    return {
        "map50": measured.map50,
        "map50_95": measured.map50_95,
        "interval": {"metric": metric, **bounds},
        "confidence": measured.confidence,
        "per_class": measured.per_class,
    }


def verdicts(content: Plain) -> list[str]:
    """What the figures say, a sentence each."""
    measured, fit, metric = content["measured"], content["fit"], content["metric"]
    ensemble, against, best = measured["ensemble"], measured["against_best"], measured["best_member"]
    alone = next(one for one in content["members"] if one["name"] == best)["alone"]
    values = [one["interval"]["value"] for one in (ensemble, alone)]
    figures = f"{metric} {values[0]:.3f} against {values[1]:.3f}, {_words(against)}"
    seen = f"{counted(measured['pictures'], 'picture')} in {counted(measured['groups'], 'group')}"
    where = f"on {seen} of {measured['split']}"
    said = {
        "better": f"The ensemble is better than {best} alone: {figures}, {where}.",
        "worse": f"The ensemble is WORSE than {best} alone: {figures}, {where}.",
        "not shown": f"The ensemble is not shown to be better than {best} alone: {figures}, {where}.",
    }
    lines = [said[against["verdict"]]]
    if content["cost"] is not None:
        times = content["cost"]["times_fastest"]
        lines.append(f"A picture takes {times:.1f} times as long as with the fastest member.")
        if content["cost"]["unsteady"]:
            lines.append(f"These times are not to be trusted: {content['cost']['unsteady']}.")
    if content["removable"]:
        idle = joined(content["removable"])
        what = "is" if len(content["removable"]) == 1 else "are"
        if content["pruned"]:
            lines.append(f"Left out, for on {fit['split']} nothing was shown to be lost without it: {idle}.")
        else:
            lines.append(f"{idle} {what} not shown to add anything on {fit['split']}; --prune leaves out such members.")
    gain = fit["weights_gain"]
    if gain is None:
        lines.append("All members that know a class count alike for it.")
    elif fit["weighing"] == "equal":
        lines.append(
            "All members that know a class count alike for it: on groups they were not fitted on, fitted weights "
            f"change {metric} by {_words(gain)}."
        )
    else:
        lines.append(
            f"Weights of {fit['weighing']} were fitted; on groups they were not fitted on they change {metric} by "
            f"{_words(gain)}."
        )
    return lines


def _words(difference: Plain) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or high is None or math.isnan(low):
        return f"{difference['delta']:+.3f}"
    return f"{difference['delta']:+.3f} ({low:+.3f} to {high:+.3f})"


def _table(report: Plain) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the terminal."""
    metric = report["metric"]
    header = ["", metric, "95 %", "adds", "weight", "ms", "classes"]
    rows = []
    cost = report["cost"]
    for one in report["members"]:
        alone = one["alone"]["interval"] if one["alone"] else None
        adds = one["adds"] or one["adds_on_fit"]
        weight = "left out" if not one["kept"] else f"{one['weight']:.2f}{'*' if one['class_weights'] else ''}"
        lacks = f"without {', '.join(one['lacks'])}" if one["lacks"] else "all"
        rows.append(
            [
                one["name"],
                f"{alone['value']:.3f}" if alone else "–",
                f"{alone['low']:.3f} to {alone['high']:.3f}" if alone and alone["low"] is not None else "–",
                f"{adds['delta']:+.3f}",
                weight,
                f"{one['milliseconds']:.0f}" if one["milliseconds"] is not None else "–",
                lacks,
            ]
        )
    whole = report["measured"]["ensemble"]["interval"]
    time = f"{cost['milliseconds'][ENSEMBLE]['p50']:.0f}" if cost else "–"
    bounds = f"{whole['low']:.3f} to {whole['high']:.3f}" if whole["low"] is not None else "–"
    rows.append([ENSEMBLE, f"{whole['value']:.3f}", bounds, "", "", time, "all"])
    return header, rows


def write_report(folder: Path, content: Plain) -> set[Path]:
    """Write the report, its page and the card; returns the files."""
    files = {folder / REPORT_JSON, folder / REPORT_PAGE, folder / CARD}
    write_json(folder / REPORT_JSON, content)
    write_text(folder / REPORT_PAGE, _page(content))
    write_text(folder / CARD, _card(content))
    return files


def _page(content: Plain) -> str:
    matrices = [
        {
            "title": "Correlation of errors",
            "words": "1: what is hard for one is as hard for the other; members whose errors differ have more to give "
            "to each other.",
            "rows": content["measured"]["correlation_of_errors"],
        },
        {
            "title": "Disagreement",
            "words": "The share of the boxes of two members, each from its own operating point up, that the other one "
            "has no box for (IoU 0.5).",
            "rows": content["measured"]["disagreement"],
        },
    ]
    return render_page(
        "ensembles/report.html",
        content=content,
        difference=_words,
        figure=embed_picture(members_figure(content)),
        matrices=matrices if len(content["measured"]["members"]) > 1 else [],
        ensemble=ENSEMBLE,
    )


def _card(content: Plain) -> str:
    """What goes with the folder, in Markdown."""
    header, rows = _table(content)
    lines = [
        "# Ensemble of detectors",
        "",
        f"{counted(len([one for one in content['members'] if one['kept']]), 'member')} fused by {content['fusion']} "
        f"({', '.join(f'{name} {value}' for name, value in content['options'].items())}); classes "
        f"{', '.join(content['names'])}; operating point {content['threshold']:.3g}.",
        "",
        f"Calibrations, weights and settings were fitted on the split {content['fit']['split']}, all figures are of "
        f"the split {content['measured']['split']}, of {content['data']}.",
        "",
        *(f"- {line}" for line in content["verdicts"]),
        "",
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "`adds`: what the metric loses without the member, with all others as they are. Weights with a star differ by "
        "class (predictor.json).",
        "",
        *(f"- `{one['name']}`: {one['source']}, sha256 {one['sha256']}" for one in content["members"]),
    ]
    return "\n".join(lines) + "\n"
