"""Guidelines for annotators, from the taxonomy and the labelled data: one offline page, and Markdown with crops.

``guidelines.html`` holds its pictures inside; ``guidelines.md`` names the files of ``examples/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marauder.annotation.examples import example_crops
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, fingerprint, read_json, write_bytes, write_text
from marauder.core.plain import Plain
from marauder.core.progress import Progress
from marauder.data.contact_sheets import colour_of
from marauder.data.records import Record
from marauder.data.taxonomy import Species, Taxonomy, normalise
from marauder.pages.rendering import embed_picture, render_page
from marauder.reporting.markdown import escape

PAGE, TEXT, EXAMPLES = "guidelines.html", "guidelines.md", "examples"
SYNONYMS_SHOWN = 14
LOOK_ALIKES_SHOWN = 3
LEAST_CONFUSIONS = 3
"""Boxes that a model must have mixed up before two classes are called alike."""
TIERS = {
    "critical": "Critical: take most care. A missed or wrongly named animal of this class costs most.",
    "important": "Important: look for it with care.",
    "general": "",
}
RULES = {
    "Every animal": (
        "Draw a box around every animal (or plant) of the classes below, small and blurred ones too, as long "
        "as you are sure of the class. Work through the picture from left to right, near to far."
    ),
    "Tight": (
        "The box touches the outermost visible points on all four sides, fins, tentacles, arms and spines "
        "included; not more than two or three pixels of water around it. Shadows, reflections and clouds of "
        "sand are left out."
    ),
    "Hidden parts (occlusion)": (
        "Box what you can see. Do not guess the part behind a rock or another animal. If one animal is seen "
        "in two pieces, draw one box around both."
    ),
    "Cut off by the border (truncation)": (
        "Box what is in the picture, up to the border and not beyond. Leave out an animal if less than about a tenth "
        "of it, or nothing typical of it, is visible."
    ),
    "Groups": (
        "One box for each animal, as long as they can be told apart, in a school too. Where they cannot, one "
        "box around the part that merges; where your tool lets you mark it (crowd, group), do so."
    ),
    "Mirror pictures": (
        "Reflections on the surface or a pane of glass are not animals. Nor are animals on posters, signs and screens."
    ),
    "In doubt": (
        "If you cannot say which of the classes it is, leave it out rather than guess. If it belongs to none of the "
        "classes, leave it out too. There is no class 'other'."
    ),
    "Nothing there": (
        "A picture without any of the classes is an answer like every other: submit it without boxes. Do not skip it."
    ),
    "Suggested boxes": (
        "Some pictures come with boxes that a model suggests. They are often right and sometimes wrong: move "
        "those that are not tight, rename those of the wrong class, delete those with nothing in them, and "
        "above all look for what the model did not see."
    ),
}
"""What an annotator keeps to in every picture: a heading and its text."""


@dataclass(frozen=True)
class ClassGuide:
    """What an annotator is told of one class. ``look_alikes``: (name, why); ``crops``: JPEG files."""

    name: str
    index: int
    colour: str
    species: Species | None
    also: tuple[str, ...]
    look_alikes: tuple[tuple[str, str], ...]
    crops: tuple[bytes, ...]

    @property
    def slug(self) -> str:
        """The name as part of a file's name and of an address within the page."""
        return f"{self.index:02d}-{normalise(self.name).replace(' ', '-') or 'class'}"

    @property
    def tier(self) -> str:
        """What the tier means for the annotator."""
        return TIERS[self.species.tier] if self.species is not None else ""


@dataclass(frozen=True)
class GuidelineOptions:
    """``model``: detector whose mix-ups are told, from the ``eval_report.json`` beside it."""

    taxonomy: Path | None = None
    model: Path | None = None
    examples_per_class: int = 6
    seed: int = 0


def write_guidelines(
    folder: Path, names: Sequence[str], records: Sequence[Record], options: GuidelineOptions, clock: Clock
) -> Path:
    """Write the guidelines for the classes ``names`` into ``folder`` and return the page.

    ``records``: of the data set, for the examples; those without labels are passed over. The same inputs give
    the same files. Raises ``UserError`` for a taxonomy that cannot be read.
    """
    taxonomy = Taxonomy.load(options.taxonomy)
    labelled = [record for record in records if record.labelled and len(record.boxes)]
    confused = _confusions(options.model, names)
    guides = []
    with Progress("guidelines", len(names), unit="classes") as progress:
        for index, name in enumerate(names):
            clock.check()
            crops = example_crops(labelled, index, options.examples_per_class, options.seed)
            guides.append(_guide(index, name, taxonomy, names, confused, crops))
            progress.advance()
    for guide in guides:
        for number, crop in enumerate(guide.crops, 1):
            write_bytes(folder / EXAMPLES / f"{guide.slug}-{number}.jpg", crop)
    write_text(folder / TEXT, _markdown(guides))
    write_text(folder / PAGE, _page(guides))
    return folder / PAGE


