"""A small pipeline of real, slow, resumable steps for the tests; run as a program it works on the workspace given.

``collect`` copies pictures one by one, ``digest`` writes a checksum chain over them, ``seal`` wraps the last link.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.cli.main import run_with_boundary
from marauder.core.clock import Clock
from marauder.core.files import append_line, atomic_path, read_lines, remove_leftovers, write_json
from marauder.core.settings import Settings
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.run import run_steps, select
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace


class CollectSettings(Settings):
    output: Path
    tint: int = 0
    workers: int = 1
    die: str = ""
    """The moment of the clearing away at which the process kills itself: ``before``, ``amid`` or ``after``."""
    pause: float = 0.0


class Collect(Step):
    number, name, title = 0, "collect", "copy pictures"

    def settings_model(self) -> type[Settings]:
        return CollectSettings

    def without_effect(self) -> frozenset[str]:
        return frozenset({"die", "pause", "workers"})

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        return {"output": workspace.datasets / "collected"}

    def inputs(self, workspace: Workspace, settings: CollectSettings) -> tuple[Artifact, ...]:
        return (Artifact("pictures", workspace.images, f"put pictures into {workspace.images}"),)

    def outputs(self, workspace: Workspace, settings: CollectSettings) -> tuple[Artifact, ...]:
        return (Artifact("collection", settings.output),)

    def run(self, context: StepContext) -> Mapping[str, Any]:
        settings: CollectSettings = context.settings
        if context.fresh and settings.output.exists():
            _die(settings.die == "before")
            (settings.output / "0.png").unlink(missing_ok=True)
            _die(settings.die == "amid")
            shutil.rmtree(settings.output)
            _die(settings.die == "after")
        context.begun()
        remove_leftovers(settings.output)  # as every step does: the next one reads all that lies there
        pictures = sorted(context.workspace.images.iterdir())
        for picture in pictures:
            target = settings.output / picture.name
            if not target.exists():
                context.clock.check()
                time.sleep(settings.pause)
                with atomic_path(target) as temporary:
                    temporary.write_bytes(bytes((value + settings.tint) % 256 for value in picture.read_bytes()))
        return {"pictures": len(pictures)}


def _die(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)


class DigestSettings(Settings):
    output: Path
    rounds: int = 3
    pause: float = 0.0
    fail: bool = False


class Digest(Step):
    number, name, title = 2, "digest", "chain checksums"

    def settings_model(self) -> type[Settings]:
        return DigestSettings

    def without_effect(self) -> frozenset[str]:
        return frozenset({"pause", "fail"})

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        return {"output": workspace.model("digest") / "chain.json"}

    def inputs(self, workspace: Workspace, settings: DigestSettings) -> tuple[Artifact, ...]:
        return (Artifact("collection", workspace.datasets / "collected"),)

    def outputs(self, workspace: Workspace, settings: DigestSettings) -> tuple[Artifact, ...]:
        return (Artifact("chain", settings.output),)

    def run(self, context: StepContext) -> Mapping[str, Any]:
        settings: DigestSettings = context.settings
        journal = context.workspace.checkpoints("digest") / "links.jsonl"
        if context.fresh:
            journal.unlink(missing_ok=True)
        context.begun()
        if settings.fail:
            raise ValueError("the chain broke")
        pictures = sorted((context.workspace.datasets / "collected").iterdir())
        links: list[str] = read_lines(journal)
        for position in range(len(links), settings.rounds * len(pictures)):
            context.clock.check()
            time.sleep(settings.pause)
            content = pictures[position % len(pictures)].read_bytes()
            previous = links[-1] if links else ""
            links.append(hashlib.sha256(previous.encode() + content).hexdigest())
            append_line(journal, links[-1])
        write_json(settings.output, links)
        return {"links": len(links), "report": context.workspace.relative(settings.output)}


class SealSettings(Settings):
    word: str


class Seal(Step):
    number, name, title, optional = 9, "seal", "wrap the last link", True

    def settings_model(self) -> type[Settings]:
        return SealSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        return {}

    def inputs(self, workspace: Workspace, settings: SealSettings) -> tuple[Artifact, ...]:
        return (Artifact("chain", workspace.model("digest") / "chain.json"),)

    def outputs(self, workspace: Workspace, settings: SealSettings) -> tuple[Artifact, ...]:
        return (Artifact("seal", workspace.model("seal") / "seal.json"),)

    def run(self, context: StepContext) -> Mapping[str, Any]:
        context.begun()
        write_json(context.workspace.model("seal") / "seal.json", {"word": context.settings.word})
        return {}


STEPS = (Collect(), Digest(), Seal())


def pipeline_at(root: Path, overrides: Sequence[str] = (), config: Path | None = None) -> Pipeline:
    return Pipeline(Workspace.at(root), config, overrides, STEPS)


def fill(root: Path, count: int = 5) -> None:
    """Put ``count`` small files where the pictures belong."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (root / "images" / f"{number}.png").write_bytes(hashlib.sha256(str(number).encode()).digest())


def do(root: Path, *overrides: str, fresh: bool = False, clock: Clock | None = None) -> list[str]:
    """Run every step in this process; returns what was said."""
    said: list[str] = []
    pipeline = pipeline_at(root, overrides)
    run_steps(pipeline, select(pipeline), clock or Clock(), said.append, fresh)
    return said


def main(root: str, *overrides: str) -> None:
    pipeline = pipeline_at(Path(root), overrides)
    with Clock().listening() as clock:
        run_steps(pipeline, select(pipeline), clock, lambda line: print(line, flush=True))


if __name__ == "__main__":
    run_with_boundary(lambda: main(*sys.argv[1:]))
