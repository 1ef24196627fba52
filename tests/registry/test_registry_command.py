"""``marauder registry`` as it is typed, and what its comparison says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from marauder.cli.registry import app
from marauder.core.errors import UserError
from marauder.registry.comparison import LEFT_BETTER, RIGHT_BETTER, compare_reports, differences_of_data, summary
from marauder.testing.registries import candidate
from models import made

REEF = "reef-fish"


def measured(value: float, spread: float | None = None, pictures: int = 100, **more: Any) -> dict[str, Any]:
    intervals = {} if spread is None else {"map50": {"low": value - spread, "high": value + spread, "level": 0.95}}
    return {"map50": value, "map50_95": value / 2, "recall": None, "pictures": pictures, "intervals": intervals, **more}


LEFT: dict[str, Any] = {
    "overall": measured(0.50, 0.02),
    "split": "test",
    "slices": {"deep": measured(0.40, 0.03, 30, protected=True), "night": measured(0.2, None, 5)},
}
RIGHT: dict[str, Any] = {
    "overall": measured(0.60, 0.02),
    "split": "test",
    "slices": {"deep": measured(0.30, 0.03, 30, protected=True), "night": measured(0.3, None, 5)},
}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Options that lead to a registry with two versions of which the second has failed its gates."""
    registry = made(tmp_path, "files", address=str(tmp_path / "registry"))
    registry.register(candidate(tmp_path, "a", **LEFT))
    registry.register(candidate(tmp_path, "b", verdict="fail", **RIGHT))
    return ["--registry", "files", "--option", f"address={tmp_path / 'registry'}", "--runs", str(tmp_path / "runs")]


def run(*words: str) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_list_to_a_rollback(words: list[str], tmp_path: Path) -> None:
    assert REEF in run("list", *words)
    promoted = run("promote", REEF, "1", "--who", "Ada", *words)
    assert "in production: reef-fish version 1" in promoted and "rollback" not in promoted, "nothing was before it"
    with pytest.raises(UserError, match="gates say 'fail'"):
        run("promote", REEF, "2", "--who", "Ada", *words)
    with pytest.raises(UserError, match="give --who and --why"):
        run("promote", REEF, "2", "--override", "--why", "because", *words)
    promoted = run("promote", REEF, "b", "--override", "--who", "Ada", "--why", "the [deep] slice is tiny", *words)
    assert "to take it back: marauder registry rollback reef-fish" in promoted
    listed = run("list", REEF, *words)
    assert "fail, overridden" in listed and "production" in listed and "previous" in listed
    shown = run("show", REEF, "production", *words)
    assert "overridden: the [deep] slice is tiny" in shown and "eval_report.json" in shown and "map50" in shown
    assert "version 1 (run a, verdict pass)" in run("rollback", REEF, "--why", "misses rays", *words)
    events = [json.loads(line) for line in (tmp_path / "runs/promotions/outbox.jsonl").read_text().splitlines()]
    assert [event["type"].rpartition(".")[2] for event in events] == ["promoted", "promoted", "rolled_back"]
    assert events[1]["data"]["override"] is True and events[1]["subject"] == REEF


def test_comparing_says_which_is_better_where(words: list[str]) -> None:
    shown = run("compare", REEF, "1", "2", *words)
    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert "0.500 [0.480, 0.520]" in shown and "+0.100" in shown
    assert "deep *" in shown and "the first is better" in shown and "without intervals, maybe noise" in shown
    assert "not measured in both" in rows["overall"], "recall is undefined in both"
    assert "1 × the first is better, 1 × the second is better." in shown
    assert "Careful" not in shown


def test_a_version_is_not_compared_with_itself(words: list[str]) -> None:
    assert run("compare", REEF, "2", "2", *words) == f"2 and 2 are the same version of {REEF}, 2: nothing to compare\n"


