"""Without RAY_ADDRESS a stage has a Ray of its own, also on a machine where a cluster has been started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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


LISTENING = """
import os, psutil, ray
from omegaconf import OmegaConf
from recipe.on_verl.ray_session import connected

def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])

@ray.remote
class Worker:
    def listen(self):
        import torch.distributed, verl, zmq  # veRL loads our plug-in
        from vllm.utils.network_utils import get_ip

        address = ray.util.get_node_ip_address()
        os.environ.update(MASTER_ADDR=address, MASTER_PORT=free_port(), RANK="0", WORLD_SIZE="1")
        torch.distributed.init_process_group("gloo")
        for ip in (address, get_ip()):  # what TransferQueue and vLLM bind
            self.sockets = [zmq.Context().socket(zmq.ROUTER), *getattr(self, "sockets", [])]
            self.sockets[0].bind_to_random_port(f"tcp://{ip}")

config = OmegaConf.create(
    {
        "env": {"VERL_PLATFORM": "cpu"}, "run": {"patience": 30}, "cluster": {"num_cpus": 13, "num_gpus": 1},
        "trainer": {"nnodes": 1, "n_gpus_per_node": 1},
    }
)
with connected(config):
    worker = Worker.remote()
    ray.get(worker.listen.remote())
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for found in process.net_connections("inet"):
            if found.status == psutil.CONN_LISTEN:
                print("listens", found.laddr.ip, process.name(), flush=True)
"""


def test_a_local_stage_listens_on_this_machine_alone(monkeypatch):
    from recipe.run.process import environment

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=150, env=environment()
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("listens")]
    assert len(found) > 8 and {address for address, _ in found} <= {"127.0.0.1", "::ffff:127.0.0.1"}, found


PRIORITY = """
import os, sys, ray
from omegaconf import OmegaConf
from recipe.on_verl.ray_session import connected
from recipe.run.shortcuts import CONF

config = OmegaConf.create(
    {
        "env": OmegaConf.load(CONF / "hardware/cpu.yaml").env, "run": {"patience": 30},
        "cluster": {"num_cpus": 13, "num_gpus": 1}, "trainer": {"nnodes": 1, "n_gpus_per_node": 1},
    }
)
os.environ.update(config.env)  # as a stage does
with connected(config):
    worker = ray.remote(lambda: os.getpriority(os.PRIO_PROCESS, 0))
    print("priorities", os.getpriority(os.PRIO_PROCESS, 0), ray.get(worker.remote()))
"""


def test_workers_on_a_cpu_have_the_priority_of_what_is_no_worker(monkeypatch):
    # Else vLLM's engine, which Ray does not start, takes the cores from those that feed it.
    for name in ("RAY_ADDRESS", "RAY_worker_niceness"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", PRIORITY], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("priorities")]
    mine, theirs = line.split()[1:]
    assert mine == theirs


WARM = """
import psutil, sys, time
from omegaconf import OmegaConf
from recipe.on_verl import warm

config = OmegaConf.load("conf/hardware/cpu.yaml")
with warm.forking([name for name in config.run.preload if name.startswith("ray.")]):
    import ray
    from recipe.on_verl.ray_session import connected

    def helpers():
        commands = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
        commands = [c for c in commands if "/raylet/raylet " not in c]  # whose arguments name its agents
        names = ("agent.py", "dashboard.py", "log_monitor.py", "monitor.py", "main.py")
        return {n: [c for c in commands if f"/{n} " in c] for n in names}

    config.run.patience, config.trainer.nnodes = 30, 1
    with connected(config):
        assert ray.get(ray.remote(lambda: 2).remote()) == 2
        time.sleep(4)  # an agent that misses its node ends after 2 s, and the node with it
        assert ray.get(ray.remote(lambda: 3).remote()) == 3
        for name, commands in helpers().items():
            print(name, all("warm_client.py" in command for command in commands), len(commands), flush=True)
    time.sleep(2)
    print("left", sum(len(commands) for commands in helpers().values()), sys.executable, flush=True)
"""


def test_a_node_of_ray_starts_as_forks_of_a_warm_process():
    environment = os.environ | {"VERL_PLATFORM": "cpu", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", WARM], capture_output=True, text=True, timeout=150, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("agent.py", "dashboard.py", "log_monitor.py", "monitor.py", "main.py"):
        assert f"{name} True 1" in done.stdout
    assert f"left 0 {sys.executable}" in done.stdout
