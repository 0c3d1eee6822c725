"""Getting pinned packages into an environment: with uv, and with pip where uv cannot do it.

uv is several times faster. pip is what brings uv, so that pip alone has to be there and to be configured;
what pip's configuration says holds for both (`pip_settings`).
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from launch import pip_settings, stamp
from launch.progress import CommandFailed, Log, say

ROOT = Path(__file__).resolve().parent.parent
UV_VERSION = "0.13.9"
UV_HOME = ROOT / ".uv"


class Pip:
    """The pip of an environment."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.folder, self.log = folder, log

    def create(self) -> None:
        """The environment, of the running Python, with pip in it."""
        self.log.run([sys.executable, "-m", "venv", "--clear", str(self.folder)])

    def install_lock(self, lock: Path, cpu: bool) -> None:
        """What the lock names and nothing else; torch first where its CPU build may be missing."""
        if cpu:
            try:
                self.install("--no-deps", torch_of(lock))
            except CommandFailed as error:
                raise CommandFailed(
                    f"{error}\nIf {torch_of(lock)} was not found: it is on PyTorch's index of CPU wheels "
                    "(pytorch.org, Get Started). Make that index, or a folder with the wheel, known to pip "
                    "(PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS) and run make setup again"
                ) from error
        self.install("--no-deps", "-r", str(lock))

    def install(self, *arguments: str) -> None:
        """``pip install``."""
        self._pip("install", *arguments)

    def uninstall(self, names: list[str]) -> None:
        """``pip uninstall``."""
        self._pip("uninstall", "--yes", *names)

    def _pip(self, *arguments: str) -> None:
        self.log.run([f"{self.folder}/bin/python", "-m", "pip", "--disable-pip-version-check", *arguments])


class Uv:
    """uv, working on an environment, configured as pip is."""

    def __init__(self, folder: Path, log: Log, pip: dict[str, str]) -> None:
        self.folder, self.log, self.program = folder, log, f"{UV_HOME}/bin/uv"
        self.environment = pip_settings.for_uv(pip, os.environ)
        self.options = pip_settings.options_for_uv(pip)

    def create(self) -> None:
        """The environment, of the running Python; with pip, by which people add flash-attn and the like."""
        python = ["--clear", "--seed", "--python", sys.executable]
        self._uv("venv", *self.options, *python, str(self.folder))

    def install_lock(self, lock: Path, cpu: bool) -> None:
        """What the lock names and nothing else."""
        self.install("--no-deps", "-r", str(lock), *(self.torch_backend(lock) if cpu else []))

    def python(self, version: str) -> str:
        """The path of an interpreter of that version, such as "3.12": one that is there, else uv's own."""
        find = [self.program, "python", "find", "--system", "--no-project", version]
        where = self.environment | {"PATH": with_pyenv(self.environment["PATH"], version)}
        if subprocess.run(find, env=where, capture_output=True, check=False).returncode:
            self._uv("python", "install", version)
        found = subprocess.run(find, env=where, capture_output=True, text=True, check=True)
        return found.stdout.strip()

    def compile(self, asked: Path, overrides: Path, into: Path, cpu: bool) -> None:
        """``uv pip compile``: requirements to a lock file, without a word on where the packages came from."""
        backend = self.torch_backend(asked) if cpu else []
        plain = ["--no-header", "--no-annotate", "--overrides", str(overrides), "-o", str(into)]
        python = ["--python", f"{self.folder}/bin/python"]
        self._uv("pip", "compile", *python, *self.options, *backend, *plain, str(asked))

    def torch_backend(self, lock: Path) -> list[str]:
        """Nothing if torch's CPU build is where pip looks, else the option for PyTorch's own index."""
        try:
            self.install("--dry-run", "--no-deps", torch_of(lock))
            return []
        except CommandFailed:  # not found, which is all that was asked
            say(f"{torch_of(lock)} is not where pip looks; asking PyTorch's own index")
            return ["--torch-backend", "cpu"]

    def install(self, *arguments: str) -> None:
        """``uv pip install``."""
        self._uv("pip", "install", "--python", f"{self.folder}/bin/python", *self.options, *arguments)

    def uninstall(self, names: list[str]) -> None:
        """``uv pip uninstall``."""
        self._uv("pip", "uninstall", "--python", f"{self.folder}/bin/python", *names)

    def _uv(self, *arguments: str) -> None:
        self.log.run([self.program, *arguments], self.environment)


