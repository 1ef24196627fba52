"""The steps of the pipeline, found in ``pipeline/steps`` and wired by what they read and write, over one workspace."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from pydantic import Field, create_model

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.file_identity import identify, is_same
from marauder.core.layers import Layer, add_values, merge_layers, read_layer_or_mistakes
from marauder.core.locks import is_held
from marauder.core.mistakes import Mistake, Mistakes
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Places, Settings, examine_layer, put_right
from marauder.core.ultralytics_words import answers
from marauder.pipeline import steps as steps_package
from marauder.pipeline.record import StepRecord, lock_path, read_record, settings_path
from marauder.pipeline.status import Facts, State, Status, decide, flatten
from marauder.pipeline.step import Artifact, Step
from marauder.pipeline.workspace import Workspace
from marauder.runs.recipes import recipe_layers
from marauder.runs.settings import RunSettings


def discover() -> tuple[Step, ...]:
    """Every step: the ``STEP`` of each module in ``pipeline/steps``. Raises ``TypeError`` on a file without one."""
    found: list[Step] = []
    for module in iter_modules(steps_package.__path__):
        if module.name.startswith("_"):
            continue
        step = getattr(import_module(f"{steps_package.__name__}.{module.name}"), "STEP", None)
        if not isinstance(step, Step):
            raise TypeError(f"pipeline/steps/{module.name}.py must define STEP, an instance of Step")
        found.append(step)
    return tuple(found)


class Pipeline:
    """The steps over one workspace, with the settings of each.

    ``config`` is a YAML file with a section for each step (all optional), ``overrides`` are ``section.name=value``.
    Raises ``UserError`` that lists every mistake in them.
    """

    def __init__(
        self,
        workspace: Workspace,
        config: Path | None = None,
        overrides: Sequence[str] = (),
        steps: Iterable[Step] | None = None,
        mistakes: Mistakes | None = None,
    ) -> None:
        """``mistakes``: gathers those in the settings, instead of having them raised; the pipeline is then good for
        finding more of them (``look_through``)."""
        self.workspace = workspace
        self.steps = tuple(sorted(discover() if steps is None else steps, key=lambda step: step.number))
        for kind, values in (
            ("number", [step.number for step in self.steps]),
            ("name", [step.name for step in self.steps]),
        ):
            if len(set(values)) < len(values):
                raise TypeError(f"two steps have the same {kind}: {values}")
        self._proposed: dict[str, list[str]] = {step.name: [] for step in self.steps}
        self.layer = self._layer(config, overrides)
        self.settings, found = examine_layer(_settings_model(self.steps), self.layer)
        self.well_formed = not found
        gathered = mistakes if mistakes is not None else Mistakes()
        gathered.add(found)
        if mistakes is None:
            self.layer.demand_none(gathered.found)

    def step(self, name: str) -> Step:
        """The step called ``name``, or by its number. Raises ``UserError`` with the known ones."""
        for step in self.steps:
            if name in (step.name, str(step.number)):
                return step
        known = ", ".join(f"{step.number} {step.name}" if step.number >= 0 else step.name for step in self.steps)
        raise UserError(f"no step named {name!r}; there are: {known}")

    def settings_of(self, step: Step) -> Any:
        """The settings of a step; ``None`` for an optional step without a section."""
        return getattr(self.settings, step.name)

    def is_configured(self, step: Step) -> bool:
        """Whether the step is part of this pipeline."""
        return self.settings_of(step) is not None

    def producers(self, step: Step) -> tuple[Step, ...]:
        """Earlier steps that write something this step reads."""
        read = [artifact.path for artifact in self.inputs(step)]
        return tuple(
            earlier
            # Only earlier ones: the order of numbers is the order of the pipeline, and there are no cycles.
            for earlier in self.steps[: self.steps.index(step)]
            if any(_overlap(output.path, path) for output in self.outputs(earlier) for path in read)
        )

    def inputs(self, step: Step) -> tuple[Artifact, ...]:
        """What the step reads; nothing when it is not configured."""
        return step.inputs(self.workspace, self.settings_of(step)) if self.is_configured(step) else ()

    def outputs(self, step: Step) -> tuple[Artifact, ...]:
        """What the step writes; nothing when it is not configured."""
        return step.outputs(self.workspace, self.settings_of(step)) if self.is_configured(step) else ()

    def result_settings(self, step: Step) -> Plain:
        """The settings that bear on the result, by dotted name: neither its places nor what changes only speed."""
        # A workspace that moved, or was copied, has other paths and the same results.
        left_out = {*step.placed(self.workspace), *step.without_effect(), *self._proposed[step.name]}
        flat = flatten(self.settings_of(step).model_dump(mode="json")) if self.is_configured(step) else {}
        return {name: value for name, value in flat.items() if not _covered(name, left_out)}

    def given_settings(self) -> Plain:
        """All settings but those that the workspace decides or proposed, as a settings file holds them.

        So a moved workspace, or another folder of pictures, is seen the next time.
        """
        values: Plain = self.settings.model_dump(mode="json")
        for step in self.steps:
            if not self.is_configured(step):
                del values[step.name]
            else:
                for name in [*step.placed(self.workspace), *self._proposed[step.name]]:
                    *parents, last = name.split(".")
                    section = values[step.name]
                    for parent in parents:
                        section = section[parent]
                    del section[last]
        return values

    def facts(self, step: Step, producers: Mapping[str, State]) -> Facts:
        """All that ``decide`` needs to know of a step; ``producers`` are the states of the steps it reads from."""
        record = read_record(self.workspace, step.name)
        there = [artifact for artifact in self.inputs(step) if artifact.path.exists()]
        ready = all(state == State.DONE for state in producers.values())
        return Facts(
            settings=self.result_settings(step),
            defaults=flatten(default_values(step.settings_model())),
            continued=step.continued(),
            version=step.version,
            # While producers are not done, inputs may be half written, and looking through them is slow.
            inputs={artifact.name: self.input_identity(step, artifact) for artifact in there} if ready else {},
            missing={
                artifact.name: artifact.remedy or f"{artifact.path} is missing"
                for artifact in self.inputs(step)
                if artifact not in there
            },
            producers=producers,
            output_problems=self.output_problems(step, record) if ready else (),
            record=record,
            locked=is_held(lock_path(self.workspace)),
            configured=self.is_configured(step),
        )

    def statuses(self) -> dict[str, Status]:
        """The status of every step, by name, in order."""
        found: dict[str, Status] = {}
        for step in self.steps:
            producers = {earlier.name: found[earlier.name].state for earlier in self.producers(step)}
            found[step.name] = decide(self.facts(step, producers))
        return found

    def status(self, step: Step) -> Status:
        """The status of one step; its producers are looked at, later steps are not."""
        producers = {earlier.name: self.status(earlier).state for earlier in self.producers(step)}
        return decide(self.facts(step, producers))

    def input_identity(self, step: Step, artifact: Artifact) -> str:
        """What an input is: the content that its producer recorded, or the listing of a raw file or folder."""
        for earlier in self.producers(step):
            record = read_record(self.workspace, earlier.name)
            for output in self.outputs(earlier):
                if output.path == artifact.path and record is not None and output.name in record.outputs:
                    # By content where a step made it: running again with the same result makes nothing stale.
                    return str(record.outputs[output.name].content)
        # Raw pictures may be terabytes: names, sizes and times must do.
        return identify(artifact.path, with_content=False).listing

    def output_problems(self, step: Step, record: StepRecord | None) -> tuple[str, ...]:
        """What is wrong with the outputs that a finished step recorded."""
        if record is None or record.state != "done":
            return ()
        problems = []
        for artifact in self.outputs(step):
            if not artifact.path.exists():
                problems.append(f"output is gone: {self.workspace.relative(artifact.path)}")
            # Content is compared only where the listing differs: a copied workspace has other times.
            elif artifact.name not in record.outputs or not is_same(artifact.path, record.outputs[artifact.name]):
                problems.append(f"output was changed: {self.workspace.relative(artifact.path)}")
        return tuple(problems)

    def look_through(
        self, selected: Sequence[Step], clock: Clock, say: Callable[[str], None], fresh: bool = False
    ) -> Iterator[Mistake]:
        """What is wrong with the settings of ``selected`` beside their form: names and files that are not there.

        Finished steps are not looked at, unless they start over (``fresh``). Reads files, changes none; ``say`` tells
        what takes long. Raises ``Interrupted`` when the clock says to stop.
        """
        made: list[Path] = []
        names, unlabelled = Places().class_names, Places().unlabelled
        for step in self.steps:
            if self.settings_of(step) is None:
                continue
            complete = not made
            starts_over = fresh and step in selected
            done = self.well_formed and not starts_over and self.status(step).state == State.DONE
            # A finished one may have run on another machine, and what it read may be gone.
            if step in selected and not done:
                places = Places(
                    self.layer,
                    prefix=(step.name,),
                    made=tuple(made),
                    class_names=names,
                    unlabelled=unlabelled,
                    clock=clock,
                )
                yield from step.mistakes(self.settings_of(step), places)
            # What a finished step left is there, and stays.
            if not done:
                made += [artifact.path for artifact in self._outputs_if_known(step)]
            if step.makes_classes:
                # Once, and only where a later step names one.
                names = cache(partial(step.class_names, self.settings_of(step), clock, say))
                # What an earlier step still has to make may bring further pictures.
                if complete:
                    unlabelled = cache(partial(step.unlabelled, self.settings_of(step), clock, say))

    def _outputs_if_known(self, step: Step) -> tuple[Artifact, ...]:
        try:
            return self.outputs(step)
        except (AttributeError, TypeError):
            # Settings that could not be read are ``None``; then nobody can say what the step makes.
            return (Artifact("everything", self.workspace.training),)

    def _open_to_recipes(self, stored: Layer, typed: Layer) -> Layer:
        """The settings of the last run without those that hide what a recipe of this call gives.

        They are stored with every default: where ``typed`` names a recipe, those that are as by default, or as the
        former recipe has them, give way; what the user set otherwise stays.
        """
        content = dict(stored.content)
        for step in self.steps:
            section, named = content.get(step.name), typed.content.get(step.name)
            if isinstance(section, dict) and isinstance(named, dict) and "recipe" in named:
                bases = [default_values(step.settings_model())]
                if isinstance(former := section.get("recipe"), str):
                    # It may be gone by now: then all it gave looks like the user's own.
                    with suppress(UserError):
                        bases.append(_as_stored(step.settings_model(), merge_layers(recipe_layers(former))))
                content[step.name] = _beyond(section, bases)
        places = {keys: place for keys, place in stored.places.items() if _holds(content, keys)}
        return replace(stored, content=content, places=places)

    def _with_recipes(self, layer: Layer) -> Layer:
        """``layer`` over the recipes that sections of trainings name. Raises ``UserError`` with all that is wrong with
        these."""
        found, layers = Mistakes(), []
        for step in self.steps:
            section = layer.content.get(step.name)
            recipe = section.get("recipe") if isinstance(section, dict) else None
            if isinstance(recipe, str) and issubclass(step.settings_model(), RunSettings):
                with found.gathered():
                    place = layer.places.get((step.name, "recipe"), "")
                    found_layers = recipe_layers(recipe, place, key=f"{step.name}.recipe")
                    layers += [_below(step.name, one) for one in found_layers]
        found.demand_none()
        return replace(merge_layers([*layers, layer]), name=layer.name) if layers else layer

    def _layer(self, config: Path | None, overrides: Sequence[str]) -> Layer:
        """The user's settings, under which lie those that the workspace decides and proposes."""
        layer = read_layer_or_mistakes(config)
        if config is not None and config.absolute() == settings_path(self.workspace):
            layer = self._open_to_recipes(layer, add_values(Layer({}, {}), overrides, None, {}))
        layer = add_values(layer, overrides, None, {})
        layer = put_right(_settings_model(self.steps), layer)
        mistakes = Mistakes(layer.mistakes)
        with mistakes.gathered():
            layer = self._with_recipes(layer)
        # An optional step is on as soon as anything is said about it.
        configured = {step.name for step in self.steps if not step.optional or layer.content.get(step.name) is not None}
        for step in self.steps:
            section = layer.content.get(step.name)
            # What is no mapping of settings is a mistake that is found with its line.
            if step.name not in configured or not isinstance(section, dict | None):
                continue
            given = flatten(section or {})
            section = layer.content[step.name] = section or {}
            decided = step.placed(self.workspace)
            suggested = {
                **step.suggested(self.workspace, configured),
                **step.suggested_for(partial(self._detectors, step, configured, layer), given),
            }
            # A suggestion gives way to the user; what the workspace decides is refused if set.
            for name, value in {**suggested, **decided}.items():
                if name not in given or name in decided:
                    _put(section, name, json.loads(json.dumps(value, default=str)))
                if name not in given and name not in decided:
                    self._proposed[step.name].append(name)
                elif name in given and name in decided:
                    words = "the workspace decides this; choose the workspace with --root instead"
                    mistakes.add([Places(layer, prefix=(step.name,)).mistake(name, words)])
        return replace(layer, mistakes=tuple(mistakes.found))

    def _detectors(self, step: Step, configured: Collection[str], layer: Layer) -> dict[str, Path]:
        """What steps before ``step`` leave, by the settings of theirs in ``layer``."""
        found: dict[str, Path] = {}
        for earlier in self.steps[: self.steps.index(step)]:
            section = layer.content.get(earlier.name)
            if earlier.name not in configured or not isinstance(section, dict):
                continue
            settings, _ = examine_layer(earlier.settings_model(), Layer(section, {}))
            # Settings that could not be read are ``None``; the mistake is told elsewhere.
            with suppress(AttributeError, TypeError):
                found |= earlier.detectors(self.workspace, settings)
        return found


