"""What is wrong with the settings of a detector's run beside the files they name: classes, slices and metrics that the
data set does not have. Needs no torch, and reads the data set only where its names matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, Mistakes, nearest
from marauder.core.settings import Places
from marauder.gates.limits import ALL_CLASSES
from marauder.tasks.detection.settings import DetectionSettings

if TYPE_CHECKING:
    from marauder.data.records import Dataset
    from marauder.data.slices.resolve import SliceBook

ALL_SLICES = "`marauder slices check` lists the slices"


def look_through(
    settings: DetectionSettings, places: Places, of_any_run: Callable[[Places], Iterable[Mistake]]
) -> list[Mistake]:
    """Every mistake in the files that ``settings`` name, and every name that means nothing.

    ``of_any_run`` finds those of every kind of run, limits of classes among them, once the classes are known.
    """
    found = Mistakes()
    book = _book(settings, places, found)
    # What is about to be made again may have other classes then.
    there = settings.data is not None and settings.data.exists() and not places.is_made(settings.data)
    data = _Data(settings) if there else None
    names: Sequence[str] | None = None
    if _asks_for_names(settings, book):
        if data is not None:
            with found.gathered(places.at("data")):
                data.read()
        names = data.dataset.names if data is not None and data.dataset is not None else places.class_names()
    found.add(of_any_run(replace(places, class_names=lambda: names)))
    if names is not None:
        found.add(unknown_classes(settings, names, places))
    if data is not None and data.dataset is not None:
        found.add(_about_slices(settings, book, data.dataset, places))
    elif book is not None:
        found.add(_about_slices_alone(settings, book, names, places))
    # Only where there is something to tell already: otherwise the run reads the data set next, and tells itself.
    if found.found and data is not None and data.dataset is None and not data.failed:
        with found.gathered(places.at("data")):
            data.read()
    return found.found


def unknown_classes(settings: DetectionSettings, names: Sequence[str], places: Places) -> Iterator[Mistake]:
    """Names in ``critical`` and in the weights of the focal loss that are no class: they would do nothing."""
    focal = settings.loss.focal.class_weights if settings.loss is not None else {}
    for key, given in (("critical", settings.critical or ()), ("loss.focal.class_weights", focal)):
        for name in given:
            if name not in names:
                yield places.mistake(key, f"no class named {name!r}{_hint(name, names)}")


def _hint(name: str, names: Sequence[str]) -> str:
    """What was perhaps meant: a near name, or what the default taxonomy calls it."""
    from marauder.data.taxonomy import Taxonomy

    entry = Taxonomy.load().match(name)
    if entry is None or entry.common not in names:
        return nearest(name, names, ALL_CLASSES)
    return (
        f"; {name} is called {entry.common} in the default taxonomy (`marauder data organize --taxonomy source` keeps "
        "your names; in a pipeline: preprocessing.organize.taxonomy=source)"
    )


@dataclass
class _Data:
    """The data set of a run, read at most once."""

    settings: DetectionSettings
    dataset: Dataset | None = None
    failed: bool = False

    def read(self) -> None:
        """Raises ``UserError``; then it is not read again."""
        from marauder.data.reading import read_dataset

        self.failed = True
        self.dataset = read_dataset(self.settings.data)
        self.failed = False


def _book(settings: DetectionSettings, places: Places, found: Mistakes) -> SliceBook | None:
    from marauder.data.slices.resolve import examine_slices

    with found.gathered(places.at("data")):
        file = slices_file(settings)
        if file is not None and file.exists():
            book, mistakes = examine_slices(file)
            found.add(mistakes)
            return book
    return None


def slices_file(settings: DetectionSettings) -> Path | None:
    """The slices.yaml of a run: its own setting, else the data set's."""
    from marauder.data.manifests.spec import find_spec, load_spec

    if settings.slices is not None:
        return settings.slices
    spec = find_spec(settings.data) if settings.data is not None and settings.data.exists() else None
    return load_spec(spec).slices if spec is not None else None


def _asks_for_names(settings: DetectionSettings, book: SliceBook | None) -> bool:
    """Whether anything in the settings can only be judged beside the data set."""
    asked = (
        book,
        settings.critical,
        settings.loss is not None and settings.loss.focal.class_weights,
        settings.evaluation is not None and settings.evaluation.target,
        settings.training is not None and "/" in settings.training.best_metric,
        settings.gates,
        "limits" in (settings.gate or {}),
    )
    return any(asked)


def _about_slices(
    settings: DetectionSettings, book: SliceBook | None, dataset: Dataset, places: Places
) -> Iterator[Mistake]:
    from marauder.data.slices.check import check_names

    if book is not None:
        for finding in check_names(book, dataset):
            if finding.severity == "error":
                yield finding.as_mistake()
    wanted = _wanted_slices(settings)
    if not wanted:
        return
    try:
        known = slice_names(settings, book, dataset)
    except UserError:
        return  # a slice that cannot be made: reported above
    for key, name in wanted.items():
        if name not in known:
            yield _no_slice(key, name, known, places)


def _about_slices_alone(
    settings: DetectionSettings, book: SliceBook, names: Sequence[str] | None, places: Places
) -> Iterator[Mistake]:
    """What can be said of slices while the data set is not there: classes, and names of slices."""
    from marauder.data.slices.check import check_classes
    from marauder.evaluation.intervals import OVERALL

    if names is not None:
        yield from (finding.as_mistake() for finding in check_classes(book, names))
    known = [OVERALL, *book.slices]
    for key, name in _wanted_slices(settings).items():
        # Those of ``by`` are called after values that only the data set has.
        owner = book.slices.get(name.partition("=")[0])
        if name not in known and (owner is None or owner.by is None):
            yield _no_slice(key, name, known, places)


def _wanted_slices(settings: DetectionSettings) -> dict[str, str]:
    """Slices that settings name, by the setting."""
    wanted = {f"evaluation.target.{name}": name for name in settings.evaluation.target} if settings.evaluation else {}
    metric = settings.training.best_metric if settings.training is not None else ""
    if metric.startswith("slice/"):
        wanted["training.best_metric"] = metric.removeprefix("slice/").removesuffix("/map50")
    return wanted


def _no_slice(key: str, name: str, known: Sequence[str], places: Places) -> Mistake:
    where = ".".join(key.split(".")[:2])
    words = f"no slice named {name!r}{nearest(name, known, ALL_SLICES)}"
    return Mistake(f"{'.'.join((*places.prefix, key))}: {words}", places.at(where))


def slice_names(settings: DetectionSettings, book: SliceBook | None, dataset: Dataset) -> list[str]:
    """All pictures, and every slice of the split that is measured."""
    from marauder.data.slices.resolve import automatic_slices
    from marauder.evaluation.intervals import OVERALL

    split = measured_split(settings, dataset)
    records = tuple(record for record in dataset.split(split) if record.labelled)
    make = book.apply if book is not None else automatic_slices
    return [OVERALL, *(mask.name for mask in make(records, dataset.names))]


def measured_split(settings: DetectionSettings, dataset: Dataset) -> str:
    """The split that the finished model is measured on."""
    if settings.evaluation is not None and settings.evaluation.split != "auto":
        return settings.evaluation.split
    return "test" if "test" in dataset.splits() else "val"
