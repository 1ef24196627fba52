"""What computes: the one meaning of a device in all settings. Reading one needs no torch."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from marauder.core.settings import OnThisMachine
from marauder.core.wording import counted

CHOICES = "auto, cpu, cuda or cuda:N; N alone is cuda:N"
"""Describes a device where users choose one."""
_NAME = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def device_name(value: Any) -> str:
    """The device that was named; a number is that of a GPU, as Ultralytics writes it. Raises ``ValueError``."""
    text = str(value).strip().lower()
    if "," in text:
        raise ValueError(f"{text}: name one device; several GPUs are for a training with processes=N")
    text = f"cuda:{text}" if text.isdigit() else text
    if _NAME.fullmatch(text) is None:
        raise ValueError("choose auto, cpu, cuda or cuda:N")
    return text


def missing_gpu(device: str) -> str | None:
    """Why this machine cannot compute on ``device``, and what to do; ``None``: it can. Only a GPU that is named
    loads torch."""
    if not device.startswith("cuda"):
        return None
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) < count:
        return None
    held = counted(count, "GPU") if count else "no GPU that PyTorch can use"
    return f"{device}: this machine has {held}; choose {'another, or ' if count else ''}cpu, or leave it out"


def lacks_gpu(device: str) -> bool:
    """Whether training on ``device`` (``auto`` included) would be on the processor of this machine."""
    if device == "auto":
        import torch

        return not torch.cuda.is_available()
    return not device.startswith("cuda")


Device = Annotated[str, BeforeValidator(device_name), OnThisMachine(missing_gpu)]
"""A setting that names a device."""
