"""The one door to Ultralytics: architectures by name, the loss as unnormalised sums, suppression, foreign files.

Ultralytics supplies architecture and loss as plain modules; nothing of its trainer, validator or data loading is used.
Forms are those of 8.4 (pinned ``>=8.4.190,<8.5``); ``tests/models`` holds the contract this file relies on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import torchvision  # noqa: F401 - Ultralytics picks torchvision's suppression only when it is already imported
from torch import nn

from marauder.core.environment import cache_folder
from marauder.core.errors import UserError
from marauder.models.ignored_places import IGNORED_BOXES, IGNORED_INDEX, LossOutside, ignored_cells
from marauder.models.loss_gains import GAINS, LossGains
from marauder.models.naming import family_and_scale, unknown_detector
from marauder.models.trusts import TRUSTS, by_picture, of_cells
from marauder.models.unreadable import UNREADABLE

_THREADS_BEFORE = os.environ.get("OMP_NUM_THREADS")
# Before the import, which reads them: no look at the network, no pip install, no settings in the home folder.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_VERBOSE", "false")
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = str(cache_folder() / "ultralytics")
Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)

from ultralytics.nn.tasks import DetectionModel, torch_safe_load, yaml_model_load  # noqa: E402
from ultralytics.utils.downloads import safe_download  # noqa: E402
from ultralytics.utils.loss import v8DetectionLoss  # noqa: E402
from ultralytics.utils.nms import non_max_suppression  # noqa: E402

if _THREADS_BEFORE is None:
    # Importing Ultralytics sets one thread for every process started from here; that is the caller's choice.
    os.environ.pop("OMP_NUM_THREADS", None)

TINY = {"depth_width_channels": [0.33, 0.125, 128], "reg_max": 4}
"""Scale ``t``: about 62 thousand parameters, for tests and the demonstration; not one of Ultralytics' own scales."""


def build_detector(
    name: str, class_names: Sequence[str], seed: int = 0, branch_width: int | None = None
) -> DetectionModel:
    """An untrained detector by name (``yolov8n``, ``yolo11m``, ``yolov8t``), its weights a function of ``seed``.

    ``branch_width``: channels of the class branch's hidden layers (see ``class_branch_width``); ``None``: what the
    architecture has for that many classes. Raises ``UserError`` for a width that it has for no number of classes.

    In training mode it takes images float (B, 3, H, W) in 0..1 with H and W multiples of 32, and returns a dict
    ``boxes`` (B, 4·reg_max, A), ``scores`` (B, classes, A) logits, ``feats``; in evaluation mode a pair of the decoded
    predictions (B, 4 + classes, A), centre-size boxes in pixels and scores in 0..1, and that dict.
    """
    found = family_and_scale(name)
    if found is None:
        raise UserError(unknown_detector(name))
    if not class_names:
        raise UserError("a detector needs at least one class; check the names in data.yaml")
    family, scale = found
    architecture = yaml_model_load(f"{family}{'n' if scale == 't' else scale}.yaml")
    if scale == "t":
        architecture["scales"] = {"t": TINY["depth_width_channels"]}
        architecture["reg_max"] = TINY["reg_max"]
    architecture["scale"] = scale
    # The caller's stream of random numbers continues as if nothing had been drawn here.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DetectionModel(dict(architecture), ch=3, nc=len(class_names), verbose=False)
        if branch_width is not None and branch_width != class_branch_width(model):
            torch.manual_seed(seed)
            model = _with_branch_width(architecture, len(class_names), branch_width)
    return prepare(model, class_names, architecture=f"{family}{scale}")


def class_branch_width(model: DetectionModel) -> int:
    """Channels of the class branch's hidden layers, the same at every stride.

    A freshly built head has ``max(C, min(classes, 100))``, C the channels of its first input: the width follows the
    number of classes, and a fine-tuned detector may have another one than its own number of classes would give.
    """
    layers: Any = model.model
    head = layers[-1]
    return int(head.cv3[0][-1].in_channels)


