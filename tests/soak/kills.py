"""Kill a run at a chosen place, let it go on, and see whether it ends as one that nobody has disturbed."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep.files import sha256

#: Told of every file operation (name, path) before it is done; true: the process is killed there.
Judge = Callable[[str, str], bool]
#: Python tells of these before it does them.
_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "open"}
#: What tells of an attempt, not of what came of it.
_OF_ATTEMPTS = ("usage.json", "manifest.json", "log.txt", "config.yaml", "state.json", "lock", "report.html",
                "training.json")  # fmt: skip


def attempt(work: Callable[[], Any], judge: Judge, log: Path) -> int:
    """Do something in a process of its own.

    Args:
        work: what to do.
        judge: says where the process is killed, as by `kill -9`.
        log: gets its output.

    Returns:
        0 if it was done, 1 if it failed, -9 if it was killed.
    """
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)

        def told(event: str, arguments: tuple) -> None:
            if event not in _OPERATIONS or (event == "open" and not _writes(arguments)):
                return
            if judge(event, str(arguments[0])):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(told)
        work()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _writes(arguments: tuple) -> bool:
    _, mode, flags = arguments
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR)) or any(c in str(mode or "") for c in "wax+")


def train(config: DictConfig) -> None:
    """`make train` after its checks of the machine."""
    from omegaconf import OmegaConf

    from data_prep.files import write_text
    from recipe import flywheel
    from recipe.run.lock import locked
    from recipe.run.run import Run

    folder = Path(config.run.root) / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_text(folder / "config.yaml", OmegaConf.to_yaml(config))
        flywheel.train(Run(config, folder))


def outcome(run: Path) -> dict[str, Any]:
    """Every file of a run that its settings decide -> checksum; of metrics what is read of them."""
    from recipe.run.files import read_metrics

    found: dict[str, Any] = {
        path.relative_to(run).as_posix(): sha256(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in _OF_ATTEMPTS and path.suffix != ".jsonl"
    }
    return found | {"steps": sorted(json.loads((run / "state.json").read_text())["steps"])} | {
        "metrics": {name: [e["step"] for e in entries] for name, entries in read_metrics(run).items()}
    }
