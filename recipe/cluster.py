"""The Ray cluster that a stage runs on: the one at RAY_ADDRESS, or a local one that ends with it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from omegaconf import OmegaConf
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

#: How long a cluster may take to show what a stage asks for (nodes join, autoscalers start some).
PATIENCE = 45.0


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or has less than the stage asks for."""


@contextmanager
def connected(config: Any) -> Iterator[None]:
    """Connect to Ray for the length of the block.

    Args:
        config: the composed configuration; ``env`` goes to every worker, ``cluster`` holds the
            logical resources of a local cluster.

    Raises:
        ClusterError: veRL would wait for ever for a cluster like this one.
    """
    environment = {key: str(value) for key, value in config.get("env", {}).items()}
    runtime_env = get_ppo_ray_runtime_env(config)
    runtime_env["env_vars"] |= {"TRANSFER_QUEUE_ENABLE": "1", **environment}
    local = {}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        local = dict(OmegaConf.to_container(config.cluster, resolve=True), include_dashboard=False)
    else:
        _check_reachable(address)
    try:
        ray.init(runtime_env=runtime_env, log_to_driver=True, **local)
    except RuntimeError as error:
        if mismatch := version_mismatch(str(error)):
            raise ClusterError(mismatch) from None
        raise
    try:
        _wait_for(config.trainer.nnodes, config.trainer.n_gpus_per_node)
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes. Names such as ``auto`` are left to it."""
    host, found, port = address.rpartition("//")[2].rpartition(":")
    if not found or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error.strerror or error}); start one, "
            "correct the address, or unset it to use this machine"
        ) from None


def version_mismatch(message: str) -> str | None:
    """What Ray's message says about other versions of Ray or Python, with the remedy; None if nothing."""
    if "Version mismatch" not in message:
        return None
    cluster, here = (
        ", ".join(line.strip() for line in part.splitlines()[1:3])
        for part in message.split("was started with:")[1:3]
    )
    return (
        f"the cluster runs {cluster}, this process {here}: build the same environment on every node "
        "(launch/README.md), or unset RAY_ADDRESS to use this machine"
    )


def _wait_for(nodes: int, gpus: int) -> None:
    end = time.monotonic() + PATIENCE
    while missing := shortage(ray.nodes(), nodes, gpus):
        if time.monotonic() > end:
            raise ClusterError(missing)
        time.sleep(1.0)


def shortage(found: Sequence[Mapping[str, Any]], nodes: int, gpus: int) -> str | None:
    """What a cluster lacks for ``nodes`` nodes of ``gpus`` GPUs each; None if nothing.

    Args:
        found: as `ray.nodes` describes them.
        nodes: trainer.nnodes.
        gpus: trainer.n_gpus_per_node (logical GPUs on a CPU cluster).
    """
    have = [int(node["Resources"].get("GPU", 0)) for node in found if node["Alive"]]
    if sum(count >= gpus for count in have) >= nodes:
        return None
    shown = ", ".join(map(str, have)) or "none"
    return (
        f"the run asks for {nodes} node(s) with {gpus} GPU(s) each (trainer.nnodes and n_gpus_per_node), "
        f"the cluster has {len(have)} node(s) with {shown}. Change the settings or add nodes; a machine "
        "without accelerator stands for as many as `ray start --num-gpus` says"
    )
