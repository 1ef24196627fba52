"""Seconds for the views of one picture beside torchvision's SimCLR-like transform of the same size, on one core.

Claim: two views of 160 pixels in under 6 ms and of 320 pixels in under 35 ms. torchvision's arm (v2, on uint8 tensors)
draws crop, flip, jitter, grey and blur, and no water. Prints milliseconds and their ratio, both arms in one run.

    python benchmarks/underwater_views.py --pictures ../shared/data/aquarium
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from marauder.core.randomness import stream
from marauder.data.pictures import decode_picture, scale_picture
from marauder.imaging.underwater_views import ViewSettings, draw_views, geometry_only
from peers import describe_machine

LIMITS_MS = {160: 6.0, 320: 35.0}


def torchvision_views(size: int) -> Callable[[np.ndarray, int], object]:
    """Two views by torchvision with the strengths of our own settings."""
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    ours = ViewSettings()
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, (ours.least_area, ours.most_area), antialias=True),
            v2.RandomHorizontalFlip(ours.flip),
            v2.RandomApply([v2.ColorJitter(ours.brightness, ours.contrast, ours.saturation, ours.hue)], ours.jitter),
            v2.RandomGrayscale(ours.grey),
            v2.RandomApply([v2.GaussianBlur(2 * (size // 20) + 1, (0.1, ours.blur_sigma * size / 224))], ours.blur),
        ]
    )

    def draw(picture: np.ndarray, number: int) -> object:
        torch.manual_seed(number)
        tensor = torch.from_numpy(picture).permute(2, 0, 1)
        return [transform(tensor) for _ in range(2)]

    return draw


def milliseconds(draw: Callable[[np.ndarray, int], object], pictures: list[np.ndarray], rounds: int) -> float:
    """Mean time a picture, of the best round."""
    for number, picture in enumerate(pictures):
        draw(picture, number)
    best = float("inf")
    for turn in range(rounds):
        started = time.perf_counter()
        for number, picture in enumerate(pictures):
            draw(picture, turn * len(pictures) + number)
        best = min(best, (time.perf_counter() - started) / len(pictures))
    return best * 1000


def main() -> int:
    """Time all arms at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    found = sorted(options.pictures.rglob("*.jpg"))
    if not found:
        parser.error(f"no .jpg pictures below {options.pictures}")
    chosen = found[:: max(1, len(found) // options.count)][: options.count]
    machine = describe_machine()
    print(f"{machine}\n{len(chosen)} pictures, two views of each, one thread, best of {options.rounds} rounds")
    figures: dict[str, object] = {"machine": machine, "pictures": len(chosen)}
    missed = False
    every = dict.fromkeys(("cast", "haze", "snow", "caustics", "noise", "blur", "jitter"), 1.0)
    for size, limit in LIMITS_MS.items():
        pictures = [scale_picture(decode_picture(path), round(1.5 * size)) for path in chosen]
        arms: dict[str, Callable[[np.ndarray, int], object]] = {"torchvision v2, no water": torchvision_views(size)}
        for name, settings in (
            ("ours, as set", ViewSettings()),
            ("ours, every change in every view", ViewSettings(enhanced=0.0, **every)),
            ("ours, crop and flip alone", geometry_only(ViewSettings())),
        ):
            arms[name] = lambda picture, number, size=size, settings=settings: draw_views(
                picture, size, settings, stream(0, "views", number)
            )
        times = {name: milliseconds(draw, pictures, options.rounds) for name, draw in arms.items()}
        peer = times["torchvision v2, no water"]
        print(f"{size} pixels:")
        for name, value in times.items():
            print(f"  {name:34s} {value:7.2f} ms   {value / peer:5.2f} × torchvision")
        figures[str(size)] = times
        missed |= times["ours, as set"] > limit
    print(f"limits: {', '.join(f'{ms:g} ms at {px}' for px, ms in LIMITS_MS.items())}: {'MISSED' if missed else 'met'}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
