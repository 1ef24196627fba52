"""Gate: the data keeps its contract. Classes, labels, attributes, sizes and splits are what this training relies on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pydantic import ConfigDict, Field, model_validator

from marauder.core.settings import Settings
from marauder.data.records import Attribute
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

SHOWN = 3
KEPT = 20
"""Examples of a broken clause that the evidence holds."""


class AttributeRule(Settings):
    """What an attribute of the pictures must be. Without ``values`` and bounds it need only be there."""

    model_config = ConfigDict(allow_inf_nan=False)

    values: tuple[Attribute, ...] | None = Field(None, description="the values it may have")
    minimum: float | None = Field(None, description="least value of a numeric attribute")
    maximum: float | None = Field(None, description="largest value of a numeric attribute")
    least_share: float = Field(1.0, ge=0, le=1, description="share of the pictures that must have the attribute")

    @model_validator(mode="after")
    def _check(self) -> AttributeRule:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


class ContractSettings(GateSettings):
    """The contract of a data set. What is not named is not asked for."""

    splits: tuple[str, ...] = Field(("train", "val"), description="splits that must be there")
    allowed_classes: tuple[str, ...] | None = Field(None, description="classes that boxes may have; null: any")
    required_classes: tuple[str, ...] = Field((), description="classes that every named split must hold")
    least_boxes: int = Field(1, ge=1, description="boxes of each required class in each named split")
    least_boxes_of: dict[str, int] = Field({}, description="the same for single classes, in place of least_boxes")
    attributes: dict[str, AttributeRule] = Field({}, description="attributes that pictures must have, and their values")
    most_set_aside: float = Field(
        0.02, ge=0, le=1, description="largest share of pictures or rows that may be unreadable or wrongly labelled"
    )
    least_empty: float = Field(0.0, ge=0, le=1, description="least share of labelled pictures without a box")
    most_empty: float = Field(0.95, ge=0, le=1, description="largest share of labelled pictures without a box")
    least_side: int = Field(32, ge=1, description="least width and height of a picture in pixels")
    most_boxes: int = Field(1000, ge=1, description="boxes of one picture")
    pictures_exist: bool = Field(True, description="every picture's file is there and has content")
    groups_apart: bool = Field(True, description="no group (clip) is in two splits")
    duplicates_apart: bool = Field(
        False, description="no copy or near copy of a picture is in another split; decodes every picture"
    )

    @model_validator(mode="after")
    def _check(self) -> ContractSettings:
        if self.least_empty > self.most_empty:
            raise ValueError(f"least_empty {self.least_empty:g} is above most_empty {self.most_empty:g}")
        if self.allowed_classes is not None:
            wanted = {*self.required_classes, *self.least_boxes_of} - set(self.allowed_classes)
            if wanted:
                raise ValueError(f"required but not among allowed_classes: {', '.join(sorted(wanted))}")
        return self


@dataclass(frozen=True)
class Clause:
    """One clause looked at: ``broken`` things of it, ``words`` for what they are, and ``examples`` with their place.

    ``value`` and ``limit`` are what was found and what is allowed.
    """

    name: str
    words: str
    broken: int
    value: float | str
    limit: float | str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContractEvidence:
    """Every clause that the settings ask for, kept or broken."""

    pictures: int
    boxes: int
    clauses: tuple[Clause, ...]

    @property
    def broken(self) -> list[Clause]:
        """The broken clauses in the order of the settings."""
        return [clause for clause in self.clauses if clause.broken]


class ContractGate(Gate[ContractSettings, ContractEvidence]):
    """Stops a run on data that is not what it is taken for."""

    name = "contract"
    phase = "before"
    title = "The data meet the contract"
    settings_model = ContractSettings
    evidence_model = ContractEvidence

    def judge(self, evidence: ContractEvidence) -> Verdict:
        """Lists each broken clause with examples; one is enough to fail."""
        facts = {
            "pictures": evidence.pictures,
            "boxes": evidence.boxes,
            "clauses": [{**asdict(clause), "examples": list(clause.examples)} for clause in evidence.clauses],
        }
        if not evidence.clauses:
            return self.verdict("off", "the contract has no clauses", **facts)
        broken = evidence.broken
        if not broken:
            why = f"{evidence.pictures} pictures with {evidence.boxes} boxes satisfy the data contract"
            return self.verdict("pass", why, 0, 0, **facts)
        parts = []
        for clause in broken:
            shown = "; ".join(clause.examples[:SHOWN])
            more = f" and {clause.broken - SHOWN} more" if clause.broken > SHOWN else ""
            parts.append(f"{clause.name}: {clause.words}{f' ({shown}{more})' if shown else ''}")
        why = (
            f"{len(broken)} of {len(evidence.clauses)} clauses of the data contract are broken. {'. '.join(parts)}. "
            "Fix the data (`marauder data check` shows more), or change the contract in gates.yaml"
        )
        return self.verdict(self.broken(), why, len(broken), 0, **facts)
