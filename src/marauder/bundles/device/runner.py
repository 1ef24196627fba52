"""Finds animals in pictures with the detector of this bundle; needs numpy, OpenCV, and TensorRT or ONNX Runtime.

    python3 runner.py PICTURE ... [--engine FILE] [--output boxes.jsonl]

Written for the Python 3.6 and numpy 1.13 of JetPack 4.6; it runs unchanged on newer ones. Boxes are the same as
Marauder's own to the last bit where the raw answers are.
"""

import argparse
import ctypes
import json
import os
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

GREY = 114
CLASS_OFFSET = 7680
MOST_CANDIDATES = 30000
HERE = os.path.dirname(os.path.abspath(__file__))


def read_bundle(folder: str = HERE) -> Dict[str, Any]:
    """What ``bundle.json`` says of the detector."""
    with open(os.path.join(folder, "bundle.json"), encoding="utf-8") as file:
        content = json.load(file)
    if content.get("format") != 1:
        raise SystemExit("bundle.json: this runner knows format 1, not %r" % content.get("format"))
    return content


# From a picture to the input.


def letterbox(picture: np.ndarray, height: int, width: int) -> Tuple[np.ndarray, Dict[str, int]]:
    """The picture (H, W, 3) scaled into a grey canvas of the input's size, and where it lies in it."""
    rows, columns = picture.shape[:2]
    gain = min(float(height) / rows, float(width) / columns)
    scaled_width, scaled_height = max(1, int(round(columns * gain))), max(1, int(round(rows * gain)))
    left = int(round((width - scaled_width) / 2.0 - 0.1))
    top = int(round((height - scaled_height) / 2.0 - 0.1))
    if (rows, columns) != (scaled_height, scaled_width):
        picture = cv2.resize(picture, (scaled_width, scaled_height), interpolation=cv2.INTER_LINEAR)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = GREY
    canvas[top : top + scaled_height, left : left + scaled_width] = picture
    place = {
        "width": columns,
        "height": rows,
        "scaled_width": scaled_width,
        "scaled_height": scaled_height,
        "left": left,
        "top": top,
    }
    return canvas, place


def red_first(picture: np.ndarray) -> np.ndarray:
    """OpenCV reads pictures blue first; the detector was trained on red first."""
    return np.ascontiguousarray(picture[:, :, ::-1])


def to_input(canvas: np.ndarray) -> np.ndarray:
    """float32 (1, 3, H, W) in 0..1 of a letterboxed picture uint8 (H, W, 3), red first."""
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))


# From the raw answer to boxes.


def suppress(raw: np.ndarray, confidence: float, iou: float, most: int, several_labels: bool) -> np.ndarray:
    """Class-wise non-maximum suppression: float32 (N, 6) rows x0 y0 x1 y1 score class, best first.

    ``raw``: float32 (4 + classes, A), centre-size boxes in pixels of the input, then scores. All sums are in float32,
    as where the detector was trained: rounding decides ties.
    """
    classes = raw.shape[0] - 4
    limit = np.float32(confidence)
    scores = raw[4:]
    columns = np.flatnonzero(scores.max(axis=0) > limit)
    boxes, scores = raw[:4, columns].T, scores[:, columns].T
    half = boxes[:, 2:] / np.float32(2)
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    if several_labels and classes > 1:
        row, label = np.nonzero(scores > limit)
    else:
        label = scores.argmax(axis=1)
        row = np.arange(len(scores))
    found = np.concatenate(
        [corners[row], scores[row, label][:, None], label[:, None].astype(np.float32)], axis=1
    ).astype(np.float32)
    order = np.argsort(-found[:, 4], kind="mergesort")
    if len(order) > MOST_CANDIDATES:
        order = order[:MOST_CANDIDATES]
    found = found[order]
    return found[_kept(found, iou, most)]


def _kept(found: np.ndarray, iou: float, most: int) -> List[int]:
    """The rows of ``found`` (best first) that no better one of their class covers by more than ``iou``."""
    shifted = found[:, :4] + found[:, 5:6] * np.float32(CLASS_OFFSET)
    x0, y0, x1, y1 = (np.ascontiguousarray(shifted[:, side]) for side in range(4))
    areas = (x1 - x0) * (y1 - y0)
    left = np.arange(len(found))
    kept = []  # type: List[int]
    while len(left) and len(kept) < most:
        best, rest = left[0], left[1:]
        kept.append(int(best))
        wide = np.maximum(np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]), np.float32(0))
        high = np.maximum(np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]), np.float32(0))
        common = wide * high
        with np.errstate(divide="ignore", invalid="ignore"):
            overlap = common / (areas[best] + areas[rest] - common)
        # A box without area has no overlap with itself: not a number, which covers nothing.
        # The limit is no float32; old and new numpy would round it differently beside one.
        left = rest[~(overlap.astype(np.float64) > iou)]
    return kept


