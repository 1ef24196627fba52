"""Every page: whole, offline, without scripts, in one look; what is put in stays text; a missing value is an error."""

from __future__ import annotations

import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from marauder.pages import rendering
from marauder.pages.rendering import embed_picture, render_page
from marauder.pages.showing import mark_commands, show_percent, show_two_decimals

TEMPLATES = Path(rendering.__file__).parent / "templates"
TRAP = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp; {{ 7 * 7 }} </style>"
PICTURE = "data:image/png;base64,iVBORw0KGgo="
FIGURE = {"title": TRAP, "caption": TRAP, "source": PICTURE}
TOP = {
    "title": TRAP,
    "subtitle": TRAP,
    "sections": [("gates", TRAP)],
    "gates": [dict.fromkeys(("name", "phase", "answer", "mark", "value", "limit", "why", "evidence"), TRAP)],
    "banner": {"answer": TRAP, "heading": TRAP, "text": TRAP},
    "tiles": [{"label": TRAP, "value": TRAP, "notes": [TRAP]}],
    "advice": [SimpleNamespace(text=TRAP, command=TRAP)],
    "caveats": [SimpleNamespace(weight=TRAP, text=TRAP)],
    "figures": [FIGURE],
    "latency": None,
    "origin": [(TRAP, [(TRAP, TRAP)])],
    "settings": TRAP,
}
"""What the page of a run and that of a pretraining have in common."""
BALANCE = SimpleNamespace(kind=TRAP, limit=4, threshold=0.1, critical_factor=2.0)
PART = {"before": 0.1, "after": 0.2, "delta": 0.1, "interval": TRAP}
COUNTED_PART = {**PART, "boxes": 3, "groups": 2}
VALUE = SimpleNamespace(value=0.5, low=math.nan, high=0.7)
AGREEMENT = SimpleNamespace(
    mean_iou=VALUE, class_kappa=VALUE, kappa=VALUE, found_by_both=VALUE, well_located=0.5, pictures=[1], boxes=3
)
SHOT = {"source": PICTURE, "alt": TRAP, "caption": TRAP}
COUNTED = {
    "name": TRAP,
    "colour": "#ff8800",
    "boxes": 5,
    "frames": 3,
    "most": 2,
    "at": TRAP,
    "first": TRAP,
    "mean": 0.5,
}
BOUNDS = SimpleNamespace(value=0.1, low=0.05, high=math.nan, floor=0.02, floor_high=0.03)
JUDGED = {"d_ece": BOUNDS, "la_ece": BOUNDS, "brier": 0.1, "squared_overlap_error": 0.2, "detections": 900}
TRIED = {"method": TRAP, "credibility": 20.0, "loss": 0.1, "gain": 0.01, "low": -0.01, "high": 0.02}
DETECTOR = {"map50": 0.5, "map50_95": 0.3, "per_class": [{"name": TRAP, "n_boxes": 3, "ap50": 0.5}]}
MEMBER = {
    "name": TRAP,
    "alone": DETECTOR,
    "adds_on_fit": 0.1,
    "adds": None,
    "kept": True,
    "removable": True,
    "weight": 1.0,
    "class_weights": {TRAP: 0.5},
    "milliseconds": 12.0,
    "image_size": 640,
    "lacks": [TRAP],
    "calibration": TRAP,
}
FATES = dict.fromkeys(("given", "learned", "ignored", "labelled", "background"), 3)
COMPARED = {"student": 0.4, "teacher": 0.5, "delta": -0.1, "interval": TRAP}

