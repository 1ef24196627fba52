"""The gates of a run: those that come with the package, over which a gates.yaml lies, each with its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import create_model

from marauder.core.layers import Layer, add_values, merge_layers, read_layer, read_layer_or_mistakes
from marauder.core.metrics import Metric
from marauder.core.mistakes import Mistake, MistakesError, is_typed
from marauder.core.plain import Plain, PlainMapping
from marauder.core.plugins import names, resolve
from marauder.core.settings import Places, Settings, examine_layer, put_right
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Phase, Verdict

DEFAULT = Path(__file__).with_name("gates_default.yaml")
KIND = "gate"
NOT_NAMED = "not named in gates.yaml"
"""Why a gate of another package is off."""


@dataclass(frozen=True, eq=False)
class GatePlan:
    """``settings``: of each gate, in the order in which they are asked. ``given``: what of it the user gave, with the
    places. ``known``: the gates that the kind of run can answer (``None``: all); of others nothing is asked or shown.
    """

    settings: dict[str, GateSettings]
    given: Layer
    known: tuple[str, ...] | None = None

    def restricted(self, known: Sequence[str]) -> GatePlan:
        """The plan for a kind of run that has evidence for the gates ``known`` only.

        Others fall away. Raises ``UserError`` for one that the user asks for by name.
        """
        mistakes = self.unanswerable(known)
        if mistakes:
            raise MistakesError(mistakes)
        kept = {name: given for name, given in self.settings.items() if name in known}
        return replace(self, settings=kept, known=tuple(known))

    def unanswerable(self, known: Sequence[str]) -> list[Mistake]:
        """A mistake for each gate that the user asks for by name and that is not among ``known``."""
        mistakes = []
        for name in self.names():
            if name not in known and name in self.given.content:
                place = Places(self.given).at(name)
                off = f"{self.given.name_of((name,), place)}{'=' if is_typed(place) else ': '}off"
                words = f"this kind of run has no evidence for it; leave it out, or say `{off}`"
                mistakes.append(Mistake(f"gate {name}: {words} (there are: {', '.join(known)})", place))
        return mistakes

    def for_task(self, headline: str, comparable: Sequence[str], floor: Metric | None = None) -> GatePlan:
        """The plan with what its settings leave to the kind of run, see the methods ``for_task`` and ``for_floor`` of
        ``GateSettings``.

        Raises ``UserError`` with the place of each setting that does not fit.
        """
        settings, mistakes = self._fitted(headline, comparable, floor)
        if mistakes:
            raise MistakesError(mistakes)
        return replace(self, settings=settings)

    def unfit(
        self, known: Sequence[str], headline: str, comparable: Sequence[str], floor: Metric | None = None
    ) -> list[Mistake]:
        """A mistake for each setting of the gates ``known`` that does not fit the kind of run."""
        kept = {name: given for name, given in self.settings.items() if name in known}
        return replace(self, settings=kept)._fitted(headline, comparable, floor)[1]

    def _fitted(
        self, headline: str, comparable: Sequence[str], floor: Metric | None
    ) -> tuple[dict[str, GateSettings], list[Mistake]]:
        settings, mistakes = dict(self.settings), []
        for name, one in self.settings.items():
            try:
                fitted = one.for_task(headline, comparable)
                settings[name] = fitted if floor is None else fitted.for_floor(floor)
            except ValueError as error:
                setting = str(error).partition(": ")[0]
                place = Places(self.given).at(f"{name}.{setting}")
                mistakes.append(Mistake(f"{self.given.name_of((name,), place)}.{error}", place))
        return settings, mistakes

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
        """The verdicts as the report shows them: in the order of the plan, those not named last."""
        order = list(dict.fromkeys((*self.settings, *names(KIND))))
        return sorted(verdicts, key=lambda verdict: order.index(verdict.gate))

    def unjudged(self, limited: Sequence[str] = (), protected: Sequence[str] = ()) -> list[str]:
        """What protects nothing though it is written down, in words. ``limited``: slices with limits; ``protected``:
        slices that are protected."""
        words, limits = [], self.settings.get("limits")
        if limits is not None and limits.severity == "off" and getattr(limits, "metrics", None):
            words.append(f"the limits on {', '.join(limits.metrics)} are not checked: the gate limits is off")  # type: ignore[attr-defined]
        asked = self.names()
        if limited and "slices" not in asked:
            words.append(f"the limits of the slices {', '.join(limited)} are not checked: the gate slices is off")
        alone = [
            name for name in protected if "regression" not in asked and (name not in limited or "slices" not in asked)
        ]
        if alone:
            words.append(f"the slices {', '.join(alone)} are not protected: the gate regression is off")
        return words

    def to_json(self) -> Plain:
        """The settings of the gates as plain values: what is written into the run."""
        return {name: given.model_dump(mode="json") for name, given in self.settings.items()}

    def _off(self, name: str) -> Verdict:
        kind = _gate_class(name)
        return kind.off() if name in self.settings else kind.off(NOT_NAMED)


def gates_in(settings: PlainMapping, places: Places) -> Layer:
    """What a run's settings say of single gates (``settings``: those below ``gate``). ``places``: those of the run."""
    below = places.layer_of("gate")
    prefix = ".".join((*places.prefix, "gate", ""))
    # Without a place, too: mistakes in a gates.yaml always have one.
    prefixes = dict.fromkeys(("", *below.places.values()), prefix)
    return replace(below, content=dict(settings), prefixes=prefixes)


