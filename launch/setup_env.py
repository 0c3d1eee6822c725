"""Build an environment from the pinned requirements of a profile; does nothing when it is up to date.

The profiles `cpu` and `gpu` make `.venv`; `analysis` makes `.venv-analysis`, for `make clusters` alone.
Standard library only: it runs before anything is installed.
`python3 launch/setup_env.py [--profile cpu|gpu|analysis]`.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENVS = {"cpu": ROOT / ".venv", "gpu": ROOT / ".venv", "analysis": ROOT / ".venv-analysis"}
GIB_NEEDED = {"cpu": 6, "gpu": 20, "analysis": 3}
STAMP = "self-emo.json"  # in the environment: what it was built from
UV = "uv==0.13.9"  # knows where PyTorch's CPU builds are, if this machine's pip does not


def detect_profile() -> str:
    """``gpu`` where an NVIDIA driver answers, else ``cpu``."""
    smi = shutil.which("nvidia-smi")
    listed = smi and subprocess.run([smi, "-L"], capture_output=True, check=False).stdout.strip()
    return "gpu" if listed else "cpu"


def fingerprint(profile: str) -> dict[str, str]:
    """What the environment was built from: profile, Python and the content of lock and project files."""
    content = (ROOT / f"requirements/{profile}.lock").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"profile": profile, "python": python, "lock": hashlib.sha256(content).hexdigest()}


def build(profile: str) -> None:
    """Create the environment, install the lock file without its dependencies' own wishes, then ourselves."""
    lock, folder = ROOT / f"requirements/{profile}.lock", VENVS[profile]
    shutil.rmtree(folder, ignore_errors=True)
    _say(f"creating {folder.name}/ for the {profile} profile")
    venv.create(folder, with_pip=True)
    if profile != "gpu":
        _install_cpu_torch(folder, lock)
    count = sum(1 for line in lock.read_text().splitlines() if line and not line.startswith("#"))
    _say(f"installing {count} pinned packages (a few minutes)")
    # --no-deps: the lock is complete, and what it leaves out is left out on purpose (overrides-*.txt).
    _pip(folder, "install", "--no-deps", "--progress-bar", "on", "-r", str(lock))
    _say("installing self-emo itself")
    _pip(folder, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))


def _install_cpu_torch(folder: Path, lock: Path) -> None:
    """The CPU build of torch, from where pip looks, else from PyTorch's own index of CPU builds."""
    torch = next(line for line in lock.read_text().splitlines() if line.startswith("torch=="))
    _say(f"installing {torch}")
    if _pip(folder, "install", "--no-deps", torch, check=False) == 0:
        return
    _say("this machine's package index has no CPU build of torch; asking PyTorch's own")
    _pip(folder, "install", UV)
    if _run(folder, [f"{folder}/bin/uv", "pip", "install", "--python", f"{folder}/bin/python", "--no-deps",
                     "--torch-backend", "cpu", torch], check=False):  # fmt: skip
        sys.exit(
            f"error: {torch} could not be installed. It is on PyTorch's index of CPU wheels (pytorch.org, "
            "Get Started): make that index or a folder with the wheel known to pip (PIP_EXTRA_INDEX_URL or "
            "PIP_FIND_LINKS) and run make setup again"
        )


def _pip(folder: Path, *arguments: str, check: bool = True) -> int:
    python = str(folder / "bin/python")
    return _run(folder, [python, "-m", "pip", "--disable-pip-version-check", *arguments], check)


def _run(folder: Path, command: list[str], check: bool = True) -> int:
    """Run a command with its output in a log and a line of progress: one that moves, or one now and then."""
    log = folder / "setup.log"
    started = said = time.time()
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.5)
            if sys.stdout.isatty():
                print(f"\r  {time.time() - started:4.0f} s  {_last_line(log)[:90]:<90}", end="", flush=True)
            elif time.time() - said > 30:
                said = time.time()
                print(f"  {said - started:4.0f} s  {_last_line(log)[:90]}", flush=True)
    if sys.stdout.isatty():
        print("\r" + " " * 100 + "\r", end="")
    if check and process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        sys.exit(f"error: {' '.join(command[:6])} ... failed; the end of {log}:\n{tail}")
    return process.returncode


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 400))
        lines = file.read().decode(errors="replace").replace("\r", "\n").strip().splitlines()
    return lines[-1] if lines else ""


def _say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def main() -> None:
    """Build or keep the environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=list(VENVS), default=os.environ.get("PROFILE") or None)
    profile = parser.parse_args().profile or detect_profile()
    wanted = fingerprint(profile)
    if _is_built(profile, wanted):
        return
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another make may be building it: wait, then look again
        if not _is_built(profile, wanted):
            _build_checked(profile, wanted)


def _is_built(profile: str, wanted: dict[str, str]) -> bool:
    stamp = VENVS[profile] / STAMP
    return stamp.exists() and json.loads(stamp.read_text()) == wanted


def _build_checked(profile: str, wanted: dict[str, str]) -> None:
    if not (3, 11) <= sys.version_info < (3, 13):
        sys.exit(
            f"error: Python {sys.version.split()[0]} cannot install the pinned packages; run this with "
            "Python 3.11 or 3.12, for instance: make setup PYTHON=python3.11"
        )
    free = shutil.disk_usage(ROOT).free
    if free < (needed := GIB_NEEDED[profile] * 2**30):
        name = VENVS[profile].name
        sys.exit(f"error: {needed >> 30} GiB of disk are needed for {name}, {free >> 30} are free")
    started = time.time()
    build(profile)
    (VENVS[profile] / STAMP).write_text(json.dumps(wanted))
    _say(f"done in {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