def restore(boxes: np.ndarray, place: Dict[str, int]) -> np.ndarray:
    """Boxes (N, 4) of the input in pixels of the picture, clipped to it; float64."""
    gains = np.array(
        [place["scaled_width"] / float(place["width"]), place["scaled_height"] / float(place["height"])] * 2
    )
    corner = np.array([place["left"], place["top"], place["left"], place["top"]])
    moved = (boxes.astype(np.float64) - corner) / gains
    most = np.array([place["width"], place["height"], place["width"], place["height"]], np.float64)
    return np.minimum(np.maximum(moved, 0.0), most)


def calibrated(scores: np.ndarray, classes: np.ndarray, curves: Optional[Sequence[Any]]) -> np.ndarray:
    """How often boxes of such scores are right, by the curve of their class; float64."""
    if curves is None:
        return scores.astype(np.float64)
    found = np.empty(len(scores), np.float64)
    for number in np.unique(classes):
        said, right = (np.array(part, np.float64) for part in curves[int(number)])
        own = scores[classes == number].astype(np.float64)
        step = np.minimum(np.maximum(np.searchsorted(said, own, "right") - 1, 0), len(said) - 2)
        values = np.interp(own, said, right)
        found[classes == number] = np.minimum(np.maximum(values, right[step]), right[step + 1])
    return found


