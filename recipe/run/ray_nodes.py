"""What can be known of a Ray cluster before anything runs on it. Imports no veRL, and Ray only to ask one."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

#: CPUs that a stage reserves beside every GPU: max_colocate_count of the RayResourcePool of veRL's SFT.
CPUS_PER_GPU = 10


class ClusterError(ValueError):
    """The cluster cannot be reached, or is not what a run asks for; the message names the remedy."""


def check_address(address: str) -> None:
    """Refuse the address of a dashboard where one to join at is wanted.

    Raises:
        ClusterError: it is one.
    """
    if address.startswith(("http://", "https://")):
        raise ClusterError(
            f"RAY_ADDRESS={address} is a dashboard, which takes whole runs (make submit). To drive a run "
            "from here give the address that nodes join at, for instance RAY_ADDRESS=head:6379"
        )


def check_reachable(address: str) -> None:
    """Knock at a cluster's door: Ray itself would try for minutes. Names such as ``auto`` are left to it.

    Raises:
        ClusterError: nobody answers.
    """
    check_address(address)
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


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Be connected to the cluster at ``address`` for the length of the block.

    Raises:
        ClusterError: nobody answers, it asks for a token, or it runs another version.
    """
    check_reachable(address)
    import ray

    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ConnectionError) as error:
        if mismatch := version_mismatch(str(error)):
            raise ClusterError(mismatch) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ClusterError(
            f"the Ray cluster at RAY_ADDRESS={address} cannot be joined ({reason}). If its nodes "
            "were started with RAY_AUTH_MODE=token, set it here, too, with the same "
            "~/.ray/auth_token"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def accelerators(address: str) -> list[int]:
    """GPUs of every node of the cluster at ``address``; logical ones, which stand for CPU ranks, count 0.

    Raises:
        ClusterError: as `joined`.
    """
    with joined(address):
        import ray

        return [real_gpus(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def check_cluster(address: str, nodes: int, gpus: int, patience: float) -> None:
    """See whether a cluster has what a run asks for, before anything else is done.

    Args:
        address: of the cluster.
        nodes, gpus: as for `shortage`.
        patience: seconds to wait for more nodes.

    Raises:
        ClusterError: as `joined`, or it has too little.
    """
    with joined(address):
        wait_for(nodes, gpus, patience)


def wait_for(nodes: int, gpus: int, patience: float) -> None:
    """Wait until the cluster that this process is connected to has what is asked for.

    Args:
        nodes, gpus: as for `shortage`.
        patience: seconds; nodes join, autoscalers start some.

    Raises:
        ClusterError: it has too little after that time.
    """
    import ray

    end, said = time.monotonic() + patience, 0.0
    while missing := shortage(ray.nodes(), nodes, gpus):
        if (now := time.monotonic()) > end:
            raise ClusterError(missing)
        if now > said:
            print(f"waiting up to {end - now:.0f} s for nodes: {missing}", flush=True)
            said = now + 60
        time.sleep(1.0)


def real_gpus(resources: Mapping[str, float]) -> int:
    """GPUs of a node that are there: Ray names their type, where ``ray start --num-gpus`` only counts."""
    return int(resources.get("GPU", 0)) if any(r.startswith("accelerator_type:") for r in resources) else 0


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


def shortage(found: Sequence[Mapping[str, Any]], nodes: int, gpus: int) -> str | None:
    """What a cluster lacks for ``nodes`` nodes of ``gpus`` GPUs each; None if nothing.

    Args:
        found: as `ray.nodes` describes them.
        nodes: trainer.nnodes.
        gpus: trainer.n_gpus_per_node (logical GPUs on a CPU cluster).
    """
    alive = [node["Resources"] for node in found if node["Alive"]]
    cpus = CPUS_PER_GPU * gpus
    enough = [r for r in alive if r.get("GPU", 0) >= gpus and r.get("CPU", 0) >= cpus]
    if len(enough) >= nodes:
        return None
    shown = (
        ", ".join(f"{int(r.get('GPU', 0))} GPU(s) and {int(r.get('CPU', 0))} CPUs" for r in alive) or "none"
    )
    return (
        f"the run asks for {nodes} node(s) with {gpus} GPU(s) and {cpus} CPUs each (trainer.nnodes and "
        f"n_gpus_per_node; veRL's SFT reserves {CPUS_PER_GPU} CPUs a GPU), the cluster has {len(alive)} "
        f"node(s), with {shown}. Change the settings or add nodes; both numbers are what `ray start "
        "--num-gpus --num-cpus` says (of a local Ray: cluster.num_gpus and num_cpus), and may be larger than "
        "what is there"
    )