def test_settings_come_from_train_yaml_and_only_its_own_sections_are_read(words: list[str], tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        f"data: nowhere\ntypo: 1\nregistry: {{kind: files, options: {{address: {tmp_path / 'registry'}}}}}\n"
    )
    assert REEF in run("list", "--config", str(config))
    config.write_text("registry:\n  kind: flies\n")
    with pytest.raises(UserError, match=r"train\.yaml:2: registry\.kind: no registry named 'flies'"):
        run("list", "--config", str(config))
    with pytest.raises(UserError, match=r"registry\.options\.adress: .*did you mean address"):
        run("list", "--registry", "files", "--option", "adress=x")
    with pytest.raises(UserError, match="switched off"):
        run("list", "--registry", "none")


def test_looking_into_a_registry_that_is_not_there_does_not_make_it(tmp_path: Path) -> None:
    for kind in ("files", "mlflow"):
        assert "No model is registered here yet" in run("list", "--registry", kind, "--runs", str(tmp_path / "runs"))
        with pytest.raises(UserError, match="no project"):
            run("show", REEF, "1", "--registry", kind, "--runs", str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.main import get_command; import marauder.cli.registry as r; get_command(r.app);"
        "import marauder.registry.settings, marauder.registry.base, marauder.storage.settings, marauder.storage.base;"
        "print([n for n in ('torch','mlflow','boto3','wandb','numpy','scipy','pandas') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(json.loads(shown.replace("'", '"'))) <= {"numpy"}


figures = st.none() | st.floats(0, 1)
row = st.fixed_dictionaries(
    {"map50": figures, "pictures": st.integers(0, 9)},
    optional={"intervals": st.fixed_dictionaries({"map50": st.fixed_dictionaries({"low": figures, "high": figures})})},
)
report = st.fixed_dictionaries({"overall": row}, optional={"slices": st.dictionaries(st.sampled_from("abc"), row)})


@given(left=report, right=report)
def test_exchanging_the_versions_exchanges_the_answers(left: dict[str, Any], right: dict[str, Any]) -> None:
    forth = {one.name: one for one in compare_reports(left, right, "map50")}
    back = {one.name: one for one in compare_reports(right, left, "map50")}
    exchanged = {LEFT_BETTER: RIGHT_BETTER, RIGHT_BETTER: LEFT_BETTER}
    assert forth.keys() == back.keys() == {"overall", *left.get("slices", {}), *right.get("slices", {})}
    for name, one in forth.items():
        if "is higher" not in one.reading:
            assert back[name].reading == exchanged.get(one.reading, one.reading)
        if one.reading in exchanged:
            assert one.tested
    assert summary(list(forth.values()))


def test_reports_of_other_pictures_are_told() -> None:
    other = {**RIGHT, "split": "val", "overall": measured(0.6, 0.02, 90)}
    assert len(differences_of_data(LEFT, other)) == 2 and differences_of_data(LEFT, RIGHT) == []


def test_a_run_that_was_compared_with_the_other_as_production_tells_by_the_paired_interval() -> None:
    change = {"map50": {"delta": 0.02, "low": 0.005, "high": 0.035}}
    production = {"run_id": "a", "overall": measured(0.50, 0.05), "slices": {"deep": measured(0.40, 0.05)}}
    candidate = {
        "run_id": "b",
        "lineage": {"production_run": "a"},
        "overall": measured(0.52, 0.05, changes=change),
        "slices": {"deep": measured(0.41, 0.05, changes={"map50": {"delta": 0.01, "low": -0.01, "high": 0.03}})},
    }
    forth = compare_reports(production, candidate, "map50")
    assert [row.reading for row in forth] == [RIGHT_BETTER, "no clear difference"]
    back = compare_reports(candidate, production, "map50")
    assert [row.reading for row in back] == [LEFT_BETTER, "no clear difference"]
    assert back[0].paired == (-0.035, -0.005)
    other = compare_reports({**production, "run_id": "c"}, candidate, "map50")
    assert other[0].paired is None and other[0].reading == "no clear difference"
