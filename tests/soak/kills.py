"""Kill a run at a chosen place, let it go on, and see whether it ends as one that nobody has disturbed."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset  # noqa: F401  (these two once, and not in every attempt)
from omegaconf import DictConfig
from transformers import AutoTokenizer, Qwen3ForCausalLM  # noqa: F401

from data_prep.files import sha256, write_text
from recipe import flywheel
from recipe.run.files import read_metrics
from recipe.run.lock import locked
from recipe.run.run import Run
from tests.soak import bodies

#: Told of every file operation (name, path) before it is done; true: the process is killed there.
Judge = Callable[[str, str], bool]
#: Names a place in a run by the operation that would come next; None: no place to kill at.
Places = Callable[[str, str], str | None]
#: Python tells of these before it does them.
_OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "open"}
#: What tells of an attempt, not of what came of it.
_OF_ATTEMPTS = (
    *("usage.json", "manifest.json", "log.txt", "config.yaml", "state.json", "lock", "versions.json"),
    *("report.html", "training.json"),
)


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


def killed_at_every(places: Places, work: Callable[[], Any], log: Path, most: int = 5000) -> list[str]:
    """Do something that is killed once at every place that it comes to, and goes on after each kill.

    Returns:
        The places.
    """
    told = log.with_name("places.txt")
    told.touch()
    for _ in range(most):
        seen = set(told.read_text().splitlines())
        handle = os.open(told, os.O_WRONLY | os.O_APPEND)

        def judge(event: str, path: str, seen: set[str] = seen, handle: int = handle) -> bool:
            place = places(event, path)
            if place is None or place in seen:
                return False
            os.write(handle, f"{place}\n".encode())
            return True

        status = attempt(work, judge, log)
        os.close(handle)
        if status == 0:
            return sorted(seen)
        if status != -signal.SIGKILL:
            place = told.read_text().splitlines()[-1]
            raise AssertionError(f"it cannot go on after {place}:\n{_end_of(log)}")
    raise AssertionError(f"no end after {most} kills")


def killed_at_random(seed: int, mean: int, work: Callable[[], Any], log: Path) -> int:
    """Do something that is killed ``mean`` operations, more or less, after every start; how often it was."""
    draw = random.Random(seed)
    for kills in itertools.count():
        left = itertools.count(draw.randint(1, 2 * mean), -1)
        status = attempt(work, lambda *_, left=left: next(left) == 0, log)
        if status == 0:
            return kills
        if status != -signal.SIGKILL:
            raise AssertionError(f"it cannot go on after kill {kills} of seed {seed}:\n{_end_of(log)}")


def every_operation(event: str, path: str) -> str:
    """Places for `killed_at_every`: all that there are."""
    place = f"{event} {re.sub(r'[0-9]+[.]part', 'part', path)}"
    tracker = Path(path).parent / "checkpoints/latest_checkpointed_iteration.txt"
    if (
        "metrics.jsonl" in path and tracker.exists()
    ):  # an attempt's metrics are kept at its end and at its begin
        place += f" after step {tracker.read_text()}"
    return place


class AroundCommits:
    """Places for `killed_at_every`: before and after every commit of a step, a model or a turn of self-play,
    before RL's metrics are kept, and while veRL's tracker is empty. With ``few`` the places after are those
    of iteration 2 alone."""

    def __init__(self, few: bool = False) -> None:
        self.few, self.done = few, ""

    def __call__(self, event: str, path: str) -> str | None:
        """As `Places`."""
        done, self.done = self.done, ""
        if done and (not self.few or "iter_2" in done):
            return f"after {done}"
        if event == "open" and "rl.work/metrics.jsonl" in path:
            return f"before {every_operation(event, path)}"
        ends = path.endswith((".work", "huggingface")) or "model." in path or "/played_" in path
        if event == "os.rename" and ends:
            self.done = every_operation(event, path)
            return f"before {self.done}"
        return f"while empty: {path}" if event == "os.truncate" else None


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text().splitlines()[-25:])


def train(config: DictConfig, text: str, pages: bool) -> None:
    """`make train` after its checks of the machine, with the stages' bodies replaced; ``text``: as YAML."""
    bodies.replace(pages)
    folder = Path(config.run.root) / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_text(folder / "config.yaml", text)
        flywheel.train(Run(config, folder))


def outcome(run: Path) -> dict[str, Any]:
    """Every file of a run that its settings decide -> checksum; of metrics what is read of them."""
    found: dict[str, Any] = {
        path.relative_to(run).as_posix(): sha256(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in _OF_ATTEMPTS and path.suffix != ".jsonl"
    }
    return (
        found
        | {"steps": sorted(json.loads((run / "state.json").read_text())["steps"])}
        | {"metrics": {name: [e["step"] for e in entries] for name, entries in read_metrics(run).items()}}
    )
