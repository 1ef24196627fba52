"""Queries: what they read, in SQL's words and in Python's, what is refused and where, and what each of them takes."""

from __future__ import annotations

import ast
import math
import operator
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.errors import UserError
from marauder.data.slices.query import parse_query
from marauder.data.slices.query_tree import QueryError

pl = pytest.importorskip("polars")

from marauder.data.slices.query_polars import evaluate_query, frame_of, to_polars  # noqa: E402

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
    """Rows that the query takes, the same of values and of a manifest's frame."""
    count = len(next(iter(columns.values())))
    rows = np.flatnonzero(evaluate_query(parse_query(text), frame_of(columns, count))).tolist()
    frame = pl.LazyFrame(columns, strict=False)
    wanted = frame.with_row_index("row!").filter(to_polars(parse_query(text), frame.collect_schema())).collect()
    assert rows == wanted["row!"].to_list(), text
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
        ("5 <= depth < 30 <= 40", [0, 1]),
        ("5 < count * 2 in [8, 10]", [3, 4]),
        ("depth > 2 ** 2 ** 2", [1, 3]),
        ("class in {'crab', 'eel'}", [1, 4]),
    ],
)
def test_what_a_query_takes(text: str, rows: list[int]) -> None:
    assert answer(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("depth = 30 OR weather <> 'fog'", [1, 3, 5]),
        ("weather IN ('fog', 'rain') AND NOT night", [1, 4]),
        ("weather IN ('fog')", [0, 4]),
        ("weather NOT IN ('fog', 'rain')", [3, 5]),
        ("depth IS NULL Or depth Is Not Null", [0, 1, 2, 3, 4, 5]),
        ("depth BETWEEN 5 AND 20 AND night", [0]),
        ("depth NOT BETWEEN 5 AND 20", [3, 5]),
        ("NOT depth BETWEEN count * 4 AND 10 + 10", [3]),
        ("key LIKE '%MOV%'", [0, 2]),
        ("key LIKE '_'", [1, 3, 4, 5]),
        ("key LIKE 'IMG\\_1%' AND key LIKE '%-3'", [0]),
        ("key LIKE '%.%' OR key LIKE 'img%'", []),  # no expression, and letters count
        ("weather NOT LIKE '%o%'", [1, 3, 5]),
        ("depth LIKE '2%'", []),
        ("`time-of-day` = 'dusk' AND class = \"fish\"", [0, 2]),
        ("night = TRUE", [0, 3, 5]),
        ("10 / depth > 0 OR FALSE", [0, 1, 3]),
        ("weather <> 'it''s' AND weather <> 'it\\'s'", [0, 1, 3, 4, 5]),
        ("count<>2 AND count>=-1.5e0 AND .5<count", [0, 3, 4]),
    ],
)
def test_what_a_query_in_sql_takes(text: str, rows: list[int]) -> None:
    assert answer(text) == rows


@pytest.mark.parametrize("text", ["x = u'it\\'s'", "x = r'it''s'", 'x = R"it\'s"', "x = 'it''s'  # a note, 'of' us"])
def test_prefixes_of_texts_and_a_note_at_the_end_are_read(text: str) -> None:
    assert answer(text, {"x": ["its", "it's"]}) == [1]
    assert answer("night > 1\n  and x = r'a\\b' # deep", {"x": ["a\\b", "a\b"], "night": [2, 2]}) == [0]


def test_every_character_is_itself_in_patterns() -> None:
    characters = [chr(code) for code in range(128)] + ["é", "\x85", "\u2028", "\U0001f41f"]
    columns = {"t": [f"<{character}>" for character in characters]}
    for index, character in enumerate(characters):
        escaped = repr(f"<\\{character}>")
        assert answer(f"t LIKE {escaped}", columns) == [index]
        assert answer(f"{character!r} in t", {"t": [f"a{character}b", "abc"[:0]]}) == [0]
    assert answer("t LIKE '<_>'", columns) == list(range(len(characters)))


def test_names_of_operators_are_names_where_an_operand_stands() -> None:
    columns = {"like": ["a", "b"], "between": [1, 2], "attribute": [3, 4]}
    assert answer("like LIKE 'a'", columns) == [0]
    assert answer("between BETWEEN 2 AND 3 and attribute = 4", columns) == [1]


def test_values_of_several_kinds_under_one_name() -> None:
    mixed = {"x": [1, "1", True, None, math.nan, 2.5], "y": [1, "b", False, None, 3, "2.5"]}

    def rows(text: str) -> list[int]:
        return np.flatnonzero(evaluate_query(parse_query(text), frame_of(mixed, 6))).tolist()

    assert rows("x = 1") == [0] and rows("x = '1'") == [1] and rows("x") == [2]
    assert rows("x IS NULL") == [3, 4]
    assert rows("x = y") == [0] and rows("x <> y") == [1, 2]
    assert rows("x < y") == [1] and rows("NOT x < y") == [0]  # true and false have no order
    assert rows("x + 1 > 1") == [0, 5]


