"""Without RAY_ADDRESS a stage has a Ray of its own, also on a machine where a cluster has been started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]
CODE = """
import ray
from omegaconf import OmegaConf
from recipe.on_verl.ray_session import connected
config = OmegaConf.create(
    {
        "env": {}, "run": {"patience": 30}, "cluster": {"num_cpus": 13, "num_gpus": 1},
        "trainer": {"nnodes": 1, "n_gpus_per_node": 1},
    }
)
with connected(config):
    print("cpus", int(ray.cluster_resources()["CPU"]))
"""


def test_a_cluster_of_this_machine_is_left_alone():
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: sockets lie there, and have short names
        (Path(folder) / "ray").mkdir()
        # What `ray start --head` leaves for `ray.init()` to find; nobody listens there.
        (Path(folder) / "ray/ray_current_cluster").write_text("127.0.0.1:9")
        environment = os.environ | {"RAY_TMPDIR": folder, "VERL_PLATFORM": "cpu"}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=150, env=environment
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "cpus 13" in done.stdout
