"""What one sees while packages are installed: lines, a clock, and a log with all the output."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

#: How lines of pip and uv begin that tell of no progress; they are in the log.
_ASIDE = ("warning", "deprecation", "[notice]", "hint:")


class CommandFailed(RuntimeError):
    """A command ended with an error; the text names it and holds the end of its output."""


def say(text: str) -> None:
    """A line of progress."""
    print(f"[setup] {text}", flush=True)


class Log:
    """Runs commands with their output in one file, which starts empty; warnings are there alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")

    def run(self, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Run a command, and show that it does: a line that moves, or one now and then.

        Args:
            command: program and arguments.
            environment: None is the present one.

        Raises:
            CommandFailed: it cannot be started, or its exit status is not 0.
        """
        begin = self.path.stat().st_size
        with self.path.open("ab") as output:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
            except OSError as error:
                raise CommandFailed(f"{command[0]} cannot be started: {error}") from error
            try:
                self._watch(process)
            finally:
                process.kill()  # only after Ctrl-C is it still there
                process.wait()
        if process.returncode:
            said = self.path.read_bytes()[begin:].decode(errors="replace").splitlines()
            tail = "\n".join(f"    {line}" for line in said[-15:])
            raise CommandFailed(f"{' '.join(command[:6])} ... failed; the end of {self.path}:\n{tail}")

    def _watch(self, process: subprocess.Popen) -> None:
        started = said = time.time()
        while True:
            try:
                process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                pass
            passed = time.time() - started
            if sys.stdout.isatty():
                print(f"\r  {passed:4.0f} s  {self._last_line()[:90]:<90}", end="", flush=True)
            elif time.time() - said > 30:
                said = time.time()
                print(f"  {passed:4.0f} s  {self._last_line()[:90]}", flush=True)
        if sys.stdout.isatty():
            print("\r" + " " * 100 + "\r", end="")

    def _last_line(self) -> str:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 4000))
            lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
        told = (line.strip() for line in reversed(lines))
        return next((line for line in told if line and not line.lower().startswith(_ASIDE)), "")