def test_a_name_that_no_row_has_is_missing_everywhere() -> None:
    query = parse_query("not turbidity > 3 or turbidity is None")
    frame = frame_of(COLUMNS, 6)
    assert evaluate_query(query, frame).all()
    assert not evaluate_query(parse_query("turbidity > 3 or not turbidity > 3"), frame).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the query is empty"),
        ("depth > ", r"cannot be read: something is missing at the end \(column 8 "),
        ("weather == = 'fog'", r"cannot be read: = does not belong here \(column 12"),
        ("a && b", r"write 'and' instead of '&&' \(column 3"),
        ("a | b", r"write 'or' instead of '\|' \(column 3"),
        ("night = NULL", r"nothing is equal to NULL; write IS NULL \(column 9"),
        ("night IN ('a', NULL)", r"nothing is equal to NULL; write IS NULL \(column 16"),
        ("depth BETWEEN 1 OR 2", r"cannot be read: OR does not belong here \(column 17"),
        ("depth LIKE 3", r"'like' wants .* a text behind it.*\(column 12"),
        ("'a' LIKE key", r"'like' wants a name before it"),
        ("depth BETWEEN 1 AND (count > 2)", r"a condition is used where a value is needed \(column 22"),
        ("depth NOT > 3", r"cannot be read: > does not belong here \(column 11"),
        ("(depth > 3", r"cannot be read: something is missing at the end \(column 11"),
        ("depth > 3)", r"cannot be read: \) does not belong here \(column 10"),
        ("weather IN ('a' 'b')", r"two texts in a row; write them as one, or a comma between them \(column 17"),
        ("weather = 'fo' \"g\"", r"two texts in a row.*\(column 16"),
        ("weather = '''fog'''", r"three quotation marks in a row: write 'fog', or .*\(column 11"),
        ('weather = """fog"""', r"three quotation marks in a row.*\(column 11"),
        ("weather = u'''fog'''", r"three quotation marks in a row.*\(column 11"),
        ("depth > 3 # deep\nand weather = 'fog'", r"a comment after # must be at the end.*\(column 11"),
        ("# deep", "something is missing at the end"),
        ("weather = 'fog", r"cannot be read: ' does not belong here \(column 11"),
        ("depth > 1.2.3", r"cannot be read: 1\.2\.3 \(column 9"),
        ("now() > depth", r"a function call cannot be used in a query.*\(column 1 "),
        ("depth > (SELECT max(depth) FROM x)", r"cannot be read: max does not belong here \(column 17"),
        ("CASE WHEN depth > 3 THEN true END", "cannot be read: WHEN does not belong here"),
        ("depth > 3; DROP TABLE x", "cannot be read: ; does not belong here"),
        ("depth ~ '(a+)+$'", "cannot be read: ~ does not belong here"),
        ("depth + 1", "is a value, not a condition"),
        ("'fog'", "is a value, not a condition"),
        ("__import__('os').system('true')", "a function call cannot be used in a query"),
        ("depth.real > 1", r"a dotted name cannot be used in a query.*\(column 1 "),
        ("f'{depth}' == 'a'", "cannot be read: '{depth}' does not belong here"),
        ("a if b else c", "cannot be read"),
        ("lambda: 1", "cannot be read"),
        ("[x for x in y]", "cannot be read"),
        ("(a := 3) > 2", "cannot be read: : does not belong here"),
        ("weather in names", "'in' wants a list behind it"),
        ("weather in [depth]", "a list holds constants only"),
        ("depth is 3", "'is' works with NULL only"),
        ("depth < None", "None has no order"),
        ("night > True", "True has no order"),
        ("'a' + 1 == 2", "'a' is not a number to calculate with"),
        ("depth ** 2 > 4", "powers of attributes"),
        ("depth > 1 / 0", "these constants make no number"),
        ("depth > 10 ** 10 ** 10", "these constants make no number"),
        ("depth > 1e999", "only numbers below 1e300"),
        ("depth > 1j", "only numbers below 1e300"),
        ("depth > b'a'", "cannot be read: 'a' does not belong here"),
        ("(a > 1) == (b > 2)", "a condition is used where a value is needed"),
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
        to_polars(parse_query("night and wether == 'fog'"), FRAME.schema)
    with pytest.raises(QueryError, match="no attribute 'x'; there are: class, count"):
        parse_query("x > 1").require(COLUMNS)


def test_a_column_that_holds_no_single_values_is_refused() -> None:
    frame = pl.DataFrame({"boxes": [[1, 2]]})
    with pytest.raises(UserError, match="attribute 'boxes' holds List"):
        to_polars(parse_query("boxes > 3"), frame.schema)


