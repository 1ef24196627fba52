"""The gates of a run: read from gates.yaml, asked in its order, each with its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pydantic import create_model

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.plugins import names, resolve
from marauder.core.settings import Layer, Settings, add_values, read_layer, validate_layer
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Phase, Verdict

DEFAULT = Path(__file__).with_name("gates_default.yaml")
KIND = "gate"
NOT_NAMED = "not named in gates.yaml"


@dataclass(frozen=True, eq=False)
class GatePlan:
    """``settings``: of each gate that the file names, in its order. ``source``: the file. ``known``: the gates that the
    kind of run can answer (``None``: all); of others nothing is asked or shown. ``places``: where each setting is
    written, by gate and name."""

    settings: dict[str, GateSettings]
    source: Path
    known: tuple[str, ...] | None = None
    places: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def restricted(self, known: Sequence[str], named: Sequence[str] = ()) -> GatePlan:
        """The plan for a kind of run that has evidence for the gates ``known`` only.

        Gates of the file that comes with Marauder fall away where they are not known. Raises ``UserError`` for one that
        a file of the user's own, or ``named`` (the overrides), asks for.
        """
        # The packaged file names gates that nobody asked for; what a user's own file or an override names is meant.
        meant = (
            set(self.settings) if self.source != DEFAULT else {word.partition("=")[0].split(".")[0] for word in named}
        )
        asked = [name for name in self.names() if name not in known and name in meant]
        if asked:
            place = f"{self.source}: " if self.source != DEFAULT else ""
            raise UserError(
                f"{place}gate {', '.join(asked)}: this kind of run has no evidence for it; leave it out, or say "
                f"`{asked[0]}: off` (there are: {', '.join(known)})"
            )
        kept = {name: given for name, given in self.settings.items() if name in known}
        return replace(self, settings=kept, known=tuple(known))

    def for_task(self, headline: str, comparable: Sequence[str]) -> GatePlan:
        """The plan with what its settings leave to the kind of run, see ``GateSettings.for_task``.

        Raises ``UserError`` with the place of a setting that does not fit.
        """
        settings = {}
        for name, given in self.settings.items():
            try:
                settings[name] = given.for_task(headline, comparable)
            except ValueError as error:
                setting, _, why = str(error).partition(": ")
                place = self.places.get((name, setting), str(self.source))
                raise UserError(f"{place}: {name}.{setting}: {why}") from None
        return replace(self, settings=settings)

    def names(self, phase: Phase | None = None) -> list[str]:
        """The gates that are asked (in a phase), in order."""
        asked = [name for name, given in self.settings.items() if given.severity != "off"]
        return [name for name in asked if phase is None or _gate_class(name).phase == phase]

    def gate(self, name: str) -> Gate[Any, Any] | None:
        """The gate with its settings; ``None`` if it is off. Raises ``UserError`` for a name that is no gate's."""
        kind = _gate_class(name)
        given = self.settings.get(name)
        return kind(given) if given is not None and given.severity != "off" else None

    def judge(self, name: str, evidence: Any) -> Verdict:
        """The gate's verdict on the evidence; ``off`` if it is off."""
        gate = self.gate(name)
        return gate.judge(evidence) if gate is not None else self._off(name)

    def unanswered(self, name: str, error: Exception) -> Verdict:
        """The verdict where the evidence could not be collected: as bad as a broken limit, in the error's words."""
        gate = self.gate(name)
        if gate is None:
            return self._off(name)
        return gate.verdict(gate.broken(), f"check failed to run: {error}")

    def off_verdicts(self) -> list[Verdict]:
        """What the report shows for each gate that is not asked: those switched off, then those not named."""
        named = [name for name, given in self.settings.items() if given.severity == "off"]
        others = [name for name in names(KIND) if name not in self.settings]
        return [self._off(name) for name in (*named, *others) if self.known is None or name in self.known]

    def in_order(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts as the report shows them: in the order of gates.yaml, those not named last."""
        order = list(dict.fromkeys((*self.settings, *names(KIND))))
        return sorted(verdicts, key=lambda verdict: order.index(verdict.gate))

    def to_json(self) -> Plain:
        """The settings of the gates that the file names, as plain values: what is written into the run."""
        return {name: given.model_dump(mode="json") for name, given in self.settings.items()}

    def _off(self, name: str) -> Verdict:
        kind = _gate_class(name)
        return kind.off() if name in self.settings else kind.off(NOT_NAMED)


def load_gates(path: Path | str | None = None, overrides: Sequence[str] = ()) -> GatePlan:
    """Read a gates.yaml: gate names with their settings, in the order in which they are asked and reported.

    ``path``: ``None`` for the gates that come with the package. ``overrides``: dotted, ``regression.alpha=0.01``;
    ``latency=off`` switches a gate off. A gate without settings has their defaults; one that is not named is off.
    Raises ``UserError`` that lists every mistake with its line, and the nearest name.
    """
    source = Path(path) if path is not None else DEFAULT
    # Twice: overrides of single settings need a mapping to go into, and may themselves say `latency=off`.
    layer = _whole(add_values(_whole(read_layer(source)), overrides, None, {}))
    fields: Plain = {
        # Only gates that are named are imported.
        name: (_gate_class(name).settings_model | None if name in layer.content else Any, None)
        for name in names(KIND)
    }
    model = create_model("Gates", __base__=Settings, **fields)
    plan = validate_layer(model, layer)
    settings = {name: cast(GateSettings, getattr(plan, name)) for name in layer.content}
    return GatePlan(settings, source, places=layer.places)


def _whole(layer: Layer) -> Layer:
    """A gate that is named alone has default settings; ``off`` (which YAML reads as false) is short for severity."""
    content: Plain = {}
    for name, value in layer.content.items():
        if value is None:
            content[name] = {}
        elif value is False or value == "off":
            content[name] = {"severity": "off"}
        else:
            content[name] = value
    return Layer(content, layer.places, layer.name)


def _gate_class(name: str) -> type[Gate[Any, Any]]:
    return cast("type[Gate[Any, Any]]", resolve(KIND, name))
