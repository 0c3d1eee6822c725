"""One process of a run that has imported what its stages need; they start as forks of it."""

from __future__ import annotations

import atexit
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

#: By what it has imported, in which environment: the process and its executable.
_hosts: dict[Any, tuple[subprocess.Popen, str]] = {}


def python(settings: Mapping[str, Any], environment: Mapping[str, str], log: IO[bytes]) -> str | None:
    """What runs modules in forks of a process that has imported ``run.preload``; None where there is none.

    The process is started when it is first asked for, and ends with this one, however that ends.

    Args:
        settings: a stage's, with ``run.preload`` and ``env``.
        environment: of the process, besides ``env``.
        log: takes what the imports print.
    """
    modules = (settings.get("run") or {}).get("preload") or []
    variables = {**environment, **{k: str(v) for k, v in (settings.get("env") or {}).items()}}
    if not modules:
        return None
    key = (*modules, *sorted(variables.items()))
    if key in _hosts and _hosts[key][0].poll() is None:
        return _hosts[key][1]
    _end()  # one environment at a time
    process = subprocess.Popen(
        [sys.executable, "-m", "recipe.on_verl.warm", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=variables,
        start_new_session=True,  # Ctrl-C is this process's affair
    )
    assert process.stdin and process.stdout
    executable = process.stdout.readline().strip()
    if not executable:  # the stage will fail in the same imports, and say so
        process.wait()
        return None
    _hosts[key] = process, executable
    return executable


@atexit.register
def _end() -> None:
    for process, _ in _hosts.values():
        process.communicate()  # closes its input, which ends it
    _hosts.clear()
