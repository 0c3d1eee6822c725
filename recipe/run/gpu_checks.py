"""Whether the GPUs of this machine, their driver and what is compiled for them can carry a run.

CUDA is asked in a process of its own: a process that has opened it cannot be forked any more, and a driver
that is too old makes PyTorch say that there is no GPU at all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, open_dict

from recipe.run.plan_memory import (
    GIB,
    advice,
    architecture,
    longest_row,
    micro_batch_tokens,
    uses_flash_attention,
)

INSTALL = ".venv/bin/pip install flash-attn==2.8.3 --no-build-isolation"
#: Tokens of a micro-batch up to which sdpa stands in for flash-attn: its mask and time are their square.
MOST_MASKED = 32_768
#: Bytes of a GPU that may be taken before a run starts, by a desktop for instance.
_TAKEN = 2 * GIB
_MODEL = "actor_rollout_ref.model"
_ULYSSES = "ulysses_sequence_parallel_size"
_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import torch
found = {"cuda": torch.version.cuda, "problem": None, "gpus": [], "flash_attention": None}
try:
    torch.cuda.init()
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found["gpus"].append({"name": torch.cuda.get_device_name(i), "free": free, "total": total})
except Exception as error:
    found["problem"] = " ".join(str(error).split())
try:
    import flash_attn
    from flash_attn.ops.triton.cross_entropy import cross_entropy_loss
    found["flash_attention"] = flash_attn.__version__
except Exception as error:
    found["no_flash_attention"] = " ".join(str(error).split())
print(json.dumps(found))
"""


class GpuError(ValueError):
    """This machine's GPUs cannot carry the run; the message names the remedy."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, and its free and whole memory in bytes."""

    name: str
    free: int
    total: int


@dataclass(frozen=True)
class Machine:
    """What CUDA says of this machine.

    Attributes:
        gpus: in their order; empty where CUDA cannot be used.
        cuda: the version that PyTorch was built for; None for a build without it.
        problem: what CUDA complained about, None if it works.
        flash_attention: its version; None where it cannot be imported.
        no_flash_attention: why not.
    """

    gpus: Sequence[Gpu] = ()
    cuda: str | None = None
    problem: str | None = None
    flash_attention: str | None = None
    no_flash_attention: str = ""


def probe() -> Machine:
    """Ask CUDA, in a process that ends at once.

    Raises:
        GpuError: that process failed.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise GpuError(f"PyTorch cannot be loaded ({last}); build the environment again: make setup FORCE=1")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Machine(**found | {"gpus": tuple(Gpu(**gpu) for gpu in found["gpus"])})


def settle(config: Any) -> Machine | None:
    """Check what does not depend on the model, and settle what a machine decides; every change is printed.

    Args:
        config: the composed configuration. Attention becomes sdpa where flash-attn is missing, and a rollout
            replica takes no more GPUs than a node has.

    Returns:
        What `check_memory` wants; None where the GPUs are not this machine's.

    Raises:
        GpuError: what is wrong, and the remedy.
    """
    if config.trainer.device == "cpu":
        check_sequence_parallel(config)
        return None
    machine = probe()
    local = os.environ.get("RAY_ADDRESS") is None
    if local:
        check_driver(machine)
        check_compiler(Path(sysconfig.get_path("include")))
        check_free(machine.gpus[: config.trainer.n_gpus_per_node])
    choose_attention(config, machine)
    check_sequence_parallel(config)
    fit_replicas(config)
    return machine if local else None


def fit_replicas(config: Any) -> None:
    """A rollout replica takes no more GPUs than a node has: the paper's 8 become 4 or 2 on such nodes."""
    rollout, gpus = config.actor_rollout_ref.rollout, config.trainer.n_gpus_per_node
    if (asked := rollout.tensor_model_parallel_size) > gpus:
        rollout.tensor_model_parallel_size = gpus
        print(
            f"a node has {gpus} GPU(s), so a rollout replica takes as many, not {asked} "
            "(actor_rollout_ref.rollout.tensor_model_parallel_size)"
        )


def check_driver(machine: Machine) -> None:
    """Refuse a driver that PyTorch's CUDA does not run on.

    Raises:
        GpuError: CUDA cannot be used.
    """
    if machine.problem:
        raise GpuError(
            f"CUDA cannot be used ({machine.problem}). PyTorch is built for CUDA {machine.cuda}: update the "
            "NVIDIA driver to one that knows it (nvidia-smi shows the highest version that yours knows)"
        )


