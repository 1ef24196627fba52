"""A training process prepared for its work: its CPU threads, and its use of memory."""

from __future__ import annotations

import os

import cv2
import torch

from marauder.engine.memory import keep_freed_memory


def prepare_process(threads: int | None, processes: int) -> int:
    """Set this process's CPU threads, by default its share of the cores, and its use of memory; returns the threads."""
    # torch would give each process every core, and processes side by side would fight for them.
    count = threads or max(1, len(os.sched_getaffinity(0)) // processes)
    keep_freed_memory()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    return count