PAGES: dict[str, dict[str, Any]] = {
    "calibration/report.html": {
        "name": TRAP,
        "about": {"model": TRAP, "pictures": 3, "fitted_on": TRAP, "judged_on": TRAP, "words": [TRAP], "needs": [TRAP]},
        "judgement": SimpleNamespace(
            before=JUDGED,
            after=JUDGED,
            drop=0.5,
            drop_interval=BOUNDS,
            metrics=SimpleNamespace(map50=0.5, map50_95=0.3),
            lrp=SimpleNamespace(lrp=0.5, optimal_lrp=0.4),
        ),
        "search": SimpleNamespace(
            metric="map50",
            plain=0.5,
            suppressed=0.5,
            plain_milliseconds=20.0,
            groups=4,
            trials=[
                SimpleNamespace(
                    round=1, view=TRAP, value=0.5, gain=0.1, low=0.0, high=0.2, cost=2.0, milliseconds=40.0, kept=True
                )
            ],
        ),
        "confirmed": SimpleNamespace(words=lambda: TRAP),
        "candidates": [TRIED],
        "taken": TRIED,
        "rows": [
            {
                "name": TRAP,
                "critical": True,
                "threshold": 0.3,
                "reached": False,
                "own": 0.2,
                "low": 0.1,
                "high": 0.4,
                "weight": 0.5,
                "boxes": 9,
                "outcome": {"precision": 0.5, "recall": math.nan, "f1": 0.5, "boxes": 4},
            }
        ],
        "rules": [(TRAP, TRAP)],
        "figure": PICTURE,
        "too_few": True,
    },
    "ensembles/report.html": {
        "content": {
            "fusion": TRAP,
            "options": {TRAP: TRAP},
            "fit": {
                "pictures": 3,
                "groups": 2,
                "split": TRAP,
                "weighing": TRAP,
                "tried": [{"what": TRAP, "map50": 0.5}],
            },
            "measured": {
                "members": [TRAP],
                "pictures": 3,
                "groups": 2,
                "split": TRAP,
                "ensemble": DETECTOR,
            },
            "verdicts": [TRAP],
            "members": [MEMBER],
            "metric": "map50",
            "least": 0.001,
            "threshold": 0.3,
            "cost": {
                "milliseconds": {TRAP: {"p50": 3.0}},
                "machine": TRAP,
                "device": TRAP,
                "rounds": 5,
                "sum_of_members": 9.0,
                "unsteady": TRAP,
            },
            "set_aside": {TRAP: TRAP},
        },
        "difference": lambda value: f"{value}",
        "figure": PICTURE,
        "matrices": [{"title": TRAP, "words": TRAP, "rows": [[0.5, None]]}],
        "ensemble": TRAP,
    },
    "annotation/guidelines.html": {
        "rules": [(TRAP, TRAP)],
        "rows": [
            {
                "guide": SimpleNamespace(
                    name=TRAP,
                    slug="00-trap",
                    colour="#ffffff",
                    species=SimpleNamespace(scientific=TRAP, tier="critical"),
                    tier=TRAP,
                    look_alikes=[(TRAP, TRAP)],
                ),
                "also": TRAP,
                "crops": [PICTURE],
            }
        ],
    },
    "annotation/import_report.html": {
        "delivery": TRAP,
        "batch": TRAP,
        "read_as": TRAP,
        "advice": TRAP,
        "counts": {"accepted": 1, "returned": 1, "missing": 1},
        "kinds": {TRAP: 2},
        "explained": {TRAP: TRAP},
        "general": [{"place": TRAP, "message": TRAP, "kind": TRAP}],
        "strangers": [TRAP],
        "pictures": [
            {
                "file": TRAP,
                "part": TRAP,
                "boxes": 1,
                "status": "returned",
                "notes": [{"message": TRAP, "place": TRAP, "serious": True}],
            }
        ],
        "quality": True,
    },
    "annotation/quality.html": {
        "batch": TRAP,
        "pictures": 3,
        "answered": 2,
        "reviewed": 1,
        "kinds": {"overlooked": 1, "badly_located": 0, "wrong_class": 0},
        "quality": SimpleNamespace(source=TRAP, overlap=AGREEMENT, model=AGREEMENT, untouched=0.5, warnings=(TRAP,)),
        "tables": [{"title": TRAP, "agreement": AGREEMENT, "columns": [TRAP], "rows": [{"name": TRAP, "cells": [1]}]}],
        "worst": [{"key": TRAP, "alone": 1, "other_class": 1, "mean_iou": 0.5}],
        "cards": [{"file": TRAP, "label_class": TRAP, "score": math.nan}],
    },
    "critical/balance.html": {
        "plan": SimpleNamespace(
            records=3,
            length=4,
            bag=TRAP,
            classes=[SimpleNamespace(name=TRAP, critical=True, pictures=1, share=0.5, boxes=2, draws=1.0, factor=1.0)],
        ),
        "settings": SimpleNamespace(balance=BALANCE),
        "pictures": [{"key": TRAP, "factor": 1.0}],
    },
    "critical/report.html": {
        "content": {
            "title": TRAP,
            "pictures": 3,
            "split": TRAP,
            "critical": [TRAP],
            "before_is": TRAP,
            "stage": TRAP,
            "best_metric": TRAP,
            "stages": [{"name": TRAP, "epochs": 3, "best_epoch": 2, "score": 0.5, "negatives": 3, "missing": 1}],
        },
        "verdict": TRAP,
        "missing": 2,
        "unsure": {TRAP: 0.5},
        "suspected_file": TRAP,
        "rows": [
            {"name": TRAP, "tier": False, "critical": True, "boxes": 3, **PART},
        ],
        "fixed": [
            {
                "name": TRAP,
                "boxes": 3,
                "recall": 0.5,
                "reached": False,
                "precision": PART,
                "empty": PART,
                "without": PART,
            }
        ],
        "empty_pictures": 3,
        "crops": [{"source": PICTURE, "class": TRAP, "score": 0.5, "what": TRAP, "key": TRAP}],
        "no_crops": TRAP,
    },
    "multiscale/report.html": {
        "content": {
            "title": TRAP,
            "pictures": 3,
            "split": TRAP,
            "before_is": TRAP,
            "trained_sizes": [480, 768],
            "schedule": TRAP,
            "native": 640,
            "words": [TRAP],
            "by_size": [
                {
                    "size": 640,
                    "native": True,
                    **dict.fromkeys(("map50_95", "map50", "map_small"), COUNTED_PART),
                    "from_native": dict.fromkeys(("map50_95", "map_small"), COUNTED_PART),
                }
            ],
            "in_picture_pixels": {"map_small": COUNTED_PART},
        },
        "figure": PICTURE,
        "kinds": [("map50_95", TRAP), ("map_small", TRAP)],
        "reference": 640,
        "least": (8, 30),
    },
    "students/report.html": {
        "content": {
            "title": TRAP,
            "model": TRAP,
            "split": TRAP,
            "words": [TRAP],
            "teacher": {"name": TRAP, "members": 2, "calibrated": False},
            "compared": {"pictures": 3, "metrics": {"map50": COMPARED}},
            "sizes": {"student": 6e6, "teacher": 5e7},
            "cost": {
                "milliseconds": {"student": {"p50": 3.0}, "teacher": {"p50": 9.0}},
                "machine": TRAP,
                "device": TRAP,
                "rounds": 5,
                "unsteady": TRAP,
            },
            "boards": [
                {
                    "board": TRAP,
                    "student": {"milliseconds": 3.0, "estimated": True},
                    "teacher": {"milliseconds": None, "estimated": False},
                }
            ],
            "rules": {"sure": 0.5, "doubt": 0.1, "trust": "score", "missing": "ignore"},
            "lessons": {
                "pictures": {"unlabelled": 3, "labelled": 4},
                "boxes": {"unlabelled": {TRAP: FATES}},
                "left_out": {TRAP: 2},
                "set_aside": {TRAP: TRAP},
            },
            "next": [{"what": TRAP, "command": TRAP}],
        },
        "metrics": {"map50": TRAP},
        "kinds": ("labelled", "unlabelled"),
        "fates": ("learned", "ignored", "labelled", "background"),
        "totals": {"labelled": FATES, "unlabelled": FATES},
        "sheets": [PICTURE],
        "least": (8, 30),
    },
    "preprocessing/report.html": {
        "rows": [(TRAP, TRAP)],
        "sheet": PICTURE,
        "measure_side": 256,
        "set_aside": [TRAP],
        "notes": [TRAP],
    },
    "reporting/pretraining.html": {
        **TOP,
        "answer": TRAP,
        "why": TRAP,
        "classes": [{"name": TRAP, "before": 0.1, "after": 0.2, "gain": 0.1}],
        "probe_caption": TRAP,
        "thinning": TRAP,
        "groups": [{"name": TRAP, "found": 1, "near": 0, "over": 0, "unreadable": 0, "kept": 1}],
        "groups_left": 2,
        "transfer": TRAP,
    },
    "selection/report.html": {
        "chosen": 2,
        "candidates": 5,
        "clips": {"chosen": 1, "all": 3},
        "price": TRAP,
        "selection_file": TRAP,
        "kinds": [{"count": 2, "title": TRAP, "why": TRAP}],
        "sheet": PICTURE,
        "sheet_cut": True,
        "guesses": True,
        "most_boxes": 20,
        "classes": [{"name": TRAP, "critical": True, "pool": 3, "chosen": 1, "boxes": 2, "labelled": 4}],
        "labelled_known": True,
        "map": PICTURE,
        "picks": [{"key": TRAP, "why": TRAP, "boxes": "1.0"}],
        "next_command": TRAP,
        "notes": [TRAP],
        "changes": [TRAP],
    },
    "survey/report.html": {
        "looked_at": TRAP,
        "model": TRAP,
        "threshold": TRAP,
        "doubt": TRAP,
        "beside": TRAP,
        "total": 5,
        "totals": [COUNTED],
        "clips": [
            {
                "name": TRAP,
                "frames": 3,
                "moment": TRAP,
                "rows": [COUNTED],
                "chart": {
                    "most": 2,
                    "lines": [{"points": "44,140 750,12", "colour": "#ff8800", "name": TRAP}],
                    "ticks": [{"x": "44", "anchor": "start", "text": TRAP}],
                },
                "pictures": [SHOT],
            },
            {"name": TRAP, "frames": 3, "moment": TRAP, "rows": [], "chart": None, "pictures": []},
        ],
        "clips_left_out": 2,
        "surest": [SHOT],
        "least_sure": [SHOT],
        "problems": [(TRAP, TRAP)],
        "problem_count": 3,
    },
}
"""Each page with traps wherever it takes text."""
ELSEWHERE = {"reporting/report.html"}
"""Pages whose own tests write them from real evidence, with traps in it."""
WITH_SCRIPT = {"annotation/quality.html"}


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text outside ``style`` and ``script``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside, self.text = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_every_page_is_among_those_that_are_tried() -> None:
    extending = {
        path.relative_to(TEMPLATES).as_posix()
        for path in TEMPLATES.rglob("*.html")
        if '{% extends "base.html" %}' in path.read_text(encoding="utf-8")
    }
    assert extending - ELSEWHERE == set(PAGES)
    for path in TEMPLATES.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert ("<!doctype html>" in text) == (path.name == "base.html"), f"{path}: a page extends base.html"
        assert "<style" not in text or path.name == "base.html", f"{path}: rules belong into style.css"