def report(rows: np.ndarray, place: Dict[str, int], bundle: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The boxes of one picture as they are told: calibrated, above the threshold of their class, best first."""
    rules = bundle["rules"]
    classes = rows[:, 5].astype(np.int64)
    told = calibrated(rows[:, 4], classes, rules["curves"])
    # Rows come best first by the detector's own scores, which also say which are left out where there are too many.
    chosen = np.flatnonzero(told >= np.array(rules["thresholds"], np.float64)[classes])[: rules["max_detections"]]
    chosen = chosen[np.argsort(-told[chosen], kind="mergesort")]
    boxes = restore(rows[chosen, :4], place)
    names = bundle["names"]
    return [
        {"class": names[classes[at]], "score": float(told[at]), "box": [float(side) for side in boxes[number]]}
        for number, at in enumerate(chosen)
    ]


# Engines: what answers float32 (1, 3, H, W) with float32 (1, 4 + classes, A).


class OnnxEngine:
    """The graph run by ONNX Runtime: where there is no TensorRT, and for trying a bundle at the desk."""

    def __init__(self, path: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        self.version = "ONNX Runtime %s" % onnxruntime.__version__

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """The raw answer."""
        return np.asarray(self.session.run(None, {self.name: pictures})[0], np.float32)


class _Cuda:
    """The few calls of the CUDA runtime that are needed, without a package that has to be built on the board."""

    TO_DEVICE, TO_HOST = 1, 2

    def __init__(self) -> None:
        problems = []
        for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2"):
            try:
                self.library = ctypes.CDLL(name)
                break
            except OSError as error:
                problems.append(str(error))
        else:
            raise RuntimeError("the CUDA runtime was not found: " + "; ".join(problems))

    def check(self, status: int, what: str) -> None:
        if status != 0:
            raise RuntimeError("CUDA: %s failed with status %d" % (what, status))

    def allocate(self, count: int) -> int:
        pointer = ctypes.c_void_p()
        self.check(self.library.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(count)), "cudaMalloc")
        return int(pointer.value or 0)

    def copy(self, target: int, source: int, count: int, kind: int) -> None:
        arguments = (ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(count), ctypes.c_int(kind))
        self.check(self.library.cudaMemcpy(*arguments), "cudaMemcpy")

    def wait(self) -> None:
        self.check(self.library.cudaDeviceSynchronize(), "cudaDeviceSynchronize")


class TensorRTEngine:
    """An engine built by ``build.sh`` on this very board. TensorRT 8 names bindings by number, 10 tensors by name."""

    def __init__(self, path: str) -> None:
        import tensorrt

        self.version = "TensorRT %s" % tensorrt.__version__
        logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        with open(path, "rb") as file:
            self.engine = tensorrt.Runtime(logger).deserialize_cuda_engine(file.read())
        if self.engine is None:
            raise RuntimeError("%s was built on another board or for another TensorRT: build it again here" % path)
        self.context = self.engine.create_execution_context()
        self.cuda = _Cuda()
        self.by_name = hasattr(self.engine, "num_io_tensors")
        self.memory = {}  # type: Dict[str, Tuple[int, np.ndarray]]
        self.inputs, self.outputs, self.order = [], [], []  # type: List[str], List[str], List[str]
        count = self.engine.num_io_tensors if self.by_name else self.engine.num_bindings
        for number in range(count):
            if self.by_name:
                name = self.engine.get_tensor_name(number)
                shape, kind = self.engine.get_tensor_shape(name), self.engine.get_tensor_dtype(name)
                is_input = self.engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT
            else:
                name = self.engine.get_binding_name(number)
                shape, kind = self.engine.get_binding_shape(number), self.engine.get_binding_dtype(number)
                is_input = self.engine.binding_is_input(number)
            host = np.empty(tuple(shape), tensorrt.nptype(kind))
            device = self.cuda.allocate(host.nbytes)
            self.memory[name] = (device, host)
            (self.inputs if is_input else self.outputs).append(name)
            self.order.append(name)
            if self.by_name:
                self.context.set_tensor_address(name, device)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """The raw answer."""
        device, host = self.memory[self.inputs[0]]
        host[...] = pictures
        self.cuda.copy(device, host.ctypes.data, host.nbytes, _Cuda.TO_DEVICE)
        if self.by_name:
            done = self.context.execute_async_v3(0)
        else:
            done = self.context.execute_v2([self.memory[name][0] for name in self.order])
        if not done:
            raise RuntimeError("TensorRT did not run the engine")
        self.cuda.wait()
        device, host = self.memory[self.outputs[0]]
        self.cuda.copy(host.ctypes.data, device, host.nbytes, _Cuda.TO_HOST)
        return np.array(host, np.float32)


def open_engine(path: str) -> Any:
    """The engine in a file: ``.onnx`` by ONNX Runtime, anything else by TensorRT."""
    return OnnxEngine(path) if path.endswith(".onnx") else TensorRTEngine(path)


class Detector:
    """An engine with what the bundle says of it."""

    def __init__(self, engine: Any, bundle: Dict[str, Any]) -> None:
        self.engine, self.bundle = engine, bundle

    def raw(self, canvas: np.ndarray) -> np.ndarray:
        """float32 (4 + classes, A) of a letterboxed picture uint8 (H, W, 3), red first."""
        return self.engine.run(to_input(canvas))[0]

    def rows(self, raw: np.ndarray) -> np.ndarray:
        """Suppressed boxes of a raw answer, in pixels of the input, with the detector's own scores."""
        rules = self.bundle["rules"]
        return suppress(raw, rules["least"], rules["iou"], rules["candidates"], rules["several_labels"])

    def find(self, picture: np.ndarray) -> List[Dict[str, Any]]:
        """The animals in a picture as OpenCV reads it: uint8 (H, W, 3), blue first."""
        height, width = self.bundle["input"]
        canvas, place = letterbox(red_first(picture), height, width)
        return report(self.rows(self.raw(canvas)), place, self.bundle)


def newest_engine(folder: str = HERE) -> str:
    """The engine that the self-test chose. Exits with what to do where there is none."""
    verdict = os.path.join(folder, "verdict.json")
    if os.path.isfile(verdict):
        with open(verdict, encoding="utf-8") as file:
            chosen = json.load(file).get("engine")
        if chosen and os.path.isfile(os.path.join(folder, chosen)):
            return os.path.join(folder, chosen)
    raise SystemExit("no engine has passed the self-test yet; run ./build.sh")


def main(words: Optional[Sequence[str]] = None) -> int:
    """Look at pictures; a line of JSON each."""
    parser = argparse.ArgumentParser(description="Find animals in pictures with this bundle's detector.")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--engine", help="default: the one that the self-test chose")
    parser.add_argument("--output", help="file for the lines; default: the screen")
    given = parser.parse_args(words)
    detector = Detector(open_engine(given.engine or newest_engine()), read_bundle())
    out = open(given.output, "w", encoding="utf-8") if given.output else sys.stdout
    unread = 0
    try:
        for path in given.pictures:
            picture = cv2.imread(path)
            if picture is None:
                unread += 1
                sys.stderr.write("%s: cannot be read as a picture; set aside\n" % path)
                continue
            out.write(json.dumps({"picture": path, "animals": detector.find(picture)}) + "\n")
    finally:
        if given.output:
            out.close()
    return 1 if unread else 0


if __name__ == "__main__":
    sys.exit(main())
