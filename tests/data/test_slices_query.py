"""The query language: what it reads, what it refuses and where, and that numpy and polars answer alike."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.slices.columns import evaluate_query
from marauder.data.slices.query import parse_query, to_polars
from marauder.data.slices.query_tree import QueryError

pl = pytest.importorskip("polars")

COLUMNS: dict[str, list[Any]] = {
    "depth": [5.0, 20.0, None, 30.0, math.nan, 0.0],
    "weather": ["fog", "rain", None, "clear", "fog", ""],
    "night": [True, False, None, True, False, True],
    "count": [1, 2, None, 4, 5, 0],
    "class": ["fish", "crab", "fish", None, "crab", "fish"],
    "time-of-day": ["dusk", "noon", "dusk", None, "noon", "dawn"],
    "key": ["IMG_1_MOV-3", "b", "c_MOV", "d", "e", "f"],
}
FRAME = pl.DataFrame(COLUMNS, strict=False)


def answer(text: str, columns: dict[str, list[Any]] = COLUMNS) -> list[int]:
    """Rows that the query takes, the same from numpy and polars."""
    rows = np.flatnonzero(evaluate_query(parse_query(text), columns, len(COLUMNS["key"]))).tolist()
    frame = pl.DataFrame(columns, strict=False)
    wanted = frame.with_row_index("row!").filter(to_polars(text, frame.collect_schema()))["row!"].to_list()
    assert rows == wanted, text
    return rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("depth > 5", [1, 3]),
        ("5 <= depth < 30", [0, 1]),
        ("depth > 5 and weather == 'rain'", [1]),
        ("weather in ['fog', 'rain'] or depth == 30", [0, 1, 3, 4]),
        ("weather not in ('fog', 'rain')", [3, 5]),  # the missing one is unknown
        ("not depth > 5", [0, 5]),  # neither missing nor NaN
        ("not (depth > 5 and weather == 'fog')", [0, 1, 3, 5]),  # false as soon as one part is
        ("depth is None", [2, 4]),
        ("depth == None or depth != None", [0, 1, 2, 3, 4, 5]),
        ("weather is not None and not night", [1, 4]),
        ("night", [0, 3, 5]),
        ("night == True", [0, 3, 5]),
        ("weather in ['fog', None]", [0, 2, 4]),
        ("weather in []", []),
        ("'MOV' in key", [0, 2]),
        ("'MOV' not in key and class == 'crab'", [1, 4]),
        ("attribute['time-of-day'] == 'dusk'", [0, 2]),
        ("depth / count >= 7.5", [1, 3]),
        ("10 / depth > 0", [0, 1, 3]),  # a division by zero is unknown
        ("not 10 / depth > 0", []),
        ("count % 2 == 0", [1, 3, 5]),
        ("-count // 2 == -1", [0, 1]),
        ("depth >= 2 ** 4 + 4", [1, 3]),
        ("(depth + 1) * 2 - count > 20", [1, 3]),
        ("depth == 'fog' or weather > 3 or night > 'a'", []),  # other kinds are unknown
        ("not weather == 3", []),
        ("weather < 'g' and weather > ''", [0, 3, 4]),
        ("True", [0, 1, 2, 3, 4, 5]),
        ("1 < 2 and not False", [0, 1, 2, 3, 4, 5]),
        ("depth\n  > 5", [1, 3]),
    ],
)
def test_what_a_query_takes(text: str, rows: list[int]) -> None:
    assert answer(text) == rows


def test_a_name_that_no_row_has_is_missing_everywhere() -> None:
    query = parse_query("not turbidity > 3 or turbidity is None")
    assert evaluate_query(query, COLUMNS, 6).all()
    assert not evaluate_query(parse_query("turbidity > 3 or not turbidity > 3"), COLUMNS, 6).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the query is empty"),
        ("depth > ", "cannot be read: invalid syntax"),
        ("weather = 'fog'", r"equal is written ==\) \(column 9"),
        ("a && b", r"write 'and' instead of '&&' \(column 3"),
        ("a | b", "write 'or' between conditions"),
        ("night == true", r"write True instead of true \(column 10"),
        ("depth + 1", "is a value, not a condition"),
        ("'fog'", "is a value, not a condition"),
        ("__import__('os').system('true')", "a function call cannot stand in a query"),
        ("depth.real > 1", r"a dotted name cannot stand in a query.*\(column 1 "),
        ("f'{depth}' == 'a'", "an f-string cannot stand"),
        ("a if b else c", "cannot be read"),
        ("lambda: 1", "cannot be read"),
        ("[x for x in y]", "cannot be read"),
        ("(a := 3) > 2", "this cannot stand in a query"),
        ("weather in names", "'in' wants a list behind it"),
        ("weather in [depth]", "a list holds constants only"),
        ("depth is 3", "'is' asks for None only"),
        ("depth < None", "None has no order"),
        ("night > True", "True has no order"),
        ("'a' + 1 == 2", "'a' is no number to calculate with"),
        ("depth ** 2 > 4", "powers of attributes"),
        ("depth > 1 / 0", "these constants make no number"),
        ("depth > 10 ** 10 ** 10", "these constants make no number"),
        ("depth > 1e999", "only numbers below 1e300"),
        ("depth > 1j", "only numbers below 1e300"),
        ("depth > b'a'", "only numbers below 1e300"),
        ("(a > 1) == (b > 2)", "a condition stands where a value is needed"),
        ("'été' == x and f(y)", r"\(column 16 "),
        ("not " * 200 + "a", "more than 100 levels"),
        ("-" * 4000 + "1 == 1", "nested too deeply|more than 100 levels"),
        ("a == 1 or " * 2000 + "b", "longer than 10,000"),
        ("a\x00b", "cannot be read"),
    ],
)
def test_what_is_no_query_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_query(text)


def test_an_unknown_name_says_what_was_perhaps_meant() -> None:
    with pytest.raises(QueryError, match=r"no attribute 'wether'; did you mean 'weather'\? .*column 11"):
        to_polars("night and wether == 'fog'", FRAME.collect_schema())
    with pytest.raises(QueryError, match="no attribute 'x'; there are: class, count"):
        parse_query("x > 1").require(COLUMNS)


def test_polars_without_a_schema_answers_where_the_kinds_fit() -> None:
    for text in ("depth > 5 and not weather == 'rain'", "night and count % 2 == 0", "'MOV' in key", "depth is None"):
        with_schema = FRAME.filter(to_polars(text, FRAME.collect_schema()))
        assert with_schema.equals(FRAME.filter(to_polars(text))) or text == "depth is None"
    structs = FRAME.select(pl.struct("depth", "weather").alias("attributes"))
    reached = to_polars("depth > 5", column=lambda name: pl.col("attributes").struct.field(name))
    assert structs.filter(reached).height == 2


def test_polars_gives_a_row_for_each_row_even_where_all_are_missing() -> None:
    frame = pl.DataFrame({"n": [None, None]}, schema={"n": pl.Float64})
    for text in ("0 == (1 / n)", "not 0 == (1 / n)", "1 < n", "(1 / n) == (2 / n)"):
        assert frame.with_columns(r=to_polars(text, frame.collect_schema()))["r"].to_list() == [False, False]


NUMBERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([0.5, -1.5, math.nan, math.inf, 1e308, 1 / 3]))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "ab", "é", "b'\"", "\U0001f41f"]))
TRUTHS = st.one_of(st.none(), st.booleans())


def operands(depth: int) -> st.SearchStrategy[str]:
    leaf = st.one_of(
        st.sampled_from(["n", "m", "t", "u", "b", "e"]),
        st.sampled_from(["0", "1", "-2", "0.5", "'a'", "'é'", "''", "True", "False", "None"]),
    )
    if depth == 0:
        return leaf
    number = st.sampled_from(["n", "m", "1", "-2.5", "(n + m)", "(n / m)"])
    made = st.tuples(number, st.sampled_from(["+", "-", "*", "/", "//", "%"]), number)
    return st.one_of(leaf, made.map(lambda parts: f"({' '.join(parts)})"))


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 7 if depth else 4))
    if kind == 0:
        return draw(
            st.sampled_from(["b", "True", "'a' in t", "'é' not in u", "'a' in n", "b is None", "n is not None"])
        )
    if kind == 1:
        items = draw(st.lists(st.sampled_from(["1", "0.5", "'a'", "'é'", "None", "True"]), max_size=3))
        return f"{draw(operands(1))} {draw(st.sampled_from(['in', 'not in']))} [{', '.join(items)}]"
    if kind <= 4:
        signs = draw(st.lists(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), min_size=1, max_size=2))
        return " ".join([draw(operands(1)), *(f"{sign} {draw(operands(1))}" for sign in signs)])
    if kind == 5:
        return f"not ({draw(conditions(depth - 1))})"
    word = " and " if kind == 6 else " or "
    return word.join(f"({draw(conditions(depth - 1))})" for _ in range(2))


@settings(max_examples=300, deadline=None)
@given(
    text=conditions(),
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS, TEXTS, TRUTHS), min_size=1, max_size=8),
)
def test_numpy_and_polars_agree(text: str, rows: list[tuple[Any, ...]]) -> None:
    columns = {name: [row[index] for row in rows] for index, name in enumerate("nmtub")}
    columns["e"] = [None] * len(rows)
    types = {"n": pl.Float64, "m": pl.Float64, "t": pl.String, "u": pl.Categorical, "b": pl.Boolean, "e": pl.Null}
    frame = pl.DataFrame(columns, schema=types, strict=False)
    try:
        query = parse_query(text)
    except QueryError:  # constants that have no order, or make no number
        return
    ours = evaluate_query(query, columns, len(rows))
    found = frame.with_columns(r=to_polars(text, frame.collect_schema()))["r"]
    assert found.null_count() == 0
    assert ours.tolist() == found.to_list()


def reference(text: str, row: dict[str, Any]) -> bool | None:
    """Kleene's logic, word by word, on one row of numbers: the meaning that both must have."""
    import ast

    def of(node: ast.expr) -> Any:
        if isinstance(node, ast.BoolOp):
            values = [of(part) for part in node.values]
            if isinstance(node.op, ast.And):
                return False if False in values else None if None in values else True
            return True if True in values else None if None in values else False
        if isinstance(node, ast.UnaryOp):
            inner = of(node.operand)
            return None if inner is None else not inner
        assert isinstance(node, ast.Compare)
        left, right = row[node.left.id], node.comparators[0].value  # type: ignore[attr-defined]
        if left is None:
            return None
        sign = {ast.Lt: operator.lt, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.GtE: operator.ge}
        return sign[type(node.ops[0])](left, right)  # type: ignore[index]

    return of(ast.parse(text, mode="eval").body)


@st.composite
def simple(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 3 if depth else 0))
    if kind == 0:
        return (
            f"{draw(st.sampled_from('xy'))} {draw(st.sampled_from(['<', '==', '!=', '>=']))} {draw(st.integers(0, 2))}"
        )
    if kind == 1:
        return f"not ({draw(simple(depth - 1))})"
    return (" and " if kind == 2 else " or ").join(f"({draw(simple(depth - 1))})" for _ in range(2))


@settings(max_examples=150, deadline=None)
@given(text=simple(), x=st.sampled_from([None, 0, 1, 2]), y=st.sampled_from([None, 0, 1, 2]))
def test_logic_is_kleenes(text: str, x: int | None, y: int | None) -> None:
    found = bool(evaluate_query(parse_query(text), {"x": [x], "y": [y]}, 1)[0])
    assert found == (reference(text, {"x": x, "y": y}) is True)