def check_compiler(headers: Path) -> None:
    """Triton compiles a little C for every kernel that veRL, vLLM and flash-attn bring.

    Args:
        headers: the folder of Python's own.

    Raises:
        GpuError: there is no C compiler, or no header to compile against.
    """
    names = (os.environ.get("CC") or "gcc", "clang")
    if not any(shutil.which(name) for name in names):
        raise GpuError(
            "Triton needs a C compiler, and there is neither gcc nor clang (nor what CC names); install one: "
            "apt-get install build-essential"
        )
    if not (headers / "Python.h").is_file():
        raise GpuError(
            f"Triton compiles against {headers / 'Python.h'}, which is missing; install Python's headers "
            "(apt-get install python3-dev) or build .venv with a Python that has them"
        )


def check_free(gpus: Sequence[Gpu]) -> None:
    """Refuse GPUs that somebody else is using.

    Raises:
        GpuError: which one.
    """
    for number, gpu in enumerate(gpus):
        if (taken := gpu.total - gpu.free) > _TAKEN:
            raise GpuError(
                f"GPU {number} ({gpu.name}) is in use: {taken / GIB:.1f} of {gpu.total / GIB:.1f} GiB are "
                "taken. End what holds them (nvidia-smi shows it), or name free ones in CUDA_VISIBLE_DEVICES"
            )


def choose_attention(config: Any, machine: Machine) -> None:
    """sdpa where flash-attn, veRL's default, cannot be imported; rows that are packed stay apart with both.

    Raises:
        GpuError: flash-attn was asked for by name, or sdpa would be too slow.
    """
    model = config.actor_rollout_ref.model
    if machine.flash_attention or not uses_flash_attention(config):
        return
    why = f"flash-attn cannot be imported ({machine.no_flash_attention})"
    if "attn_implementation" in model.override_config:
        raise GpuError(f"{_MODEL}.override_config.attn_implementation asks for it, and {why}: {INSTALL}")
    tokens = micro_batch_tokens(config, longest_row(config))
    if tokens > MOST_MASKED:
        raise GpuError(
            f"{why}, and sdpa in its place would need a mask of {3 * tokens**2 / GIB:,.0f} GiB for the "
            f"{tokens:,} tokens of a micro-batch: {INSTALL}, or at most {MOST_MASKED:,} tokens "
            "(actor_rollout_ref.actor.use_dynamic_bsz=true, ppo_max_token_len_per_gpu)"
        )
    print(f"{why}: attention is sdpa, which is right but slower and takes more memory. {INSTALL}")
    with open_dict(config):
        model.override_config.attn_implementation = "sdpa"


def check_sequence_parallel(config: Any) -> None:
    """veRL splits a sequence over GPUs inside flash-attn's function alone: others would see their part of it.

    Raises:
        GpuError: sequences are split, and attention is another.
    """
    if uses_flash_attention(config):
        return
    roles = ("actor_rollout_ref.actor", "actor_rollout_ref.ref")
    for node in (*roles, *(f"{role}.fsdp_config" for role in roles), "sft.engine"):
        if (size := OmegaConf.select(config, f"{node}.{_ULYSSES}") or 1) > 1:
            raise GpuError(
                f"{node}.{_ULYSSES}={size} needs flash-attn: with other attention every GPU would silently "
                f"see only its part of a row. {INSTALL}, or set it to 1"
            )


def check_memory(config: Any, machine: Machine | None, training: bool) -> None:
    """Refuse what would not fit into this machine's GPUs by `make plan`'s arithmetic.

    Raises:
        GpuError: what does not fit, and which settings would.
    """
    if machine is None or not training or not config.plan.check or config.base.path == "builtin:tiny":
        return
    gpus = machine.gpus[: config.trainer.n_gpus_per_node]
    smallest = min(gpus, key=lambda gpu: gpu.total)
    here = config.copy()
    with open_dict(here):
        here.plan.gpus.here = {"memory_gib": smallest.total / GIB, "tflops": 1}
        here.plan.gpu = "here"
    if found := advice(here, architecture(here)):
        raise GpuError(
            f"{config.base.name} on {len(gpus)} x {smallest.name}: {found[0]} (an estimate; plan.check=false "
            "starts regardless)"
        )
