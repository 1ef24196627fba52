"""The figures and the report: what is shown is what was counted, offline, escaped, also in awkward cases."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import perturbed_detections, random_case, read_yolo_labels
from matplotlib.figure import Figure
from PIL import Image

from marauder.data.records import Detections, Record
from marauder.evaluation.evaluate import attribute_slices, evaluate
from marauder.evaluation.figures import confusion_figure, group_history, training_curves
from marauder.evaluation.matching import match
from marauder.evaluation.outcomes import picture_outcomes
from marauder.evaluation.sheet import predictions_sheet
from marauder.evaluation.shown_pictures import rank_pictures
from marauder.pages.canvas import show_confidence
from marauder.reporting.advice import Advice
from marauder.reporting.run_report import write_evaluation

NAMES = ["fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"]
HISTORY = [{"epoch": e, "train/box": 3 - 0.1 * e, "val/map50": 0.02 * e, "lr": 0.01, "note": "x"} for e in range(9)]


class Page(HTMLParser):
    """Collects tags, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {value or "" for name, value in attributes if name == "id"}
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
        return opened.size


def test_report_on_real_pictures_is_whole_offline_and_quick(shared_data: Path, tmp_path: Path) -> None:
    records = read_yolo_labels(shared_data / "aquarium", limit=100)
    detections = perturbed_detections(records, len(NAMES))
    slices = {"upright": lambda record: record.height > record.width}
    started = time.perf_counter()
    result = evaluate(records, detections, NAMES, slices)
    report = write_evaluation(
        tmp_path,
        result,
        records,
        detections,
        NAMES,
        title="Baseline <on> aquarium & more",
        facts={"data": "sha256 abc", "<script>alert(1)</script>": "x"},
        history=HISTORY,
        advice=[Advice("label_more", "Label more starfish.")],
    )
    assert time.perf_counter() - started < 20
    assert report == tmp_path / "report.html"
    expected = {"confusion_matrix.png", "pr_curves.png", "f1_curve.png", "curves.png", "predictions.png"}
    expected |= {"slices.png", "roc_curves.png", "reliability.png", "eval_report.json", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags
    assert page.tags.count("img") == 6
    shown = {address for address in page.addresses if not address.startswith("#")}
    assert all(address.startswith("data:image/") for address in shown)
    for address in shown:
        width, height = size_of(base64.b64decode(address.partition(",")[2]))
        assert max(width, height) >= 480 and min(width, height) > 200
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.names
    assert not re.search(r"https?://", text)
    for part in ("Baseline <on> aquarium & more", "<script>alert(1)</script>", "Label more starfish.", "upright"):
        assert part in page.text
    for value in (result.overall.map50, result.overall.per_class[5]["ap50"], result.slices["upright"].f1):
        assert f"{value:.3f}" in page.text
    content = json.loads((tmp_path / "eval_report.json").read_text(encoding="utf-8"))
    assert content["overall"]["map50"] == pytest.approx(result.overall.map50)
    assert content["map50_interval"]["low"] < content["overall"]["map50"] < content["map50_interval"]["high"]
    counts = np.array(content["confusion_matrix"]["counts"])
    assert counts[:-1].sum() == result.overall.boxes
    assert content["worst_pictures"][0]["f1"] <= content["worst_pictures"][-1]["f1"]
    before = report.read_bytes()
    write_evaluation(
        tmp_path, result, records, detections, NAMES, title="Baseline <on> aquarium & more",
        facts={"data": "sha256 abc", "<script>alert(1)</script>": "x"}, history=HISTORY,
        advice=[Advice("label_more", "Label more starfish.")],
    )  # fmt: skip
    assert report.read_bytes() == before  # nothing of the moment or of chance is in it


@pytest.mark.parametrize("count", [1, 60])
def test_report_of_pictures_that_cannot_be_read_and_of_many_classes(tmp_path: Path, count: int) -> None:
    records, detections = random_case(4, 12, count)
    names = [f"species with a rather long name {number}" for number in range(count)]
    result = evaluate(records, detections, names, attribute_slices(records, minimum=3))
    write_evaluation(tmp_path, result, records, detections, names, title="t", facts={}, history=None)
    assert (tmp_path / "predictions.png").exists()
    assert not (tmp_path / "curves.png").exists()


def test_report_where_nothing_is_defined(tmp_path: Path) -> None:
    records = [Record("a", Path("a.png"), 100, 80), Record("b", Path("b.png"), 100, 80, labelled=False)]
    nothing = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))] * 2
    result = evaluate(records, nothing, ["fish"])
    report = write_evaluation(tmp_path, result, records, nothing, ["fish"], title="t", facts={}, history=[])
    assert "–" in Page(report.read_text(encoding="utf-8")).text
    content = json.loads((tmp_path / "eval_report.json").read_text(encoding="utf-8"))
    assert content["overall"]["map50"] is None
    assert content["overall"]["pictures"] == 1
    assert not (tmp_path / "predictions.png").exists()


def test_what_to_do_next_shows_commands_and_stays_escaped(tmp_path: Path) -> None:
    records, detections = random_case(4, 12, 2)
    result = evaluate(records, detections, ["a", "b"])
    report = write_evaluation(
        tmp_path, result, records, detections, ["a", "b"], title="t", facts={},
        advice=[Advice("use", "Export it, then <i>look</i> & see:", "marauder export --models '<b>/best.pt'")],
    )  # fmt: skip
    text = report.read_text(encoding="utf-8")
    assert (
        "then &lt;i&gt;look&lt;/i&gt; &amp; see:<br><code>marauder export --models &#39;&lt;b&gt;/best.pt&#39;</code>"
        in text
    )
    page = Page(text)
    assert "`" not in page.text and "b" not in page.tags[page.tags.index("code") :] and "i" not in page.tags


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.3123, "0.312"), (1.0, "1.00"), (0.000412, "0.000412"), (0.0, "0 (all detections)"), (float("nan"), "–")],
)
def test_small_confidences_are_not_shown_as_nothing(value: float, shown: str) -> None:
    assert show_confidence(value) == shown