def test_polars_gives_a_row_for_each_row_even_where_all_are_missing() -> None:
    frame = pl.DataFrame({"n": [None, None]}, schema={"n": pl.Float64})
    for text in ("0 == (1 / n)", "not 0 == (1 / n)", "1 < n", "(1 / n) == (2 / n)"):
        assert frame.with_columns(r=to_polars(parse_query(text), frame.schema))["r"].to_list() == [False, False]


NUMBERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([0.5, -1.5, math.nan, math.inf, 1e308, 1 / 3]))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "ab", "é", "b'\"", "\U0001f41f"]))
TRUTHS = st.one_of(st.none(), st.booleans())


def operands(depth: int) -> st.SearchStrategy[str]:
    leaf = st.one_of(
        st.sampled_from(["n", "m", "t", "u", "b", "e", "x"]),
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


SIGNS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
SUMS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else math.nan,
    ast.FloorDiv: lambda a, b: np.floor(a / b) if b else math.nan,
    ast.Mod: lambda a, b: a - b * np.floor(a / b) if b else math.nan,
}


def known(value: Any) -> Any:
    """Numbers as numpy's, which overflow quietly; what says nothing as None."""
    if value is None or isinstance(value, (bool, str)):
        return value
    return None if np.isnan(value) else np.float64(value)


def reference(node: ast.expr, row: dict[str, Any]) -> Any:
    """What Python's tree means on one row, by Kleene's logic word by word."""
    match node:
        case ast.BoolOp():
            decisive = isinstance(node.op, ast.Or)
            parts = [truth(part, row) for part in node.values]
            return decisive if decisive in parts else None if None in parts else not decisive
        case ast.UnaryOp(op=ast.Not()):
            part = truth(node.operand, row)
            return None if part is None else not part
        case ast.UnaryOp():
            return known(-reference(node.operand, row))
        case ast.BinOp():
            left, right = reference(node.left, row), reference(node.right, row)
            numbers = isinstance(left, np.float64) and isinstance(right, np.float64)
            return known(SUMS[type(node.op)](left, right)) if numbers else None
        case ast.Compare():
            sides = [node.left, *node.comparators]
            links = [link(*one, row) for one in zip(sides, node.ops, sides[1:])]
            return False if False in links else None if None in links else True
        case ast.Name():
            return known(row[node.id])
        case ast.Constant():
            return known(node.value)
    raise AssertionError(ast.dump(node))


def truth(node: ast.expr, row: dict[str, Any]) -> bool | None:
    """A condition; a value that is neither true nor false is unknown."""
    value = reference(node, row)
    return value if isinstance(value, bool) else None


def link(left: ast.expr, sign: ast.cmpop, right: ast.expr, row: dict[str, Any]) -> bool | None:
    """One comparison of a chain."""
    if isinstance(sign, (ast.NotIn, ast.IsNot)):
        inside = link(left, ast.In() if isinstance(sign, ast.NotIn) else ast.Is(), right, row)
        return None if inside is None else not inside
    if isinstance(sign, ast.In) and isinstance(right, ast.List):
        links = [link(left, ast.Eq(), item, row) for item in right.elts]
        return True if True in links else None if None in links else False
    one, other = reference(left, row), reference(right, row)
    if isinstance(sign, ast.In):
        return one in other if isinstance(other, str) else None
    nothing = [isinstance(side, ast.Constant) and side.value is None for side in (left, right)]
    if isinstance(sign, ast.Is) or any(nothing):
        missing = (other if nothing[0] else one) is None
        return not missing if isinstance(sign, ast.NotEq) else missing
    ordered = not isinstance(sign, (ast.Eq, ast.NotEq))
    if one is None or type(one) is not type(other) or (ordered and isinstance(one, bool)):
        return None
    return bool(SIGNS[type(sign)](one, other))


def in_sql(text: str) -> str:
    """The same query in SQL's words."""
    words = {"==": "=", "!=": "<>", "and": "AND", "or": "OR", "not": "NOT", "in": "IN", "True": "TRUE"}
    text = re.sub(r"\[([^]]+)\]", r"(\1)", re.sub(r"is (not )?None", lambda found: f"IS {found[1] or ''}NULL", text))
    return re.sub(r"==|!=|\b(?:and|or|not|in|True)\b", lambda found: words[found[0]], text)


MIXED = st.one_of(NUMBERS, TEXTS, TRUTHS)
TYPES = {"n": pl.Float64, "m": pl.Float64, "t": pl.String, "u": pl.Categorical, "b": pl.Boolean, "e": pl.Null}


