"""Methods over several processes, and what importing them does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from marauder.core.plugins import names
from marauder.models.pretraining.base import build_method
from marauder.models.pretraining.settings import MethodSettings

SMALL = MethodSettings(hidden=16, output=8, queue=16, prototypes=16, points=4)


def _train(rank: int, port: int, name: str, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    method = build_method(name, "yolov8t", SMALL, 0)
    network = DistributedDataParallel(method, broadcast_buffers=False)  # fails on the second step when one is unused
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    generator = torch.Generator().manual_seed(rank)
    matrices = torch.eye(3).expand(2, 2, 3, 3)
    for step in range(3):
        sums, weight = method.loss(network(torch.rand(2, 2, 3, 64, 64, generator=generator)), {"matrices": matrices})
        optimizer.zero_grad()
        (sums.sum() / weight).backward()
        optimizer.step()
        method.updated(step, 3)
    # Running statistics are each rank's own, as in detection; all that decides the training is the same.
    state = {key: value for key, value in method.state_dict().items() if "running_" not in key}
    torch.save(state, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("name", names("pretraining_method"))
def test_ranks_stay_the_same(name: str, tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    multiprocessing.spawn(_train, (port, name, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    start = build_method(name, "yolov8t", SMALL, 0).state_dict()
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key
    moved = [key for key in one if key.startswith(("student", "teacher", "centers", "contrast"))]
    assert all(
        any(k.startswith(part) and not torch.equal(one[k], start[k]) for k in moved) for part in ("stu", "teach")
    )
    assert any(k.startswith(("centers", "contrast")) and not torch.equal(one[k], start[k]) for k in moved)


IMPORT = """
import socket, sys

def refuse(*arguments, **options):
    raise RuntimeError("a connection was tried")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import marauder.models.pretraining.settings
assert "torch" not in sys.modules
import marauder.models.pretraining.base
import marauder.models.pretraining.signs
import marauder.models.pretraining.probing
assert not any(name.split(".")[0] == "lightly" for name in sys.modules)
from marauder.core.plugins import names, resolve
for name in names("pretraining_method"):
    resolve("pretraining_method", name)
assert "lightly.loss.ntx_ent_loss" in sys.modules
assert not {"hydra", "lightning", "pytorch_lightning"} & set(sys.modules)
"""


def test_importing_is_lazy_and_opens_no_connection() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
