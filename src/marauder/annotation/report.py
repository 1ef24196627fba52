"""What an import says of a delivery: a report by picture (JSON, HTML, text), the list to send back, and what to do."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from marauder.annotation.batch import Batch
from marauder.annotation.checking import Checked, Note, PictureCheck
from marauder.annotation.quality import Quality
from marauder.annotation.settings import AnnotationSettings
from marauder.core.errors import printable
from marauder.core.files import write_json, write_text
from marauder.core.plain import Plain
from marauder.core.wording import counted
from marauder.pages.rendering import render_page

JSON_FILE, HTML_FILE, TEXT_FILE = "import_report.json", "import_report.html", "import_report.txt"
RETURN_LIST = "return_list.csv"
RETURN_PACKAGE = "return_pictures.txt"
LISTED = 40
SAID_OF_THE_WHOLE = 4
EXPLAINED = {
    "class-unknown": "correct the class names; the classes are in the package's guidelines",
    "box-out-of-bounds": "boxes must be inside the picture; check that the tool shows it upright and at its full size",
    "box-degenerate": "a box was clicked, not drawn; draw it or delete it",
    "picture-missing": "label it; a picture without any object needs an answer too (an empty one)",
    "picture-changed": "work on the pictures of the package as they are: not cropped, scaled or turned",
    "size-mismatch": "the labels were made for another size; work on the pictures as they are",
    "label-syntax": "the file cannot be read there; export it again",
    "label-without-picture": "send the picture's entry together with its boxes: one of the pictures lacks them",
    "negative-in-doubt": "say that it holds nothing once every box has its picture; else send its boxes",
    "negatives-many": "say whether all pictures were checked; finish those that were not",
    "number-invalid": "draw the box again and export again; coordinates are four finite numbers in the format's unit",
    "class-missing": "give every box one of the classes in the package's guidelines",
    "class-several": "give every box one class; draw a second box where two animals are meant",
    "shape-unknown": "draw an upright box around the object",
    "not-answered": "submit the picture in your tool, also when nothing is in it, and export the answers",
    "picture-twice": "send each picture's answer once",
    "formats-disagree": "send one format only, the one that holds the final labels",
    "label-encoding": "save text files as UTF-8",
    "format-unknown": "send it in one of the formats of docs/formats.md (COCO, YOLO, CVAT, VIAME …)",
    "package-unchanged": "look into the inbox whether the right file was put there",
    "delivery-refused": "pack the delivery again, without links, passwords and archives in it, or send it in parts",
}
"""What the provider should do about each kind of problem."""


def write_report(
    folder: Path,
    batch: Batch,
    delivery: Path,
    format_name: str,
    checked: Checked,
    quality: Quality | None,
    words: str,
) -> None:
    """Write the report's files into ``folder``; those of an earlier import of the same delivery are replaced."""
    content = report_json(batch, delivery, format_name, checked, words)
    write_json(folder / JSON_FILE, content)
    page = render_page("annotation/import_report.html", **content, explained=EXPLAINED, quality=quality is not None)
    write_text(folder / HTML_FILE, page)
    write_text(folder / TEXT_FILE, _text(content))
    back = [picture for picture in checked.pictures if picture.status != "accepted"]
    write_text(folder / RETURN_LIST, _return_list(back))
    # By record key, as ``annotation export --pictures`` takes them.
    write_text(folder / RETURN_PACKAGE, "".join(f"{key}\n" for key in dict.fromkeys(one.key for one in back)))


def report_json(batch: Batch, delivery: Path, format_name: str, checked: Checked, words: str) -> Plain:
    """The report as what JSON knows."""
    return {
        "format": 1,
        "batch": batch.id,
        "delivery": printable(delivery.name),
        "read_as": format_name,
        "advice": words,
        "counts": {status: len(checked.of_status(status)) for status in ("accepted", "returned", "missing")},
        "without_boxes": len(checked.empty),
        "usually_without_boxes": checked.usual_empty,
        "kinds": checked.kinds(),
        "general": [_note(note) for note in checked.general],
        "strangers": [printable(name) for name in checked.strangers],
        "pictures": [_picture(picture) for picture in checked.pictures],
    }


