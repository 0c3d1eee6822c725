"""One process of a run that has imported what its stages need; they start as forks of it."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any


@dataclass
class _Host:
    """The process, and what it says."""

    process: subprocess.Popen[str]
    said: IO[bytes]
    told: int = 0

    @cached_property
    def executable(self) -> str:
        """Where its forks are asked for, once it has imported all; empty if it could not."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def tell(self, log: IO[bytes]) -> None:
        """Write to ``log`` what it has said since the last time."""
        file = self.said.fileno()  # not by seek: the process goes on writing where that would lead to
        new = os.pread(file, os.fstat(file).st_size - self.told, self.told)
        log.write(new)
        self.told += len(new)


#: By what it has imported, with which variables of a run's own.
_hosts: dict[Any, _Host] = {}


def begin(settings: Mapping[str, Any], environment: Mapping[str, str]) -> _Host | None:
    """Have the process start to import ``run.preload``, if there is any; it ends with this one.

    Args:
        settings: a run's or a stage's, with ``run.preload`` and ``env``.
        environment: of the process, besides ``env``.
    """
    modules = (settings.get("run") or {}).get("preload") or []
    own = {k: str(v) for k, v in (settings.get("env") or {}).items()}
    if not modules:
        return None
    key = (*modules, *sorted(own.items()))  # not by the rest, to which torch and veRL add when imported here
    if key in _hosts and _hosts[key].process.poll() is None:
        return _hosts[key]
    end()  # one environment at a time
    said = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
    process = subprocess.Popen(
        [sys.executable, "-m", "recipe.on_verl.warm", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said.fileno(),
        text=True,
        env={**environment, **own},
        start_new_session=True,  # Ctrl-C is this process's affair
    )
    _hosts[key] = _Host(process, said)
    return _hosts[key]


def python(settings: Mapping[str, Any], environment: Mapping[str, str], log: IO[bytes]) -> str | None:
    """What runs modules in forks of a process that has imported ``run.preload``; None where there is none.

    Args:
        settings: as for `begin`, which is done first where it was not.
        environment: the same.
        log: takes what the imports print.
    """
    host = begin(settings, environment)
    if host is None:
        return None
    executable = host.executable
    host.tell(log)
    if not executable:  # the stage will fail in the same imports, and say so
        host.process.wait()
        return None
    return executable


@atexit.register
def end() -> None:
    """End the process, and what it has started."""
    for host in _hosts.values():
        if "executable" not in vars(host):  # nobody has asked for it yet, and it may be importing for long
            host.process.terminate()
        host.process.communicate()  # closes its input, which ends it
        host.said.close()
    _hosts.clear()