def _below(name: str, layer: Layer) -> Layer:
    """A layer of a step's settings as one of the pipeline's."""
    places = {(name, *keys): place for keys, place in layer.places.items()}
    written = {(name, *keys): text for keys, text in layer.written.items()}
    return Layer({name: layer.content}, places, layer.name, written)


def _as_stored(model: type[Settings], layer: Layer) -> Plain:
    """What ``layer`` gives as the settings of a run are stored: read, with every default. Required ones may lack."""
    # Pieced together, they hold ``None`` where something is required, which is worth no warning.
    return examine_layer(model, layer)[0].model_dump(mode="json", warnings=False)


def _beyond(values: PlainMapping, bases: Sequence[PlainMapping]) -> Plain:
    """What of ``values`` is like none of ``bases``, section by section."""
    found: Plain = {}
    for name, value in values.items():
        below = [base[name] for base in bases if name in base]
        if value in below:
            continue
        sections = [one for one in below if isinstance(one, Mapping)]
        found[name] = _beyond(value, sections) if isinstance(value, Mapping) and sections else value
    return found


def _holds(content: Any, keys: tuple[str, ...]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _put(section: Plain, name: str, value: Any) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            return  # a mistake of its own
    section[last] = value


class _Sections(Settings):
    elsewhere = answers(prefix="baseline.")


def _settings_model(steps: Sequence[Step]) -> type[Settings]:
    fields: Plain = {}
    for step in steps:
        model = step.settings_model()
        # A required section that is absent is a mistake with a name; an optional one is ``None``.
        fields[step.name] = (model | None, None) if step.optional else (model, Field(...))
    return create_model("PipelineSettings", __base__=_Sections, **fields)


@cache
def default_values(model: type[Settings]) -> Plain:
    """Defaults of a settings model as plain values, without the settings that have none."""
    values: Plain = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            values[name] = default_values(field.annotation)
        elif not field.is_required():
            # Field by field: the whole model cannot be made without the settings that have no default.
            part = create_model("Part", __base__=Settings, **{name: (field.annotation, field)})  # type: ignore[call-overload]
            values[name] = part().model_dump(mode="json")[name]
    return values


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _covered(name: str, left_out: set[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in left_out)
