"""What a written data set knows of itself beside the YOLO files: ``records.jsonl`` (a row a picture, see data.writers)
and ``dataset.json`` (how many there are, and whether it is complete)."""

from __future__ import annotations

import json
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.core.plain import Plain

RECORDS_FILE = "records.jsonl"
STATE_FILE = "dataset.json"
_REMEDY = "run the command that wrote this data set again, which puts it right, or restore the file"


def stored_rows(folder: Path) -> list[Plain]:
    """The rows of the data set in ``folder``, each with the name of its picture as ``file``; none where it keeps none.

    Raises ``UserError`` with the line for a file that is cut or damaged, or that lacks rows which ``dataset.json``
    counts: without them, groups would fall apart and unlabelled pictures count as empty ones.
    """
    file = folder / RECORDS_FILE
    rows = []
    # Bytes, since str.splitlines also breaks at characters such as U+2028, which JSON may hold as they are.
    lines = file.read_bytes().splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{file}:{number}: is cut or damaged ({error}); {_REMEDY}") from None
            if not isinstance(row, dict) or not isinstance(row.get("file"), str):
                raise UserError(f"{file}:{number}: is not a row of a picture, which has a 'file'; {_REMEDY}")
            rows.append(row)
    state = read_json(folder / STATE_FILE) if (folder / STATE_FILE).is_file() else {}
    expected = state.get("pictures") if isinstance(state, dict) and state.get("complete") else None
    if expected is not None and expected != len(rows):
        where = f"{file}:{len(lines)}" if lines else f"{file}"
        raise UserError(f"{where}: ends after {len(rows)} of the {expected} rows that {STATE_FILE} counts; {_REMEDY}")
    return rows
