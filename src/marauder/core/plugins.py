"""Plug points: their one shape, the one literal table, and what other packages add.

All is resolved lazily: naming an implementation imports it, listing them does not. A package adds one by an entry point
in the group ``marauder.<kind>``.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from pydantic import AfterValidator

from marauder.core.errors import UserError
from marauder.core.layers import Layer
from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings, validate_layer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("marauder")
SettingsType = TypeVar("SettingsType", bound=Settings)


class Plugin(Generic[SettingsType]):
    """One implementation of a plug point. Making one is cheap: it checks its settings and opens nothing.

    What is known only at run time (a run, a folder, a clock) is handed to methods.
    """

    name: ClassVar[str]
    """As in the table, and in what users write."""
    title: ClassVar[str]
    """What it is, in a few words for people."""
    settings_model: ClassVar[type[Settings]] = Settings
    """The options that users may give it; by default none."""

    def __init__(self, settings: SettingsType | None = None) -> None:
        """``settings``: of ``settings_model``; without, its defaults."""
        self.settings: SettingsType = cast("SettingsType", self.settings_model()) if settings is None else settings


BASES: dict[str, str] = {
    "reader": "marauder.data.formats.base:Reader",
    "predictor": "marauder.prediction.format:PredictorFormat",
    "exporter": "marauder.exporting.base:Exporter",
    "gate": "marauder.gates.base:Gate",
    "drift_engine": "marauder.gates.drift_engine_base:DriftEngine",
    "store": "marauder.storage.base:Store",
    "tracker": "marauder.tracking.base:Tracker",
    "sink": "marauder.messaging.base:Sink",
    "registry": "marauder.registry.base:Registry",
    "notice": "marauder.launch.notices.base:NoticeSource",
    "launcher": "marauder.launch.base:Launcher",
    "task": "marauder.runs.task_description:TaskDescription",
    "pretraining_method": "marauder.models.pretraining.base:PretrainingMethod",
    "uncertainty": "marauder.selection.measures.base:Measure",
    "strategy": "marauder.selection.strategies.base:Strategy",
    "annotation_format": "marauder.annotation.formats.base:ExchangeFormat",
}
"""Kind of plug point to the abstract class that its implementations extend, as ``module:attribute``."""

TABLE: dict[str, dict[str, str]] = {
    # In the order in which they are tried: a FathomNet export is also COCO, and bare pictures are what nothing else is.
    "reader": {
        "manifest": "marauder.data.formats.manifest:ManifestReader",
        "deepfish": "marauder.data.formats.deepfish:DeepFishReader",
        "fathomnet": "marauder.data.formats.fathomnet:FathomNetReader",
        "viame": "marauder.data.formats.viame:ViameReader",
        "biigle": "marauder.data.formats.biigle:BiigleReader",
        "cvat": "marauder.data.formats.cvat:CvatReader",
        "voc": "marauder.data.formats.voc:VocReader",
        "labelme": "marauder.data.formats.labelme:LabelmeReader",
        "label_studio": "marauder.data.formats.label_studio:LabelStudioReader",
        "coco": "marauder.data.formats.coco:CocoReader",
        "yolo": "marauder.data.formats.yolo:YoloReader",
        "pictures": "marauder.data.formats.pictures:PicturesReader",
    },
    # By the suffix of the file.
    "predictor": {
        "safetensors": "marauder.prediction.detector:SafetensorsFormat",
        "pt": "marauder.prediction.detector:CheckpointFormat",
        "onnx": "marauder.prediction.onnx:OnnxFormat",
        "torchscript": "marauder.prediction.torchscript:TorchScriptFormat",
        "folder": "marauder.prediction.folder:FolderFormat",
    },
    "exporter": {
        "onnx": "marauder.exporting.onnx:OnnxExporter",
        "torchscript": "marauder.exporting.torchscript:TorchScriptExporter",
    },
    "gate": {
        "contract": "marauder.gates.contract:ContractGate",
        "drift": "marauder.gates.drift:DriftGate",
        "determinism": "marauder.gates.determinism:DeterminismGate",
        "sanity": "marauder.gates.sanity:SanityGate",
        "health": "marauder.gates.health:HealthGate",
        "limits": "marauder.gates.limits:LimitsGate",
        "slices": "marauder.gates.slices:SlicesGate",
        "floor": "marauder.gates.floor:FloorGate",
        "regression": "marauder.gates.regression:RegressionGate",
        "latency": "marauder.gates.latency:LatencyGate",
        "representation": "marauder.gates.representation:RepresentationGate",
    },
    "drift_engine": {
        "evidently": "marauder.gates.drift_evidently:EvidentlyEngine",
        "scipy": "marauder.gates.drift_scipy:ScipyEngine",
    },
    "store": {
        "file": "marauder.storage.folder:FolderStore",
        "s3": "marauder.storage.s3:S3Store",
    },
    "tracker": {
        "files": "marauder.tracking.files:FilesTracker",
        "mlflow": "marauder.tracking.mlflow:MlflowTracker",
        "wandb": "marauder.tracking.wandb:WandbTracker",
    },
    "sink": {
        "webhook": "marauder.messaging.webhook:WebhookSink",
        "eventbridge": "marauder.messaging.eventbridge:EventBridgeSink",
    },
    "registry": {
        "files": "marauder.registry.files:FilesRegistry",
        "mlflow": "marauder.registry.mlflow:MlflowRegistry",
        "wandb": "marauder.registry.wandb:WandbRegistry",
        "sagemaker": "marauder.registry.sagemaker:SageMakerRegistry",
    },
    "notice": {
        "file": "marauder.launch.notices.file:FileNotice",
        "ec2": "marauder.launch.notices.ec2:Ec2Notice",
    },
    "launcher": {
        "local": "marauder.launch.local:LocalLauncher",
    },
    "task": {
        "detection": "marauder.tasks.detection.description:Detection",
        "pretraining": "marauder.tasks.pretraining.description:Pretraining",
    },
    "pretraining_method": {
        "moco": "marauder.models.pretraining.moco:MomentumContrast",
        "distillation": "marauder.models.pretraining.distillation:SelfDistillation",
    },
    "uncertainty": {
        "least_confidence": "marauder.selection.measures.least_confidence:LeastConfidence",
        "margin": "marauder.selection.measures.margin:Margin",
        "entropy": "marauder.selection.measures.entropy:Entropy",
        "variation_ratio": "marauder.selection.measures.variation_ratio:VariationRatio",
        "mutual_information": "marauder.selection.measures.mutual_information:MutualInformation",
        "predictive_entropy": "marauder.selection.measures.predictive_entropy:PredictiveEntropy",
        "localisation_stability": "marauder.selection.measures.localisation_stability:LocalisationStability",
        "augmentation_consistency": "marauder.selection.measures.augmentation_consistency:AugmentationConsistency",
    },
    "strategy": {
        "hybrid": "marauder.selection.strategies.hybrid:Hybrid",
        "uncertainty": "marauder.selection.strategies.uncertainty:MostUncertain",
        "k_center": "marauder.selection.strategies.k_center:KCenter",
        "k_medoids": "marauder.selection.strategies.k_medoids:KMedoids",
        "typical": "marauder.selection.strategies.typical:Typical",
        "class_balance": "marauder.selection.strategies.class_balance:ClassBalance",
        "random": "marauder.selection.strategies.random:Random",
    },
    "annotation_format": {
        "mindy": "marauder.annotation.formats.mindy:MindyExchange",
        "coco": "marauder.annotation.formats.coco:CocoExchange",
        "yolo": "marauder.annotation.formats.yolo:YoloExchange",
        "cvat": "marauder.annotation.formats.cvat:CvatExchange",
        "label_studio": "marauder.annotation.formats.label_studio:LabelStudioExchange",
    },
}
"""Kind of plug point to implementation name to ``module:attribute``."""


def names(kind: str) -> list[str]:
    """Names of the implementations of a kind: the table's in its order, then those of other packages by name.

    Raises ``UserError`` where a package offers one under a name that is taken.
    """
    return [*TABLE[kind], *sorted(_offered(kind))]


def is_known(kind: str, name: str) -> bool:
    """Whether there is an implementation of this name. Other packages are looked at only where the table has none."""
    return name in TABLE[kind] or name in _offered(kind)


def known_as(kind: str, word: str) -> AfterValidator:
    """On a field of one name or several: each must implement ``kind``, which the message calls ``word``; each counts
    once."""

    def check(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            if not is_known(kind, name):
                raise ValueError(f"no {word} named {name!r}; choose of: {', '.join(names(kind))}")
        return value if isinstance(value, str) else tuple(dict.fromkeys(value))

    return AfterValidator(check)


def imported(place: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def resolve(kind: str, name: str) -> Any:
    """Import and return the implementation ``name`` of ``kind``.

    Raises ``UserError`` for an unknown name, and for one of another package that cannot be loaded, is not a plugin or
    lacks something that its kind asks for.
    """
    table = TABLE[kind]
    if name not in table:
        return _resolve_offered(kind, name)
    try:
        return imported(table[name])
    except ModuleNotFoundError as error:
        # A module of ours that is missing is a fault of the program, and no installation mends it.
        if error.name is None or error.name.split(".")[0] == "marauder":
            raise
        raise UserError(
            f"{kind} {name!r} needs the package {error.name!r}, which is not installed; "
            "run `make setup`, or install marauder with the matching extra"
        ) from None


def loadable(kind: str) -> dict[str, Any]:
    """Every implementation of ``kind`` by name. Those of other packages that cannot be loaded are left out, each with
    one warning: what nobody asked for by name must not stop the rest."""
    found = {}
    for name in names(kind):
        try:
            found[name] = resolve(kind, name)
        except UserError as error:
            if name in TABLE[kind]:
                raise
            _warn_once(str(error))
    return found


@cache
def _warn_once(message: str) -> None:
    log.warning("left out: %s", message)


def _resolve_offered(kind: str, name: str) -> Any:
    entry = _offered(kind).get(name)
    if entry is None:
        raise UserError(f"no {kind} named {name!r}; choose one of: {', '.join(names(kind))}")
    try:
        found = entry.load()
    except Exception as error:
        # Importing somebody else's package may raise anything, and the user must learn whose it is.
        raise UserError(
            f"{kind} {name!r} of {_origin(entry)} cannot be loaded: {type(error).__name__}: {error}; fix or remove it"
        ) from error
    model = getattr(found, "settings_model", None)
    if getattr(found, "name", None) != name or not (isinstance(model, type) and issubclass(model, Settings)):
        raise UserError(
            f"{kind} {name!r} of {_origin(entry)} is not a plugin: it needs name = {name!r}, a title and a "
            f"settings_model "
            "(CONTRIBUTING.md says what else)"
        )
    base = imported(BASES[kind])
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{kind} {name!r} of {_origin(entry)} does not extend {base.__module__}.{base.__name__}")
    if without := lacking(found):
        raise UserError(
            f"{kind} {name!r} of {_origin(entry)} lacks {', '.join(without)}; "
            f"{base.__module__}.{base.__name__} says what each is"
        )
    return found


def lacking(implementation: type) -> list[str]:
    """Names of the class attributes and methods that an implementation lacks: declared by a class that it extends, and
    given by none."""
    declared = {
        name
        for above in implementation.__mro__
        # Texts under ``from __future__ import annotations``, else types, which say "typing.ClassVar[...]".
        for name, annotation in vars(above).get("__annotations__", {}).items()
        if str(annotation).removeprefix("typing.").startswith("ClassVar[")
    }
    methods: frozenset[str] = getattr(implementation, "__abstractmethods__", frozenset())
    return sorted({name for name in declared if not hasattr(implementation, name)} | methods)


def _offered(kind: str) -> dict[str, EntryPoint]:
    """What installed packages offer of a kind, by name."""
    found: dict[str, EntryPoint] = {}
    for entry in _entry_points(kind):
        if entry.name in TABLE[kind] or entry.name in found:
            taken = "Marauder has its own" if entry.name in TABLE[kind] else f"so does {_origin(found[entry.name])}"
            raise UserError(f"{_origin(entry)} offers a {kind} named {entry.name!r}, but {taken}; rename or remove it")
        found[entry.name] = entry
    return found


@cache
def _entry_points(kind: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # reads every installed package, and takes a while to import

    return tuple(entry_points(group=f"marauder.{kind}"))


def _origin(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name} ({entry.value})" if entry.dist is not None else entry.value


def make(kind: str, name: str, values: PlainMapping | None = None, place: str = "") -> Any:
    """The implementation ``name`` of ``kind``, made from ``values``, its options as users wrote them.

    ``place``: where these stand, such as ``tracking.options.mlflow``. Raises ``UserError`` for an unknown name, and one
    that lists every mistake in the options with its place.
    """
    implementation = resolve(kind, name)
    model: type[Settings] = implementation.settings_model
    content = dict(values or {})
    stated = {key: f"{place}.{key}" if place else key for key in (*model.model_fields, *content)}
    layer = Layer(content, {(key,): stated[key] for key in content}, f"the settings of {kind} {name}")
    return implementation(validate_layer(model, layer, stated))
