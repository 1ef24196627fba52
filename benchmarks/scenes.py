"""Claim: at least 50 generated reef pictures a second at 640x480 on one core.

Prints pictures a second with the time of each part (planning and backdrop of the clip, drawing, formation and camera,
encoding, writing), beside JPEG encoding and decoding alone in the same run, and the once-only time for the sprites.
Times are processor time of this process. Exit status 1 below the limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from marauder.core.files import write_bytes
from marauder.scenes.rendering import ClipRenderer
from marauder.scenes.settings import FRAMES_PER_CLIP
from marauder.scenes.species import POSES, SPECIES, VARIANTS, fineness_for, sprite_of
from marauder.scenes.writing import encode
from peers import processor_name

LIMIT = 50.0


class Stopwatch:
    """Adds up processor time by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time under ``name``."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--frames", type=int, default=FRAMES_PER_CLIP, help="pictures a clip")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--quality", type=int, default=92)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    watch = Stopwatch()
    _prepare(watch, chosen.seed, chosen.width)
    with tempfile.TemporaryDirectory() as folder:
        boxes = _generate(watch, chosen, Path(folder))
    _report(watch, chosen, boxes)
    count = chosen.clips * chosen.frames
    return 0 if count / _total(watch) >= LIMIT else 1


def _prepare(watch: Stopwatch, seed: int, width: int) -> None:
    """Everything that is drawn once a process and then used again."""
    with watch.part("once"):
        for index, species in enumerate(SPECIES):
            for variant in range(VARIANTS):
                for pose in range(1 if species.bottom else POSES):
                    sprite_of(seed, index, variant, pose, fineness_for(width))
        for clip in range(40):
            ClipRenderer(seed, clip, width, 120).frame(0)


def _generate(watch: Stopwatch, chosen: argparse.Namespace, folder: Path) -> int:
    boxes = 0
    ClipRenderer(chosen.seed, 0, chosen.width, chosen.height).frame(0)
    for clip in range(chosen.clips):
        with watch.part("clip: plan and backdrop"):
            renderer = ClipRenderer(chosen.seed, clip, chosen.width, chosen.height)
        for number in range(chosen.frames):
            with watch.part("drawing and boxes"):
                drawn = renderer.draw(number)
                boxes += len(renderer.label(drawn)[0])
            with watch.part("formation and camera"):
                picture = renderer.photograph(number, drawn)
            with watch.part("encoding"):
                content = encode(picture, chosen.quality)
            with watch.part("writing"):
                write_bytes(folder / f"{clip}-{number}.jpg", content)
                write_bytes(folder / f"{clip}-{number}.txt", b"")
            with watch.part("floor"):
                cv2.imdecode(np.frombuffer(encode(picture, chosen.quality), np.uint8), cv2.IMREAD_COLOR)
    return boxes


def _total(watch: Stopwatch) -> float:
    return sum(seconds for name, seconds in watch.seconds.items() if name not in ("once", "floor"))


def _report(watch: Stopwatch, chosen: argparse.Namespace, boxes: int) -> None:
    count = chosen.clips * chosen.frames
    total = _total(watch)
    print(f"machine: {processor_name()}, one core; OpenCV {cv2.__version__}, NumPy {np.__version__}")
    print(
        f"{count} pictures of {chosen.width}x{chosen.height}, {chosen.clips} clips, {boxes / count:.1f} boxes a picture"
    )
    for name, seconds in watch.seconds.items():
        if name not in ("once", "floor"):
            print(f"  {name:<26}{1000 * seconds / count:7.2f} ms a picture {100 * seconds / total:5.0f} %")
    print(f"  sprites, once a process   {watch.seconds['once']:7.2f} s")
    print(f"generated: {count / total:.0f} pictures/s (aim: at least {LIMIT:.0f})")
    floor = watch.seconds["floor"]
    print(
        f"encoding and decoding alone: {count / floor:.0f} pictures/s; generating takes {total / floor:.1f} times that"
    )


if __name__ == "__main__":
    sys.exit(main())