@settings(max_examples=150, deadline=None)
@given(
    text=conditions(),
    rows=st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS, TEXTS, TRUTHS, st.none(), MIXED), min_size=1, max_size=8),
)
def test_a_query_takes_what_it_says_from_records_and_from_manifests(text: str, rows: list[tuple[Any, ...]]) -> None:
    columns = {name: [row[index] for row in rows] for index, name in enumerate("nmtubex")}
    try:
        query = parse_query(text)
    except QueryError:  # constants that have no order, or make no number
        return
    tree = ast.parse(text, mode="eval").body
    with np.errstate(all="ignore"):
        expected = [truth(tree, dict(zip("nmtubex", row))) is True for row in rows]
    assert evaluate_query(query, frame_of(columns, len(rows))).tolist() == expected
    assert evaluate_query(parse_query(in_sql(text)), frame_of(columns, len(rows))).tolist() == expected
    if "x" not in query.names:  # a manifest's column is of one kind
        frame = pl.DataFrame({name: columns[name] for name in TYPES}, schema=TYPES, strict=False)
        found = frame.with_columns(r=to_polars(query, frame.schema))["r"]
        assert found.null_count() == 0
        assert found.to_list() == expected


@st.composite
def plain_sql(draw: st.DrawFn, depth: int = 3) -> str:
    kind = draw(st.integers(0, 6 if depth else 3))
    number, text = st.sampled_from(["n", "m", "n + 1", "m * 2 - n"]), st.sampled_from(["'a'", "'ab'", "'é'", "''"])
    if kind == 0:
        return f"{draw(number)} {draw(st.sampled_from(['=', '<>', '<', '<=', '>', '>=']))} {draw(st.integers(0, 3))}"
    if kind == 1:
        negated = draw(st.sampled_from(["", "NOT "]))
        return f"t {negated}IN ({', '.join(draw(st.lists(text, min_size=1, max_size=3)))})"
    if kind == 2:
        pattern = draw(st.text(st.sampled_from("ab%_é."), max_size=4))
        return f"t {draw(st.sampled_from(['', 'NOT ']))}LIKE '{pattern}'"
    if kind == 3:
        return draw(st.sampled_from(["n IS NULL", "t IS NOT NULL", "n BETWEEN 0 AND 2", "n NOT BETWEEN m AND 2", "b"]))
    if kind == 4:
        return f"NOT ({draw(plain_sql(depth - 1))})"
    return draw(st.sampled_from([" AND ", " OR "])).join(draw(plain_sql(depth - 1)) for _ in range(2))


@settings(max_examples=80, deadline=None)
@given(
    text=plain_sql(),
    rows=st.lists(st.tuples(*[st.one_of(st.none(), st.integers(-1, 3))] * 2, TEXTS, TRUTHS), min_size=1, max_size=6),
)
def test_sql_means_what_it_means_elsewhere(text: str, rows: list[tuple[Any, ...]]) -> None:
    """Where kinds agree and nothing is divided, polars' own reading of SQL takes the same rows."""
    schema = {"n": pl.Float64, "m": pl.Float64, "t": pl.String, "b": pl.Boolean}
    frame = pl.DataFrame(rows, schema=schema, orient="row", strict=False)
    theirs = frame.with_columns(r=pl.sql_expr(text))["r"].fill_null(False).to_list()
    assert frame.with_columns(r=to_polars(parse_query(text), frame.schema))["r"].to_list() == theirs


@pytest.mark.parametrize(
    "text",
    [
        " or ".join(["b"] * 1900),
        " and ".join(["not b"] * 900),
        "n in (" + ", ".join(["1"] * 3000) + ")",
        " % ".join(["n"] * 90) + " > 0",
        " / ".join(["n"] * 90) + " > 0",
        " + ".join(["n"] * 90) + " > 0 and " + " // ".join(["n"] * 90) + " is null",
        "n" + " < n" * 500,
        "t like '" + "%_" * 2000 + "'",
        "t like '" + "a%" * 4900 + "b'",
        "(" * 90 + "b" + ")" * 90,
    ],
)
def test_no_query_takes_unbounded_time(text: str) -> None:
    frame = pl.DataFrame({"b": [True, None], "n": [1.5, None], "t": ["a" * 10_000, None]})
    started = time.process_time()
    evaluate_query(parse_query(text), frame)
    assert time.process_time() - started < 5


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"()[]{}.,;'\"`\\%_", " ", "a", "1", "in", "is", "not", "like", "=", "<", "-"]), max_size=12
    )
)
def test_whatever_is_written_is_a_query_or_a_mistake_with_a_place(parts: list[str]) -> None:
    try:
        query = parse_query("".join(parts))
    except QueryError as error:
        assert re.search(r"\(column \d+ of: ", str(error))
    else:
        evaluate_query(query, frame_of({"a": [1, "b", None]}, 3))