def _with_branch_width(architecture: dict[str, Any], classes: int, width: int) -> DetectionModel:
    """A detector whose class branch is ``width`` channels wide: built for as many classes as have that width (see
    ``class_branch_width``), then given the last layers of ``classes``."""
    model = DetectionModel(dict(architecture), ch=3, nc=min(max(width, 1), 100), verbose=False)
    if class_branch_width(model) != width:
        raise UserError(f"no detector of this architecture has a class branch {width} channels wide")
    layers: Any = model.model
    head, described = layers[-1], cast(dict[str, Any], model.yaml)
    for branch in head.cv3:
        branch[-1] = nn.Conv2d(width, classes, 1)
    head.nc = described["nc"] = classes
    head.no = classes + 4 * head.reg_max
    head.bias_init()
    return model


def prepare(model: DetectionModel, class_names: Sequence[str], architecture: str | None = None) -> DetectionModel:
    """Give a model its class names, its name and the loss gains as a namespace (a loaded model has them as a dict)."""
    model.names = dict(enumerate(class_names))
    model.args = SimpleNamespace(**asdict(GAINS))  # type: ignore[assignment]
    model.criterion = None
    if architecture is not None:
        model.marauder_architecture = architecture  # type: ignore[assignment]
    return model


def input_stride(model: DetectionModel) -> int:
    """The number of pixels that picture sides must be a multiple of."""
    return int(model.stride.max())