@pytest.mark.parametrize("template", sorted(PAGES))
def test_a_page_is_whole_and_what_is_put_in_stays_text(template: str) -> None:
    text = render_page(template, **PAGES[template])
    page = Page(text)
    assert page.named("html")[0]["lang"] == "en" and len(page.named("h1")) == 1 and page.named("title")
    assert text.startswith("<!doctype html>") and text.rstrip().endswith("</html>")
    scripts = page.named("script")
    assert len(scripts) == (3 if template in WITH_SCRIPT else 0)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "49" not in page.text, "what is put in is not read as a template"
    assert page.text.count(TRAP) >= 2
    policy = str(page.named("meta")[2]["content"])
    assert policy.startswith("default-src 'none'") and ("script-src" in policy) == (template in WITH_SCRIPT)
    assert all(attributes.get("alt") for attributes in page.named("img"))
    addresses = [
        value or "" for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(address.startswith(("#", "data:image/", "quality/index.html")) for address in addresses)


@pytest.mark.parametrize("template", sorted(PAGES))
def test_a_value_that_is_not_given_is_an_error_and_no_gap(template: str) -> None:
    needed = set(PAGES[template]) - {"no_crops"}  # asked for only where there are no crops
    for name in needed:
        content = {key: value for key, value in PAGES[template].items() if key != name}
        with pytest.raises((UndefinedError, TypeError), match=f"{name}|StrictUndefined"):
            render_page(template, **content)


def test_pictures_are_embedded_as_what_they_are() -> None:
    for kind in ("png", "jpeg"):
        buffer = io.BytesIO()
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(buffer, format=kind)
        assert embed_picture(buffer.getvalue()).startswith(f"data:image/{kind};base64,")
    assert embed_picture(b"<svg/>") == "data:image/svg+xml;base64,PHN2Zy8+"
    with pytest.raises(ValueError, match="neither PNG"):
        embed_picture(b"GIF89a")


def test_the_style_sheet_has_a_face_for_the_night_and_one_for_paper() -> None:
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    assert "url(" not in style and "@import" not in style
    used = set(re.findall(r"var\((--\w[\w-]*)\)", style)) - {"--share"}
    assert used <= set(re.findall(r"(--\w[\w-]*):", style))


def test_undefined_numbers_are_dashes_and_commands_are_escaped() -> None:
    assert (show_percent(math.nan), show_percent(None), show_percent(0.254)) == ("–", "–", "25%")
    assert (show_two_decimals(math.nan), show_two_decimals(0.256)) == ("–", "0.26")
    assert mark_commands("run `a <b>`") == "run <code>a &lt;b&gt;</code>"


def test_tables_of_words_scroll_rather_than_break_every_word() -> None:
    """``anywhere`` lets the narrowest width of a column shrink to a single letter."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    for table in ("words", "gates"):
        rule = re.search(rf"table\.{table} td[^{{]*{{[^}}]*overflow-wrap: (\S+);", style)
        assert rule is not None and rule[1] == "break-word"