@pytest.mark.parametrize(("least", "shown"), [(0.0, "0 (all detections)"), (0.05, "0.0501")])
def test_a_weak_detectors_confidence_stands_in_the_report(least: float, shown: str, tmp_path: Path) -> None:
    records, detections = random_case(4, 12, 2)
    weak = [Detections(found.boxes, found.scores * 1e-4, found.classes) for found in detections]
    result = evaluate(records, weak, ["a", "b"], least_confidence=least)
    report = write_evaluation(tmp_path, result, records, weak, ["a", "b"], title="t", facts={})
    text = Page(report.read_text(encoding="utf-8")).text
    assert text.count(f"at confidence {shown}") >= 4
    assert "confidence 0.000 " not in text


def test_the_legend_of_training_curves_hides_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        figure.draw_without_rendering()
        drawn.append(figure)
        return b""

    monkeypatch.setattr("marauder.evaluation.figures.to_png", keep)
    names = ("map50", "map50_95", "precision", "recall", "f1")
    training_curves(
        [{"epoch": e, **{f"val/{n}": (e * (k + 3) % 10) / 10 for k, n in enumerate(names)}} for e in range(30)]
    )
    (axes,) = drawn[0].axes
    named = axes.get_legend()
    assert named is not None
    legend = named.get_window_extent()
    assert not legend.overlaps(axes.get_window_extent())
    assert drawn[0].bbox.x1 >= legend.x1


def test_sheet_shows_the_worst_and_best_and_not_one_clip_only() -> None:
    box = np.array([[10.0, 10.0, 40.0, 40.0]])
    records, detections = [], []
    for index in range(12):  # clips of four; every second picture is detected, the others are missed and invented
        record = Record(f"p{index}", Path(f"{index}.png"), 100, 80, boxes=box, classes=[0], group=f"c{index // 4}")
        records.append(record)
        detections.append(Detections(box if index % 2 else box + 45, [0.9], [0]))
    outcomes = picture_outcomes(match(records, detections, ["fish"]), 0.5)
    worst, best = rank_pictures(records, outcomes, 3)
    assert worst == [0, 4, 8]
    assert best == [1, 5, 9]
    assert [outcomes[index].f1 for index in (*worst, *best)] == [0, 0, 0, 1, 1, 1]
    assert size_of(predictions_sheet(records, detections, outcomes, ["fish"], 0.5)) > (600, 400)


def test_history_is_grouped_and_gaps_stay_gaps() -> None:
    history = [
        {"epoch": 1, "train/box": 2.0, "train/cls": 1, "lr": 0.1, "when": "noon", "done": True},
        {"epoch": 2, "train/box": None, "val/map50": float("nan"), "lr": np.float32(0.05)},
    ]
    panels = group_history(history)
    assert {name: list(series) for name, series in panels.items()} == {"train": ["box", "cls"], "lr": ["lr"]}
    np.testing.assert_array_equal(panels["train"]["box"], [2.0, np.nan])
    assert size_of(training_curves(history))
    with pytest.raises(ValueError, match="no numbers"):
        training_curves([{"epoch": 1, "name": "x"}])


def test_confusion_figure_grows_with_the_classes() -> None:
    small = size_of(confusion_figure(np.eye(3, dtype=int), ["a", "b"], 0.3))
    large = size_of(confusion_figure(np.eye(37, dtype=int), [str(number) for number in range(36)], 0.3))
    assert large[0] > 2 * small[0]


def test_curves_have_whole_epochs_and_shares_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("marauder.evaluation.figures.to_png", lambda figure: drawn.append(figure) or b"")
    training_curves([{"epoch": epoch, "val/map50": 0.001 * epoch, "train/box": 4.0} for epoch in (1, 2, 3)])
    panels = {axes.get_title(loc="left") or axes.get_title(): axes for axes in drawn[0].axes}
    assert panels["validation"].get_ylim() == (0, 0.05)
    for axes in panels.values():
        assert all(float(place).is_integer() for place in axes.get_xticks())
    assert panels["training losses"].lines[0].get_marker() == "o"


def test_curves_of_few_evaluations_show_all_epochs_and_say_what_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("marauder.evaluation.figures.to_png", lambda figure: drawn.append(figure) or b"")
    training_curves(
        [
            {"epoch": 1, "train/box": 4.0, "learning_rate": 0.1},
            {"epoch": 2, "train/box": 3.0, "learning_rate": 0.1, "val/map50_95": 0.1, "val/d_ece": 0.5},
        ]
    )
    training_curves([{"epoch": 2, "val/map50": 0.1}])
    for axes in (*drawn[0].axes, *drawn[1].axes):
        assert all(float(place).is_integer() for place in axes.get_xticks()), axes.get_title(loc="left")
    assert len({axes.get_xlim() for axes in drawn[0].axes}) == 1
    # Side by side as many as stay legible at the width of a page.
    assert drawn[0].get_figwidth() * drawn[0].dpi < 1.2 * 900
    named = drawn[0].axes[-1].get_legend()
    assert named is not None
    assert [text.get_text() for text in named.get_texts()] == ["mAP50-95", "D-ECE (low is good)"]