def guideline_inputs(names: Sequence[str], records: Sequence[Record], options: GuidelineOptions) -> str:
    """Fingerprint of what the guidelines are written from, without reading a picture."""
    taxonomy = Taxonomy.load(options.taxonomy)
    # Boxes and classes decide which crops are shown; the pixels behind them are taken on trust.
    labelled = [
        [record.key, record.boxes, record.classes] for record in records if record.labelled and len(record.boxes)
    ]
    entries = [entry.model_dump() for entry in taxonomy.species]
    confused = [[list(pair), count] for pair, count in sorted(_confusions(options.model, names).items())]
    return fingerprint([list(names), labelled, entries, confused, options.examples_per_class, options.seed])


def _guide(
    index: int,
    name: str,
    taxonomy: Taxonomy,
    names: Sequence[str],
    confused: dict[tuple[int, int], int],
    crops: Sequence[bytes],
) -> ClassGuide:
    species = taxonomy.match(name)
    # Measured mix-ups before names that sound alike.
    alike = sorted(((count, pair) for pair, count in confused.items() if index in pair), reverse=True)
    look_alikes = [
        (names[other], f"the model took one for the other {count} times")
        for count, pair in alike[:LOOK_ALIKES_SHOWN]
        for other in pair
        if other != index
    ]
    told = {other for other, _ in look_alikes} | {name}
    for other in names:
        # Names such as "Red Sea Urchin" and "Purple Sea Urchin": kinds of one animal.
        if other not in told and normalise(other).split()[-1:] == normalise(name).split()[-1:] != []:
            look_alikes.append((other, "a near relative"))
    colour = "#{:02x}{:02x}{:02x}".format(*colour_of(index))
    also = _synonyms(species, name) if species is not None else ()
    return ClassGuide(name, index, colour, species, also, tuple(look_alikes), tuple(crops))


def _synonyms(species: Species, name: str) -> tuple[str, ...]:
    """What else counts as the class: English names first, then taxa, without the name itself."""
    others = [other for other in (species.common, *species.names) if normalise(other) != normalise(name)]
    # The table writes taxa, and only these, with a capital.
    english = [other for other in others if not other[:1].isupper() or other == species.common]
    taxa = [other for other in others if other not in english]
    return tuple(dict.fromkeys([*english, *taxa]))


def _confusions(model: Path | None, names: Sequence[str]) -> dict[tuple[int, int], int]:
    """How often a model takes two classes (lower index first) for one another, where its evaluation says so."""
    report = model.parent / "eval_report.json" if model is not None else None
    if report is None or not report.is_file():
        return {}
    try:
        matrix = read_json(report)["confusion_matrix"]
        counts = np.array(matrix["counts"], np.int64)
        positions = [names.index(label) if label in names else -1 for label in matrix["labels"]]
    except (DamagedFileError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{report}: not an evaluation report ({error}); evaluate the model again, or move it") from None
    found: dict[tuple[int, int], int] = {}
    for row, one in enumerate(positions):
        for column, other in enumerate(positions):
            if one != other and min(one, other) >= 0:
                pair = (min(one, other), max(one, other))
                # Either way round: which of the two is taken for the other matters little to whoever labels them.
                found[pair] = found.get(pair, 0) + int(counts[row, column])
    return {pair: count for pair, count in found.items() if count >= LEAST_CONFUSIONS}


def _markdown(guides: Sequence[ClassGuide]) -> str:
    lines = ["# How to label these pictures", "", "## Rules", ""]
    lines += [f"- **{title}.** {text}" for title, text in RULES.items()]
    lines += ["", "## Classes", "", "Use these names exactly as they are written.", ""]
    for guide in guides:
        lines += [f"### {escape(guide.name)}", ""]
        if guide.species is not None:
            lines += [f"Scientific name: *{escape(guide.species.scientific)}*. {guide.tier}".strip(), ""]
        if guide.also:
            lines += [f"Counts as this class, among others: {escape(_listed(guide.also))}.", ""]
        for other, why in guide.look_alikes:
            lines.append(f"- Not to be mixed up with **{escape(other)}** ({why}).")
        lines += [""] if guide.look_alikes else []
        crops = range(1, len(guide.crops) + 1)
        lines += [" ".join(f"![{escape(guide.name)}]({EXAMPLES}/{guide.slug}-{number}.jpg)" for number in crops)]
        lines += [""] if guide.crops else ["No example yet: none is labelled.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _page(guides: Sequence[ClassGuide]) -> str:
    rows: list[Plain] = [
        {"guide": guide, "also": _listed(guide.also), "crops": [embed_picture(crop) for crop in guide.crops]}
        for guide in guides
    ]
    return render_page("annotation/guidelines.html", rules=RULES.items(), rows=rows)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SYNONYMS_SHOWN
    return ", ".join(names[:SYNONYMS_SHOWN]) + (f" and {more} more" if more > 0 else "")
