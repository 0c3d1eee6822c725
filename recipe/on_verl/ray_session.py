"""The Ray cluster that a stage runs on: the one at RAY_ADDRESS, or a local one that ends with it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray import exceptions
from ray._private import state
from ray.core.generated import common_pb2
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

from recipe.on_verl import warm
from recipe.run.flatten import plain
from recipe.run.process import WORKER_LOST, shown_variables
from recipe.run.ray_nodes import ClusterError, check_reachable, version_mismatch, wait_for

_WATCH_INTERVAL = 5.0  # seconds
#: Seconds after which a local cluster that has not come up will not. Two idle cores take 2 to 11.
_LIMIT = 180
_TOO_SLOW = "Ray's node did not come up in the time that Ray gives it: this machine is busy with other work"


@contextmanager
def connected(config: Any) -> Iterator[None]:
    """Connect to Ray for the length of the block.

    Args:
        config: the composed configuration; ``env`` goes to every worker, but for credentials, which those
            of a local cluster inherit; ``cluster`` holds the logical resources of a local
            cluster, ``run.patience`` how long a cluster may take to show what the stage asks for.

    Raises:
        ClusterError: veRL would wait for ever for a cluster like this one.
        SystemExit: with `WORKER_LOST`, where another try may go better: a worker was lost, or a local
            cluster was too slow to start.
    """
    environment = shown_variables(config)
    runtime_env = get_ppo_ray_runtime_env(config)
    runtime_env["env_vars"] |= {"TRANSFER_QUEUE_ENABLE": "1", **environment}
    # veRL's loggers run in a worker, which on another machine does not inherit where to write.
    loggers = ("VERL_FILE_LOGGER_PATH", "TENSORBOARD_DIR", "WANDB_DIR", "WANDB_MODE")
    runtime_env["env_vars"] |= {name: os.environ[name] for name in loggers if name in os.environ}
    local: dict[str, Any] = {}
    address, warm_python = os.environ.get("RAY_ADDRESS"), os.environ.get(warm.VARIABLE)
    if not address:
        # "local": else Ray would join a cluster that somebody has started on this machine.
        local = plain(config.cluster) | {"include_dashboard": False, "address": "local"}
        if warm_python:
            runtime_env["py_executable"] = shlex.quote(warm_python)
    else:
        check_reachable(address)
        if kept := sorted(set(config.get("env", {})) - set(environment)):
            print(
                f"{', '.join(kept)} may hold credentials and are not handed to the cluster's workers: its "
                "dashboard shows their variables. Set them on its nodes, where `ray start` runs",
                flush=True,
            )
    try:
        with _python(None if address else warm_python), _at_most(0 if address else _LIMIT):
            ray.init(runtime_env=runtime_env, log_to_driver=True, **local)
    except RuntimeError as error:
        if mismatch := version_mismatch(str(error)):
            raise ClusterError(mismatch) from None
        raise
    except Exception as error:  # Ray has no class for it
        if address or "timed out during startup" not in str(error):
            raise
        traceback.print_exc()
        print(f"error: {_TOO_SLOW}", file=sys.stderr, flush=True)
        sys.exit(WORKER_LOST)  # a second start finds the machine as it is then
    done = threading.Event()
    try:
        wait_for(config.trainer.nnodes, config.trainer.n_gpus_per_node, config.run.patience)
        threading.Thread(target=_watch, args=(done,), daemon=True).start()
        yield
    except (exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
        traceback.print_exc()
        print(f"error: a worker was lost: {in_short(error)}", file=sys.stderr, flush=True)
        sys.exit(WORKER_LOST)
    finally:
        done.set()
        ray.shutdown()


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """End this process by SIGALRM if the block takes longer (0: however long).

    A driver whose node lost the workers that it begins with waits for them in C++, holding Python's lock: no
    thread and no handler of this process would run.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def _python(executable: str | None) -> Iterator[None]:
    """Have Ray start what a node consists of (agents, monitors, its workers' first step) with ``executable``.

    As new interpreters they import for 9 s on two idle cores, and for longer than the 15 s after which
    Ray's node gives itself up on busy ones (https://github.com/ray-project/ray/issues/65983).
    """
    before = sys.executable
    sys.executable = executable or before
    try:
        yield
    finally:
        sys.executable = before


def _watch(done: threading.Event) -> None:
    """End this process when a worker is lost: veRL would wait for the worker's rollouts for ever.

    Whatever the process leaves behind is ended by `recipe.run.supervise`.
    """
    job = ray.get_runtime_context().get_job_id()
    while not done.wait(_WATCH_INTERVAL):
        lost = lost_worker(a for a in state.actors(actor_state_name="DEAD").values() if a["JobID"] == job)
        if lost and not done.wait(_WATCH_INTERVAL):  # the driver may be told, too, and knows more
            print(f"error: a worker was lost: {lost}", file=sys.stderr, flush=True)
            os._exit(WORKER_LOST)


def in_short(error: BaseException) -> str:
    """An error of Ray in one line, without the remote traceback that it carries."""
    text = str(error)
    if "its node has died" in text:
        found = {key: re.search(rf"\b{key}: (\S+)", text) for key in ("name", "ip")}
        name, ip = (match[1] if match else "unknown" for match in found.values())
        return f"the node at {ip}, with {name}, is gone"
    return " ".join(text[max(text.rfind("ray.exceptions."), 0) :].split())[:400]


def lost_worker(dead: Iterable[Mapping[str, Any]]) -> str | None:
    """Which of the dead actors did not end as intended, and why; None if all did.

    Args:
        dead: as `ray._private.state.actors` describes them. Ray's public interface to the same table
            needs its dashboard, which a local cluster does without.
    """
    for actor in dead:
        cause = actor["DeathCause"]
        kind = cause.WhichOneof("context")
        if not kind:
            continue
        context = getattr(cause, kind)
        died = common_pb2.ActorDiedErrorContext
        if kind == "actor_died_error_context":
            ended = (
                context.reason not in (died.WORKER_DIED, died.NODE_DIED)
                or "INTENDED" in context.error_message
            )
        else:
            ended = kind != "oom_context"
        if not ended:
            why = " ".join(context.error_message.split())
            return f"{actor['ActorClassName']} (process {actor['Pid']}): {why}"
    return None