def advice(
    settings: AnnotationSettings,
    batch: Batch,
    delivery: Path,
    checked: Checked,
    merging: bool,
    outstanding: Sequence[str],
    quality: Quality | None,
) -> str:
    """What happened and what to do next, in a few sentences."""
    accepted, total = len(checked.of_status("accepted")), len(checked.pictures)
    missing = len(checked.of_status("missing"))
    back = len(checked.of_status("returned"))
    of_all = f"{accepted} of {counted(total, 'picture')}"
    lines = [f"Batch {batch.id}, delivery {printable(delivery.name)}: {of_all} are in order."]
    if back or missing:
        lines.append(f"{back} go back for the reasons in the report, {missing} were not answered.")
    if checked.empty:
        usual = checked.usual_empty
        known = f"; of the data set's labelled pictures {usual:.0%}" if usual is not None else ""
        lines.append(f"{len(checked.empty)} of these hold no box ({len(checked.empty) / accepted:.0%}{known}).")
    lines += _of_the_whole(checked)
    if not accepted:
        lines.append("Nothing of it can be used. Nothing was merged.")
    elif not merging:
        lines.append(
            "Nothing was merged. Either send return_list.csv to the provider and wait for a complete delivery, or "
            "take the good part now and the rest later: run the import again with --accept."
        )
    elif outstanding:
        awaited = counted(len(outstanding), "answer is", "answers are")
        lines.append(
            f"They are merged into {settings.output}. {awaited} still waited for; put them into "
            f"{settings.inbox} as a further delivery."
        )
    else:
        lines.append(f"All are merged into {settings.output}; the batch is complete.")
    # Without a merge, the sentence above names the list already.
    if accepted and (back or missing) and merging:
        lines.append("return_list.csv says what to send back.")
    lines += [f"Take care: {warning}." for warning in (quality.warnings if quality else ())]
    if quality is not None and quality.suspects:
        pictures = len({one.key for one in quality.suspects})
        most = min(settings.quality.review_count, pictures)
        held = counted(pictures, "picture holds", "pictures hold")
        lines.append(f"{held} boxes that look wrong: look through the first {most} on the quality page.")
    return "\n".join(lines)


def _of_the_whole(checked: Checked) -> list[str]:
    """What is wrong with the delivery as a whole, in a few sentences: each kind once, with its first message."""
    by_kind: dict[str, list[Note]] = {}
    for note in checked.general:
        # That one is worth a look even where nothing goes back for it.
        if note.serious or note.kind == "negatives-many":
            by_kind.setdefault(note.kind, []).append(note)
    lines = []
    for notes in list(by_kind.values())[:SAID_OF_THE_WHOLE]:
        place = f"{printable(notes[0].place)}: " if notes[0].place not in ("", ".") else ""
        more = f" (and {len(notes) - 1} more of the kind)" if len(notes) > 1 else ""
        lines.append(f"About the delivery as a whole: {place}{printable(notes[0].message)}{more}.")
    return lines


def _note(note: Note) -> Plain:
    return {
        "kind": note.kind,
        "message": printable(note.message),
        "place": printable(note.place),
        "serious": note.serious,
    }


def _picture(picture: PictureCheck) -> Plain:
    return {
        "file": picture.file,
        "key": picture.key,
        "part": picture.part,
        "status": picture.status,
        "boxes": picture.delivered_boxes,
        "notes": [_note(note) for note in picture.notes],
    }


def _text(content: Plain) -> str:
    lines = [content["advice"], ""]
    if content["kinds"]:
        lines.append("Found: " + ", ".join(f"{count} {kind}" for kind, count in content["kinds"].items()))
    for note in content["general"][:LISTED]:
        lines.append(f"  {note['place'] + ': ' if note['place'] else ''}{note['message']} [{note['kind']}]")
    bad = [picture for picture in content["pictures"] if picture["status"] != "accepted"]
    for picture in bad[:LISTED]:
        serious = [note["message"] for note in picture["notes"] if note["serious"]]
        lines.append(f"  {picture['file']} {picture['status']}: {'; '.join(serious[:3])}")
    if len(bad) > LISTED:
        lines.append(f"  and {len(bad) - LISTED} more: see {HTML_FILE}")
    return "\n".join(lines) + "\n"


def _return_list(pictures: Sequence[PictureCheck]) -> str:
    """For the provider: picture, package, what is wrong, what to do. A text that a table would run as a formula gets an
    apostrophe in front."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["picture", "package", "status", "what is wrong", "what to do"])
    for picture in pictures:
        serious = [note for note in picture.notes if note.serious]
        wrong = "; ".join(printable(note.message) for note in serious)
        remedies = "; ".join(dict.fromkeys(EXPLAINED[note.kind] for note in serious if note.kind in EXPLAINED))
        row = [picture.file, picture.part, picture.status, wrong, remedies]
        # Names and messages come from outside, and the list is opened in a spreadsheet.
        writer.writerow(["'" + cell if cell[:1] in ("=", "+", "-", "@", "\t") else cell for cell in row])
    return stream.getvalue()