class DetectionLossSums(v8DetectionLoss):
    """The YOLOv8 detection loss as sums over positives, so that the result does not depend on how a batch is cut.

    The stock loss divides by the weight of the positives *of the call*; this one returns numerators and weight, and the
    training loop divides by the weight of the whole global batch.

    Source of the loss: task-aligned assignment, Feng et al., "TOOD", ICCV 2021; CIoU, Zheng et al., AAAI 2020;
    distribution focal loss, Li et al., NeurIPS 2020.
    """

    def __init__(
        self,
        model: DetectionModel,
        gains: LossGains = GAINS,
        classification: nn.Module | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        """``classification``: scores (logits) and targets (B, A, classes) to the loss of each, instead of binary
        cross-entropy (``models.focal``); ``class_weights``: (classes,), factors on it. The assignment stays."""
        super().__init__(model)
        self.hyp = SimpleNamespace(**asdict(gains))  # type: ignore[assignment]
        self.outside = LossOutside(classification.to(self.device) if classification is not None else self.bce)
        self.bce = self.outside  # type: ignore[assignment]
        if class_weights is not None:
            weights = torch.tensor(list(class_weights), dtype=torch.float32, device=self.device)
            self.class_weights = weights.view(1, 1, -1)
        self._weight = torch.zeros((), device=self.device)
        self._boxes: tuple[torch.Tensor, torch.Tensor] | None = None
        self.assigner.register_forward_hook(self._assigned)

    def _assigned(
        self, _module: nn.Module, _inputs: Any, outputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        """What the assigner says, its target scores times the trust of the boxes; their sum is remembered."""
        trusted = self._trusted(*outputs) if self._boxes is not None else outputs
        # The stock loss divides by this sum, by 1 at least.
        self._weight = trusted[2].sum().float()
        return trusted if self._boxes is not None else None

    def _trusted(self, *outputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        labels, boxes, scores, foreground, chosen = outputs
        assert self._boxes is not None
        if self.assigner.n_max_boxes:
            trusts = by_picture(*self._boxes, len(scores), self.assigner.n_max_boxes)
            scores = scores * of_cells(trusts, chosen)[..., None].to(scores.dtype)
        return labels, boxes, scores, foreground, chosen

    def sums(self, predictions: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss numerators (3,) in the order of ``LOSS_NAMES``, gains applied, and the weight of the positives ().

        ``batch``: ``batch_idx`` (N,), ``cls`` (N, 1), ``bboxes`` (N, 4) centre-size in 0..1, and, where it has any, the
        boxes of ``models.ignored_places`` and the trusts of ``models.trusts``.
        """
        outputs = {key: _as_float(value) for key, value in self.parse_output(predictions).items()}
        self.outside.cells = None
        if IGNORED_INDEX in batch:
            index, boxes = (batch[name].to(self.device) for name in (IGNORED_INDEX, IGNORED_BOXES))
            grids = [(int(level.shape[2]), int(level.shape[3])) for level in outputs["feats"]]
            self.outside.cells = ignored_cells(index, boxes, outputs["scores"].shape[0], grids)
        self._boxes = (batch["batch_idx"].to(self.device), batch[TRUSTS].to(self.device)) if TRUSTS in batch else None
        normalised = self.get_assigned_targets_and_loss(outputs, batch)[1]
        # Takes back the stock loss's division.
        return normalised * self._weight.clamp(min=1), self._weight.detach()


def _as_float(value: Any) -> Any:
    return [item.float() for item in value] if isinstance(value, (list, tuple)) else value.float()


def suppress(
    decoded: torch.Tensor,
    confidence: float,
    iou: float,
    max_detections: int = 300,
    multi_label: bool = True,
    classes: Sequence[int] | None = None,
) -> list[torch.Tensor]:
    """Class-wise non-maximum suppression: a list of (M, 6) tensors x0 y0 x1 y1 score class, in pixels of the input.

    ``decoded``: (B, 4 + classes, A). ``multi_label``: one anchor may give several classes (as for measuring mAP).
    ``classes``: numbers of those that are wanted; ``None``: all.
    """
    return non_max_suppression(
        decoded,
        conf_thres=confidence,
        iou_thres=iou,
        classes=None if classes is None else list(classes),
        multi_label=multi_label,
        max_det=max_detections,
        max_time_img=1e6,  # its time limit answers empty rows for pictures that were not reached
    )


@contextmanager
def _plainly_named(path: Path) -> Iterator[Path]:
    """``path``, or a link to it where Ultralytics would take a part of its name for the query of an address."""
    if "?" not in str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model.pt"
        link.symlink_to(path.absolute())
        yield link


RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
"""Where Ultralytics' release has its weights, the one that the pinned version of the package fetches from."""


def download_released(name: str, folder: Path, address: str = "") -> Path:
    """Download released weights into ``folder``, from ``address``/``name`` or from Ultralytics' own release.

    One attempt, without a progress bar. Raises ``ConnectionError`` whose cause says why, ``OSError``, ``MemoryError``
    (disk full).
    """
    # The whole address: for a bare name Ultralytics would take a file of that name that lies in a folder of its own.
    wanted = f"{(address or RELEASE).rstrip('/')}/{name}"
    return safe_download(wanted, file=name, dir=folder.absolute(), unzip=False, retry=0, min_bytes=1e5, progress=False)


def load_foreign_checkpoint(path: Path) -> tuple[DetectionModel, int, str | None]:
    """Open a ``.pt`` that Marauder did not write, through Ultralytics' restricted loader (known classes only).

    Returns the model in float32, the image size it was trained at (pixels; 640 where the file does not say), and what
    Marauder noted in the file (``None`` in a file that Marauder did not write).
    Raises ``UserError`` for files that are missing, damaged, or hold anything but a detection model.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with _plainly_named(path) as plain:
            checkpoint, _ = torch_safe_load(str(plain), safe_only=True)
    except UNREADABLE as error:
        # A pickle that is none ends in a KeyError, which says a byte and nothing else.
        told = str(error).splitlines() if not isinstance(error, KeyError) else []
        reason = told[0] if told else "it is not a PyTorch file"
        raise UserError(
            f"{path}: cannot be opened as a detector checkpoint ({reason}); expected best.pt or last.pt of a "
            "Marauder or Ultralytics detection run"
        ) from error
    model = checkpoint.get("ema") or checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(model, DetectionModel):
        raise UserError(f"{path}: holds no detection model; expected best.pt or last.pt of a detection run")
    names = model.names if isinstance(model.names, dict) else dict(enumerate(model.names))
    size = (checkpoint.get("train_args") or {}).get("imgsz") or 640
    image_size = max(size) if isinstance(size, (list, tuple)) else int(size)
    noted = checkpoint.get("marauder")
    prepared = prepare(model.float(), [str(names[key]) for key in sorted(names)])
    return prepared, image_size, noted if isinstance(noted, str) else None
