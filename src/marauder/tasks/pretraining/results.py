"""What a pretraining run knows once it is open and measured: the part of its kind that the report reads."""

from __future__ import annotations

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.models.transfer import TransferAccount
from marauder.runs.task_runtime import TaskRuntime
from marauder.tasks.pretraining.data import PicturePool
from marauder.tasks.pretraining.settings import PretrainingSettings


class PretrainingResults(TaskRuntime[PretrainingSettings]):
    """The pictures of a pretraining run, the probe's answer, the signs of collapse, and what a detector takes of it."""

    def __init__(self, settings: PretrainingSettings) -> None:
        # From Python, the settings of another task may be handed over.
        if not isinstance(settings, PretrainingSettings):
            raise UserError("task pretraining: `marauder pretrain` runs it, and knows its settings")
        super().__init__(settings)
        self._pool: PicturePool | None = None
        self.probe: Plain = {}
        self.signs: dict[str, dict[str, float]] = {}
        self.account: TransferAccount | None = None

    @property
    def pool(self) -> PicturePool:
        """The pictures, once ``open`` was called."""
        assert self._pool is not None, "open() comes first"
        return self._pool
