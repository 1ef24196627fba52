"""An embedded MLflow store that was moved or copied: its database is made to name the places where its files lie now.

MLflow writes the absolute place of every experiment's, run's and version's files into its database, and would continue
writing and reading where the store used to be.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

RUN_TAG = "marauder.run_id"
"""The tag of a run by which it is found again."""
OWN_TAG, ARTIFACTS = "marauder.artifacts", "artifacts"
"""The tag of an experiment whose files lie in the folder ``artifacts`` beside the database."""
LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
"""Tables and columns of MLflow's database that hold places of files (``mlflow.store.tracking.dbmodels.models``)."""
WAITING_SECONDS = 60.0

_FORMER = f"""
SELECT DISTINCT artifact_location FROM experiments
WHERE artifact_location LIKE 'file:%/{ARTIFACTS}' AND artifact_location != :here AND (
    experiment_id IN (SELECT experiment_id FROM experiment_tags WHERE key = '{OWN_TAG}')
    OR experiment_id IN (
        SELECT experiment_id FROM runs JOIN tags USING (run_uuid) WHERE key = '{RUN_TAG}' AND lies_here(run_uuid)))
"""
# An experiment made before there was the tag is ours where files of one of its runs lie beside the database. Others
# belong to somebody who chose their place.


def replace_places(database: Path, here: str) -> None:
    """Replace the store's former place by ``here``, the URI of its files, wherever ``database`` names it.

    One transaction, and none where the store has not moved. Raises ``sqlite3.Error``.
    """
    if not database.is_file():
        return
    files = database.with_name(ARTIFACTS)
    # The connection's own block ends the transaction but does not close it.
    with closing(sqlite3.connect(database, timeout=WAITING_SECONDS)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"experiments", "experiment_tags", "runs", "tags"} <= tables:
            return  # not made yet, or too old for MLflow, which says so itself
        connection.create_function("lies_here", 1, lambda run: (files / str(run)).is_dir())
        for (former,) in connection.execute(_FORMER, {"here": here}).fetchall():
            for table, column in LOCATIONS:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = :here || substr({column}, length(:former) + 1) "
                        # substr and not LIKE, for which % and _ in a path are wildcards.
                        f"WHERE {column} = :former OR substr({column}, 1, length(:former) + 1) = :former || '/'",
                        {"here": here, "former": former},
                    )
