"""Build an environment from the pinned requirements of a profile; does nothing when it is up to date.

The profiles `cpu` and `gpu` make `.venv`; `analysis` makes `.venv-analysis`, for `make clusters`; `trl` makes
`.venv-trl`, for `make bench`; `docs` makes `.venv-docs`, for `make site`.
An environment keeps the profile and the Python that it was built with, because runs may be using it: another
one takes its place only with ``--force``. A changed lock file is installed into it.
Standard library only: it runs before anything is installed.
`python3 launch/setup_env.py [--profile cpu|gpu|analysis|trl|docs] [--force]`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # called as a file, before this project is installed

from launch import stamp  # noqa: E402
from launch.installer import Installer  # noqa: E402
from launch.progress import CommandFailed, say  # noqa: E402

VENVS = {
    "cpu": ROOT / ".venv",
    "gpu": ROOT / ".venv",
    "analysis": ROOT / ".venv-analysis",
    "trl": ROOT / ".venv-trl",
    "docs": ROOT / ".venv-docs",
}
GIB_NEEDED = {"cpu": 6, "gpu": 20, "analysis": 3, "trl": 3, "docs": 1}
#: Those whose torch is the CPU build, which is not everywhere where pip looks.
CPU_TORCH = ("cpu", "analysis", "trl")
OLDEST, TOO_NEW = (3, 11), (3, 13)  # Python, as the pinned packages want it
UNFIT = (
    f"Python {sys.version.split()[0]} cannot install the pinned packages; run this with Python 3.11 or 3.12, "
    "for instance: make setup PYTHON=python3.11"
)


class SetupError(RuntimeError):
    """There is no such environment as was asked for; the text says why, and what to do."""


def detect_profile() -> str:
    """``gpu`` where an NVIDIA driver answers, else ``cpu``."""
    smi = shutil.which("nvidia-smi")
    listed = smi and subprocess.run([smi, "-L"], capture_output=True, check=False).stdout.strip()
    return "gpu" if listed else "cpu"


def ensure(folder: Path, profile: str | None, force: bool = False, exact_python: bool = False) -> None:
    """Build, update or keep an environment.

    Args:
        folder: where it is, or shall be.
        profile: None is the one that it has, or, if it is not there, what fits the machine.
        force: build it anew, for this profile (None: the one it has) and with the running Python.
        exact_python: the user named the running Python, so that another one will not do.

    Raises:
        SetupError: it has another profile or Python, or the machine or the folder will not do.
        CommandFailed: a package could not be installed; what was there before is there again.
    """
    if not force and _is_current(folder, profile, exact_python):
        return
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another make may be building it: wait, then look again
        _recover(folder)
        built = stamp.read(folder)
        wanted = stamp.fingerprint(profile or built.get("profile") or detect_profile())
        if force or not built:
            _build(folder, wanted)
        elif not _is_current(folder, profile, exact_python):
            _update(folder, built, wanted | {"python": built["python"]})


def _is_current(folder: Path, profile: str | None, exact_python: bool) -> bool:
    """Is it there, and up to date? A SetupError if it is another one than was asked for."""
    if not (built := stamp.read(folder)):
        return False
    wanted = stamp.fingerprint(profile or built["profile"])
    for key, name in (("profile", "for the profile"), ("python", "with Python")):
        if built[key] == wanted[key]:
            continue
        command = f"make setup PROFILE={wanted['profile']} PYTHON={shlex.quote(sys.executable)} FORCE=1"
        text = (
            f"{folder.name} was built {name} {built[key]} and is kept, because runs may be using it. "
            f"To build it anew {name} {wanted[key]}: {command}"
        )
        if key == "profile" or exact_python:
            raise SetupError(text)
        say(text)
    return all(built.get(key) == wanted[key] for key in ("lock", "project"))


def _build(folder: Path, wanted: dict[str, str]) -> None:
    _check_machine(folder, wanted["profile"])
    if users := processes_in(folder):
        say(f"{folder.name} is replaced while processes {users} are using it")
    started = time.time()
    with _set_aside(folder):
        say(f"building {folder.name} for the {wanted['profile']} profile")
        installer = Installer(folder)
        installer.create()
        _install(installer, folder, wanted, [])
    say(f"done in {time.time() - started:.0f} s")


def _update(folder: Path, built: dict[str, str], wanted: dict[str, str]) -> None:
    """Bring it up to date where it is. It has its old stamp until all is done: the rest is made up for."""
    lock, started = stamp.lock_of(wanted["profile"]), time.time()
    listed, dropped = stamp.changes(folder, lock)
    changed = f"{lock.name} has changed" if built["lock"] != wanted["lock"] else "pyproject.toml has changed"
    changed += f" ({listed})" if listed else ""
    if users := processes_in(folder):
        say(f"{changed}, but processes {users} are using {folder.name}: it is updated once they have ended")
        return
    say(f"{changed}: updating {folder.name}")
    _install(Installer(folder), folder, wanted, dropped)
    say(f"done in {time.time() - started:.0f} s")


def _install(installer: Installer, folder: Path, wanted: dict[str, str], dropped: list[str]) -> None:
    installer.install(stamp.lock_of(wanted["profile"]), cpu=wanted["profile"] in CPU_TORCH, dropped=dropped)
    installer.install_ourselves()
    stamp.write(folder, wanted)


def _check_machine(folder: Path, profile: str) -> None:
    free = shutil.disk_usage(ROOT).free
    if free < (needed := GIB_NEEDED[profile] * 2**30):
        raise SetupError(f"{needed >> 30} GiB of disk are needed for {folder.name}, {free >> 30} are free")
    if folder.exists() and not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
        raise SetupError(
            f"{folder} is there, and is no Python environment: move it away, its place is needed"
        )


def _aside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


@contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Keep what is there until what replaces it is whole; put it back if that fails, or is broken off."""
    if folder.exists():
        folder.rename(_aside(folder))
    try:
        yield
    except BaseException:
        _recover(folder)
        raise
    shutil.rmtree(_aside(folder), ignore_errors=True)


def _recover(folder: Path) -> None:
    """Undo `_set_aside` where a build did not come to its end."""
    if not (old := _aside(folder)).exists():
        return
    if stamp.read(folder):
        shutil.rmtree(old)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        old.rename(folder)


def processes_in(folder: Path) -> list[int]:
    """Processes of this machine that have loaded a library of the environment, as far as we may look."""
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if f"{folder}/lib" in maps.read_text(errors="replace"):
                found.append(int(maps.parent.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return sorted(found)


def main() -> None:
    """Build or keep the environment; the exit status is 1 if it is not as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=list(VENVS), default=os.environ.get("PROFILE") or None)
    parser.add_argument("--force", action="store_true", help="build it anew, whatever is there")
    parser.add_argument("--exact-python", action="store_true", help="refuse an environment of another Python")
    parser.add_argument("--folder", type=Path, help="default: .venv, or .venv-analysis for that profile")
    args = parser.parse_args()
    folder = (args.folder or VENVS[args.profile or "cpu"]).resolve()  # a link may put it on another disk
    if not OLDEST <= sys.version_info < TOO_NEW:
        if args.force or args.exact_python:
            sys.exit(f"error: {UNFIT}")
        _leave_it_to(folder)
    try:
        ensure(folder, args.profile, args.force, args.exact_python)
    except (SetupError, CommandFailed) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; make setup goes on, or starts again")


def _leave_it_to(folder: Path) -> None:
    """This Python cannot have the packages. An environment that is there looks after itself with its own."""
    python = folder / "bin/python"
    if not stamp.read(folder):
        sys.exit(f"error: {UNFIT}")
    os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    main()