class Installer:
    """Creates one environment and installs into it: with uv until it fails, then with pip."""

    def __init__(self, folder: Path) -> None:
        """An installer for ``folder``, whose commands write to ``<folder>.log`` beside it."""
        self.folder, self.log = folder, Log(folder.with_name(folder.name + ".log"))
        self._tools: list[Uv | Pip] = [*bring_uv(folder, self.log), Pip(folder, self.log)]

    def create(self) -> None:
        """An environment of the running Python in place of whatever is there.

        Raises:
            CommandFailed: neither uv nor Python's own venv could make one.
        """
        say(f"creating {self.folder.name}/ with Python {sys.version.split()[0]}")
        self._try(lambda tool: tool.create())

    def install(self, lock: Path, cpu: bool, dropped: Iterable[str] = ()) -> None:
        """Install what a lock file names, and remove what it names no more.

        --no-deps throughout: the lock is complete, and what it leaves out is left out on purpose
        (requirements/overrides-*.txt).

        Args:
            lock: pinned requirements.
            cpu: torch shall be PyTorch's CPU build, from where pip looks or from PyTorch's own index.
            dropped: packages to uninstall.

        Raises:
            CommandFailed: neither uv nor pip could do it.
        """
        say(f"installing the {len(stamp.pins(lock))} packages of {lock.name}")
        self._try(lambda tool: tool.install_lock(lock, cpu))
        if dropped:
            self._try(lambda tool: tool.uninstall(sorted(dropped)))

    def install_ourselves(self) -> None:
        """self-emo, as it lies there, built with the environment's setuptools: no index is asked.

        Raises:
            CommandFailed: neither uv nor pip could do it.
        """
        self._try(lambda tool: tool.install("--no-deps", "--no-build-isolation", "-e", str(ROOT)))

    def _try(self, work: Callable[[Uv | Pip], None]) -> None:
        """Let the first tool do it; once it fails, go on with the next one, for good."""
        try:
            work(self._tools[0])
        except CommandFailed as error:
            if len(self._tools) == 1:
                raise
            say(f"uv failed, going on with pip, which is slower:\n{error}")
            del self._tools[0]
            work(self._tools[0])


def bring_uv(folder: Path, log: Log) -> list[Uv]:
    """The pinned uv, which pip installs into ``.uv`` if need be; nothing, having said why, if that fails.

    Args:
        folder: the environment that uv shall work on.
        log: where the output of pip goes.
    """
    python = UV_HOME / "bin/python"
    try:
        if _version_of(UV_HOME / "bin/uv") != UV_VERSION:
            say(f"installing uv {UV_VERSION} into {UV_HOME.name}/")
            log.run([sys.executable, "-m", "venv", "--clear", str(UV_HOME)])
            log.run([str(python), "-m", "pip", "--disable-pip-version-check", "install", f"uv=={UV_VERSION}"])
        settings = pip_settings.read(python)
    except (CommandFailed, subprocess.CalledProcessError) as error:
        say(f"uv is not to be had, going on with pip, which is slower:\n{error}")
        return []
    if only := [key for key in pip_settings.PIP_ONLY if key in settings]:
        say(
            f"pip's configuration has {', '.join(only)}, which uv is not told; going on with pip, which is "
            "slower"
        )
        return []
    return [Uv(folder, log, settings)]


def _version_of(program: Path) -> str:
    """uv's version; empty if there is none, or none that starts (a moved checkout, another machine's)."""
    if not shutil.which(program):
        return ""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return said.split()[1] if said else ""


def with_pyenv(path: str, version: str) -> str:
    """A PATH with pyenv's interpreters of a version in place of its shims.

    A shim fails for every version but the chosen one, and uv stops at the first program that fails.
    """
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    others = [place for place in path.split(os.pathsep) if Path(place) != root / "shims"]
    return os.pathsep.join([*map(str, sorted(root.glob(f"versions/{version}.*/bin"))), *others])


def torch_of(lock: Path) -> str:
    """The line of a lock file that pins torch."""
    return f"torch=={stamp.pins(lock)['torch']}"
