"""What Ultralytics calls the settings of a training, of predictions and of an export, and what each is here.

For the answers to those who type them, for ``marauder config explain``, and for docs/TRAINING_GUIDE.md, which a test
compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from marauder.core.setting_mistakes import HERE


@dataclass(frozen=True)
class Word:
    """``ours``: the dotted name of our setting; empty where there is none. ``note``: what to know, or do instead."""

    ours: str = ""
    note: str = ""


def _none(note: str) -> Word:
    return Word("", note)


TRAINING: Mapping[str, Word] = {
    "epochs": Word("training.epochs"),
    "patience": Word("training.patience", "it counts evaluations, see training.evaluate_every"),
    "batch": Word("training.batch_size", "over all GPUs"),
    "nbs": _none("an update has training.batch_size pictures; training.micro_batch_size cuts it where memory is short"),
    "imgsz": Word("image_size"),
    "device": Word("training.device", "for several GPUs, as in device=0,1, give processes=2"),
    "workers": Word("training.workers"),
    "seed": Word("training.seed"),
    "deterministic": _none("order and content of batches always follow training.seed"),
    "pretrained": Word("weights", "pretrained=False is weights=none"),
    "freeze": _none("no layer is frozen; recipe=fine_tune trains all of them at a low rate"),
    "amp": Word("training.precision", "amp=False is float32"),
    "optimizer": Word("training.optimizer.name", "sgd or adamw; there is no auto"),
    "lr0": Word("training.optimizer.learning_rate"),
    "lrf": Word("training.optimizer.final_fraction"),
    "cos_lr": Word("training.optimizer.schedule", "cos_lr=True is cosine"),
    "momentum": Word("training.optimizer.momentum"),
    "weight_decay": Word("training.optimizer.weight_decay"),
    "warmup_epochs": Word("training.optimizer.warmup_epochs"),
    "warmup_momentum": Word("training.optimizer.warmup_momentum"),
    "warmup_bias_lr": Word("training.optimizer.warmup_bias_rate"),
    "box": Word("loss.box"),
    "cls": Word("loss.cls"),
    "dfl": Word("loss.dfl"),
    "mosaic": Word("augmentation.mosaic"),
    "close_mosaic": Word("training.close_mosaic_epochs"),
    "mixup": _none("pictures are not mixed; copy_paste.probability puts animals into other pictures"),
    "cutmix": _none("pictures are not mixed; copy_paste.probability puts animals into other pictures"),
    "copy_paste": Word("copy_paste.probability"),
    "degrees": Word("augmentation.degrees"),
    "translate": Word("augmentation.translate"),
    "scale": Word("augmentation.scale"),
    "shear": Word("augmentation.shear"),
    "perspective": _none("there is no perspective; augmentation.shear is the nearest"),
    "fliplr": Word("augmentation.flip_horizontal"),
    "flipud": Word("augmentation.flip_vertical"),
    "hsv_h": Word("augmentation.hue"),
    "hsv_s": Word("augmentation.saturation"),
    "hsv_v": Word("augmentation.value"),
    "erasing": _none("it is for classification, and nothing here erases"),
    "auto_augment": _none("it is for classification; augmentation names what is drawn here"),
    "multi_scale": Word(
        "multi_scale.enabled", "0.25 at 640 pixels is multi_scale.smallest=480 multi_scale.largest=800"
    ),
    "rect": _none("training pictures are square, evaluated ones as they are"),
    "single_cls": _none("make one class of all with a taxonomy: marauder data organize --taxonomy FILE"),
    "dropout": _none("it is for classification"),
    "val": _none("every epoch is evaluated; training.evaluate_every=N leaves epochs out"),
    "save": _none("weights and checkpoints are always kept; training.keep_checkpoints says how many"),
    "save_period": Word("training.checkpoint_seconds", "a checkpoint every so many seconds"),
    "plots": _none("the report is always written"),
    "project": Word("runs", "or output=FOLDER (--output); our project is the name in tracker and registry"),
    "name": Word("id", "or output=FOLDER (--output)"),
    "save_dir": Word("output"),
    "exist_ok": _none("the same command resumes; the option --fresh starts over"),
    "resume": _none("the same command resumes; the option --resume names a checkpoint"),
    "time": _none("the option --max-hours"),
    "cache": Word("cache_gigabytes", "on disk, which is the default; 0 switches it off"),
    "fraction": _none("make a smaller data set: marauder manifest sample"),
    "cfg": _none("name the settings file first: marauder train train.yaml"),
}
"""Ultralytics' name of a setting of a training, in the order of the documentation."""

PREDICTING: Mapping[str, Word] = {
    "source": Word("inputs", "or words of their own: marauder predict --model MODEL FILES"),
    "conf": Word("confidence", "--conf"),
    "max_det": Word("max_detections"),
    "agnostic_nms": _none("overlapping boxes are suppressed class by class; iou is the overlap"),
    "imgsz": Word("image_size", "--imgsz"),
    "vid_stride": Word("every"),
    "save": Word("formats", "formats=annotated writes pictures with their boxes"),
    "save_txt": Word("formats", "formats=yolo writes labels"),
    "save_json": Word("formats", "formats=coco writes them as COCO"),
    "project": Word("output"),
    "name": Word("output"),
    "exist_ok": _none("the same command resumes; --fresh replaces what is there"),
}
"""The same of ``marauder predict``."""

EXPORTING: Mapping[str, Word] = {
    "model": Word("models"),
    "format": Word("formats"),
    "imgsz": Word("image_size", "--imgsz"),
    "data": Word("pictures"),
    "half": _none("files are written in float32"),
    "int8": _none("files are written in float32"),
    "quantize": _none("files are written in float32"),
}
"""The same of ``marauder export``."""

EVALUATING: Mapping[str, Word] = {
    "imgsz": Word("image_size", "--imgsz"),
    "conf": _none("boxes of every confidence are measured; precision and recall are those at the best one"),
    "iou": _none("overlapping boxes are suppressed as in every measurement here, so that figures compare"),
    "batch": _none("pictures go through the detector in batches of its own choice"),
    "project": Word("output"),
    "name": Word("output"),
}
"""The same of ``marauder evaluate``."""


def told(word: str, meant: Word, prefix: str = "") -> str:
    """What to say of Ultralytics' ``word``; ``prefix`` goes before the name of our setting."""
    if not meant.ours:
        return meant.note
    return f"{word} is called {prefix}{meant.ours} in Marauder" + (f" ({meant.note})" if meant.note else "")


def answers(words: Mapping[str, Word] = TRAINING, prefix: str = "") -> dict[str, str]:
    """What to say of each word, as ``Settings.elsewhere`` has it; ``prefix`` goes before our names."""
    return {word: told(word, meant, HERE + prefix) for word, meant in words.items()}


def documented() -> list[str]:
    """The rows of the documentation's table."""
    rows = []
    for word, meant in TRAINING.items():
        ours = f"`{meant.ours}`" if meant.ours else "none"
        rows.append(f"| `{word}` | {ours}{': ' if meant.note else ''}{meant.note} |")
    return rows
