"""What is wrong with the settings of any run beside their form: missing files, gates, metrics and options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from marauder.core.decides import named_files
from marauder.core.errors import UserError
from marauder.core.metrics import Metric
from marauder.core.mistakes import Mistake, Mistakes, mistakes_in, nearest
from marauder.core.plugins import make
from marauder.core.settings import Places, Settings, further_mistakes
from marauder.gates.plan import GatePlan, examine_gates, gates_in
from marauder.models.naming import SUFFIXES, explain_missing, not_weights
from marauder.models.released import released_names
from marauder.runs.settings import RunSettings
from marauder.runs.start_weights import has_folder, may_be_mirrored, present, why_unavailable
from marauder.storage.opening import open_store


def mistakes_of_any_run(
    settings: RunSettings,
    places: Places,
    *,
    answerable: Sequence[str],
    epoch_metrics: Sequence[str],
    headline: str,
    comparable: Sequence[str],
    floor: Metric | None = None,
) -> Iterator[Mistake]:
    """Every mistake that needs no knowledge of what is trained.

    ``settings`` may lack what could not be read (``None``). ``answerable``: the gates that this kind of run can be
    asked. ``epoch_metrics``: what is measured after every epoch (empty: not known). ``headline``, ``comparable``,
    ``floor``: see ``for_task`` and ``for_floor`` of ``GateSettings``.
    """
    for name, path in [("data", settings.data), *named_files(settings)]:
        if path is not None and places.missing(path) and not (name == "weights" and _is_kept(settings, path)):
            yield places.mistake(name, _why_missing(path, name == "weights"))
        # What a step makes again before it is read may be damaged until then.
        elif path is not None and not places.is_made(path) and (words := _not_weights(path)):
            yield places.mistake(name, words)
    if (unavailable := why_unavailable(settings)) is not None:
        yield places.mistake("weights", unavailable)
    metric = settings.training.best_metric if settings.training is not None else ""
    # A slice's is judged by those who know the slices.
    if metric and epoch_metrics and metric not in epoch_metrics and not metric.startswith("slice/"):
        words = f"no metric named {metric!r} is measured after an epoch{nearest(metric, epoch_metrics)}"
        yield places.mistake("training.best_metric", words)
    plan, mistakes = gates_of(settings, places)
    answerable = (*answerable, *settings.further_gates)
    yield from [*mistakes, *plan.unanswerable(answerable), *plan.unfit(answerable, headline, comparable, floor)]
    for name, gate in plan.settings.items():
        yield from further_mistakes(gate, replace(places, layer=plan.given, prefix=(name,)))
    yield from _wrong_options(settings, places)
    yield from settings.mistakes(places)
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        if isinstance(section, Settings):
            yield from further_mistakes(section, places.below(name))


def _is_kept(settings: RunSettings, path: Path) -> bool:
    """Whether the run, begun before, kept a copy of the weights that it started from, or a mirror may have it."""
    return (has_folder(settings) and present(settings, path).is_file()) or may_be_mirrored(settings)


def _not_weights(path: Path) -> str | None:
    return not_weights(path) if path.suffix in SUFFIXES and path.is_file() else None


def _why_missing(path: Path, may_be_released: bool) -> str:
    if path.suffix not in SUFFIXES:
        return f"{path}: no such file or folder; check the path"
    words = explain_missing(path) or f"{path}: no such file; check the path"
    # A name without a folder is perhaps meant as that of released weights.
    if may_be_released and len(path.parts) == 1:
        words += f", or name released weights{nearest(path.name, released_names())}"
    return words


def gates_of(settings: RunSettings, places: Places) -> tuple[GatePlan, list[Mistake]]:
    """The gates that the settings of a run ask for, and the mistakes in what they say of them."""
    given = gates_in(settings.gate or {}, places)
    # A file that is not there is a mistake of its own.
    return examine_gates(None if places.missing(settings.gates) else settings.gates, given=given)


def _wrong_options(settings: RunSettings, places: Places) -> Iterator[Mistake]:
    """What trackers, sinks, notices, registry and stores say of their options, which they know themselves."""
    asked = [
        (kind, name, section.options, f"{key}.options")
        for key, kind, section, chosen in (
            ("tracking", "tracker", settings.tracking, "trackers"),
            ("events", "sink", settings.events, "sinks"),
            ("notices", "notice", settings.notices, "sources"),
        )
        if section is not None
        for name in getattr(section, chosen)
    ]
    wanted = [(kind, name, options.get(name), f"{key}.{name}") for kind, name, options, key in asked]
    if settings.registry is not None and settings.registry.kind != "none":
        wanted.append(("registry", settings.registry.kind, settings.registry.options, "registry.options"))
    for kind, name, options, key in wanted:
        try:
            make(kind, name, options, key)
        except UserError as error:
            for one in mistakes_in(error, key):
                # What makes them knows only the name of an option; where it was given is known here.
                yield places.mistake(one.place, one.words.removeprefix(f"{one.place.rpartition('.')[2]}: "))
    found = Mistakes()
    tiers = settings.checkpoint_tiers
    addresses = {"store": settings.store}
    if tiers is not None:
        addresses |= {
            f"checkpoint_tiers.{name}.address": tier.address
            for name, tier in (("volume", tiers.volume), ("store", tiers.store))
            if tier is not None
        }
    for key, address in addresses.items():
        if address is not None:
            with found.gathered(places.at(key)):
                open_store(address)
    yield from found.found