def load_gates(path: Path | str | None = None, overrides: Sequence[str] = (), given: Layer | None = None) -> GatePlan:
    """The gates of a run: those that come with the package, over them a gates.yaml, ``given`` and the overrides.

    ``path``: ``None`` for no gates.yaml. ``overrides``: dotted, ``regression.alpha=0.01``; in all of them ``off``
    switches a gate off: ``latency=off``. Raises ``UserError`` that lists every mistake with its place, and the nearest
    name.
    """
    plan, mistakes = examine_gates(path, overrides, given)
    if mistakes:
        raise MistakesError(mistakes, str(path) if path is not None else "")
    return plan


def examine_gates(
    path: Path | str | None = None, overrides: Sequence[str] = (), given: Layer | None = None
) -> tuple[GatePlan, list[Mistake]]:
    """As ``load_gates``, with the mistakes instead of an error; the plan is then good for finding more of them."""
    # Without places: what the package says is nobody's mistake.
    default = Layer(read_layer(DEFAULT).content, {})
    own = merge_layers([_whole(read_layer_or_mistakes(path)), _whole(given or Layer({}, {}))])
    # Twice: overrides of single settings need a mapping to go into, and may themselves say `latency=off`.
    own = _whole(add_values(own, overrides, None, {}))
    fields: Plain = {
        # Only gates that are named are imported.
        name: (_gate_class(name).settings_model | None if name in {**default.content, **own.content} else Any, None)
        for name in names(KIND)
    }
    model = create_model("Gates", __base__=Settings, **fields)
    # Before the defaults lie below it: what is given under a wrong name takes precedence over them.
    own = _whole(put_right(model, own))
    layer = merge_layers([_whole(default), own])
    found, mistakes = examine_layer(model, layer)
    settings = {name: getattr(found, name, None) for name in layer.content}
    return GatePlan({name: one for name, one in settings.items() if isinstance(one, GateSettings)}, own), mistakes


def over_shipped(given: Layer) -> Layer:
    """The gates that ship with Marauder and, over them, what is ``given`` of single ones."""
    shipped = _whole(read_layer(DEFAULT))
    places = dict.fromkeys(shipped.places, "the gates that ship with Marauder")
    return merge_layers([replace(shipped, places=places), _whole(given)])


def _whole(layer: Layer) -> Layer:
    """A gate that is named alone is on with its settings; ``off`` (which YAML reads as false) is short for severity."""
    content, places = Plain(), dict(layer.places)
    for name, value in layer.content.items():
        if value is None or value is True or value == "on":
            content[name] = {}
        elif value is False or value == "off":
            content[name] = {"severity": "off"}
            if (name,) in places:
                places[name, "severity"] = places[name,]
        else:
            content[name] = value
    return replace(layer, content=content, places=places)


def _gate_class(name: str) -> type[Gate[Any, Any]]:
    return cast("type[Gate[Any, Any]]", resolve(KIND, name))
