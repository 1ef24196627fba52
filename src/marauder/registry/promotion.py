"""Which version is in production: deciding is pure; doing leaves exactly one production version at every moment.

The order of a move is: the intention into the project's record of promotions, ``previous`` := the old production,
``production`` := the version, tags of the version, the event, and that it is done. A process killed in between has
either moved the one pointer or not; the next promotion or rollback finishes what is left to be told.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from marauder.core.errors import UserError
from marauder.core.plain import Plain, PlainMapping
from marauder.registry.base import OVERRIDE, PREVIOUS, PRODUCTION, WITHHELD, ModelVersion, Registry

PROMOTED, ROLLED_BACK = "io.marauder.model.promoted", "io.marauder.model.rolled_back"
BEGUN, DONE, ABANDONED = "begun", "done", "abandoned"
LONGEST_WORDS = 1000
"""Characters of who and why that are kept: every registry can hold them."""
ACCEPTED = ("pass", "warn")
"""Verdicts with which a version needs no override. ``off`` is none of them: nothing was asked."""

Emit = Callable[[str, PlainMapping], object]
"""Tells the world: type and data of a CloudEvent, as ``messaging.outbox.Outbox.emit`` takes them."""


@dataclass(frozen=True)
class Override:
    """Someone promotes what the gates refuse: who takes it upon them, and why."""

    who: str
    why: str


@dataclass(frozen=True)
class Move:
    """An alias and the version that it points at from now on."""

    alias: str
    version: str


@dataclass(frozen=True)
class Decision:
    """Moves in their order (none: it is in production already), or the ``refusal`` in plain words."""

    moves: tuple[Move, ...] = ()
    refusal: str | None = None


def decide(
    version: str, production: str | None, verdict: str, override: Override | None, withheld: str = ""
) -> Decision:
    """Whether ``version`` may go into production, where ``production`` is now, and what has to move for it.

    ``withheld``: why it is not offered though its ``verdict`` is one of ``ACCEPTED``; empty: it is.
    """
    if override is not None and not (override.who.strip() and override.why.strip()):
        return Decision(refusal="an override needs both who promotes and why; give --who and --why")
    if (verdict not in ACCEPTED or withheld) and override is None:
        refused = "its gates were not run" if verdict == "off" else f"its gates say {verdict!r}"
        said = f"it is withheld: {withheld}" if verdict in ACCEPTED else refused
        return Decision(
            refusal=f"version {version} is not promoted: {said}. Look at its report; to promote it anyway, give "
            f"{OVERRIDE}"
        )
    return Decision(_moves(version, production))


def decide_rollback(production: str | None, previous: str | None) -> Decision:
    """Whether the version before can come back, and what has to move for it."""
    if production is None:
        return Decision(refusal="nothing is in production, so there is nothing to roll back")
    if previous is None or previous == production:
        return Decision(
            refusal=f"no version is recorded before version {production}; promote the one you want by its number"
        )
    return Decision(_moves(previous, production))


def promote(
    registry: Registry,
    project: str,
    version: str,
    who: str,
    why: str = "",
    override: Override | None = None,
    emit: Emit | None = None,
) -> ModelVersion:
    """Put a version (number, alias or run id) into production.

    Raises ``UserError`` with the reason of a refusal, and where nobody could fetch the version's weights.
    """
    settle(registry, project, emit)
    wanted = registry.require(project, version)
    production = _number(registry.find(project, PRODUCTION))
    decision = decide(wanted.version, production, wanted.verdict, override, wanted.tags.get(WITHHELD, ""))
    if override is not None:
        who, why = override.who, override.why
    entry = _entry("promote", wanted, production, who, why) | {"override": override is not None}
    return _carry_out(registry, decision, entry, emit)


def rollback(registry: Registry, project: str, who: str, why: str = "", emit: Emit | None = None) -> ModelVersion:
    """Put the previous version back into production; what was there becomes the previous one."""
    settle(registry, project, emit)
    if not registry.versions(project):
        registry.require(project, PRODUCTION)  # says which projects there are
    production, previous = (registry.find(project, alias) for alias in (PRODUCTION, PREVIOUS))
    decision = decide_rollback(_number(production), _number(previous))
    entry = _entry("rollback", previous, _number(production), who, why) if previous is not None else {}
    return _carry_out(registry, decision, entry, emit)


def settle(registry: Registry, project: str, emit: Emit | None = None) -> list[Plain]:
    """Finish what killed processes left: a move that happened is tagged and told, one that did not is written off.

    Returns the entries of the record that were open.
    """
    entries = registry.promotions(project)
    closed = {entry["id"] for entry in entries if entry["state"] != BEGUN}
    opened = [entry for entry in entries if entry["id"] not in closed]
    if opened:
        production = _number(registry.find(project, PRODUCTION))
        for entry in opened:
            # An earlier one to the same version was overtaken: what is in production now is the last one's doing.
            if entry is opened[-1] and entry["version"] == production:
                _tell(registry, entry, emit)
            else:
                _note(registry, entry, ABANDONED)
    return opened


def _number(version: ModelVersion | None) -> str | None:
    return None if version is None else version.version


def _moves(version: str, production: str | None) -> tuple[Move, ...]:
    """``previous`` first: killed after it, the old version is still the one in production."""
    if version == production:
        return ()
    before = (Move(PREVIOUS, production),) if production is not None else ()
    return (*before, Move(PRODUCTION, version))


def _entry(
    action: Literal["promote", "rollback"], wanted: ModelVersion, production: str | None, who: str, why: str
) -> Plain:
    return {
        "id": uuid.uuid4().hex,
        "action": action,
        "project": wanted.project,
        "version": wanted.version,
        "run_id": wanted.run_id,
        "weights_sha256": wanted.weights_sha256,
        "before": production,
        "verdict": wanted.verdict,
        "override": False,
        "who": who.strip()[:LONGEST_WORDS],
        "why": why.strip()[:LONGEST_WORDS],
    }


def _carry_out(registry: Registry, decision: Decision, entry: Plain, emit: Emit | None) -> ModelVersion:
    if decision.refusal is not None:
        raise UserError(decision.refusal)
    project, version = entry["project"], entry["version"]
    if decision.moves:
        # Before anything is written down: weights that nobody can fetch must not go into production.
        registry.require_files(registry.require(project, version))
        _note(registry, entry, BEGUN)
        registry.move_aliases(project, {move.alias: move.version for move in decision.moves})
        _tell(registry, entry, emit)
    return registry.require(project, version)


def _tell(registry: Registry, entry: PlainMapping, emit: Emit | None) -> None:
    """What follows a move; done twice, it says the same (the event carries the entry's id)."""
    promoted = entry["action"] == "promote"
    about = {"by": entry["who"], "why": entry["why"], "override": "yes" if entry["override"] else ""}
    marked = entry["version"] if promoted else entry["before"]
    prefix = "promoted" if promoted else "rolled_back"
    registry.add_tags(entry["project"], marked, {f"{prefix}_{name}": value for name, value in about.items() if value})
    if emit is not None:
        emit(PROMOTED if promoted else ROLLED_BACK, entry)
    # Last: killed before this, settle tags and tells once more.
    _note(registry, entry, DONE)


def _note(registry: Registry, entry: PlainMapping, state: str) -> None:
    registry.append_promotion(entry["project"], {**entry, "state": state, "time": round(time.time(), 3)})
