"""Start a stage in its own supervised process, show how it goes, and say what went wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from tqdm import tqdm

from data_prep.disk import why_failed
from data_prep.files import write_text
from data_prep.masking import MASK, is_secret, masked
from recipe.run import warm_start
from recipe.run.flatten import plain
from recipe.run.usage import Usage

#: Exit status of a stage that lost a worker or a node: it may go better another time (EX_TEMPFAIL).
WORKER_LOST = 75
#: Exit status by a supervisor of a stage whose local Ray did not come up (`recipe.on_verl.ray_session`).
NOT_STARTED = 128 + signal.SIGALRM
#: Exit status of a stage that was told in a line what it lacks (EX_UNAVAILABLE).
REFUSED = 69
#: Ray (by what it does on other systems), vLLM and gloo take the machine's address in the network otherwise.
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
}
#: What the progress line shows, under which short name.
_SHOWN = {
    "train/loss": "loss",
    "self_emo/reward": "reward",
    "self_emo/valid": "valid",
    "self_emo/r2": "r2",
    "self_emo/lambda": "lambda",
}


class StageError(RuntimeError):
    """A stage's process failed; the message holds the end of its log."""


class WorkerLostError(StageError):
    """A stage lost a worker or a node (killed, out of memory): it is worth another try."""


def run_stage(stage: str, config: Any, work: Path, total: int, done: int = 0) -> None:
    """Run ``python -m recipe.on_verl.stage`` with ``config`` in ``work`` and wait for it.

    Args:
        stage: ``sft``, ``rl``, ``self_play``, ``evaluate`` or ``annotate``.
        config: the stage's whole configuration; written to ``<work>/config.yaml``.
        work: where the log and the metrics go.
        total: the number of steps, or of answers to be scored, for the progress bar.
        done: how many of them an earlier attempt has left.

    Raises:
        StageError: it ended with another status than 0.
        WorkerLostError: a worker or a node was lost on the way, or did not come up.
    """
    path, log = work / "config.yaml", work / "log.txt"
    settings = plain(config)
    settings.pop("expert", None)  # no stage asks experts
    OmegaConf.save(OmegaConf.create(_literal(masked(settings))), path)
    metrics = work / "metrics.part.jsonl"
    keep_metrics(work)
    usage, seen = Usage(work / "usage.json"), 0
    module, supervised = ["recipe.on_verl.stage", stage, str(path)], ["-m", "recipe.run.supervise"]
    unit = "answer" if stage in ("evaluate", "annotate") else "step"
    with (
        log.open("ab") as output,
        tqdm(total=total, initial=done, desc=f"  {stage}", unit=unit, **bar_style()) as bar,
    ):
        inherited = environment()
        variables = inherited | secrets_of(settings)
        if python := warm_start.python(settings, inherited, output):
            command = [python, *supervised, "--fork", "--", *module]
        else:
            command = [sys.executable, *supervised, "--", sys.executable, "-m", *module]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=variables)
        try:
            while process.poll() is None:
                time.sleep(0.5)
                before, seen = seen, _show(metrics, seen, bar)
                usage.look(step=seen > before)
        except BaseException:  # Ctrl-C, too: the supervisor ends all that it started
            process.terminate()
            process.wait()
            usage.write()
            raise
        _show(metrics, seen, bar)
    keep_metrics(work)
    usage.write()
    lines = log.read_text(errors="replace").splitlines()
    if process.returncode == NOT_STARTED:
        raise WorkerLostError(f"Ray did not come up on this machine (stage {stage}, {log})")
    if process.returncode == WORKER_LOST:
        lost = next((x for x in reversed(lines) if x.startswith("error: ")), "error: a worker was lost")
        raise WorkerLostError(f"{lost.removeprefix('error: ')} (stage {stage}, {log})")
    if process.returncode == REFUSED:
        raise StageError(next(x for x in reversed(lines) if x.startswith("error: ")).removeprefix("error: "))
    if process.returncode != 0:
        if refused := why_failed(work, lines[-400:]):
            raise StageError(f"stage {stage}: {refused}")
        raise StageError(
            f"stage {stage} ended with status {process.returncode}; the end of {log}:\n"
            + "\n".join(lines[-40:])
        )


def _literal(value: Any) -> Any:
    """Resolved settings as they are written: what looks like a reference is text by now, and stays it."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    escaped = lambda found: 2 * found[1] + "\\${"  # noqa: E731
    return re.sub(r"(\\*)\$\{", escaped, value) if isinstance(value, str) else value


def bar_style() -> dict[str, Any]:
    """Of tqdm: a bar that moves on a terminal; elsewhere a line now and then, for files that people read."""
    if sys.stderr.isatty():
        return {"mininterval": 1, "dynamic_ncols": True}
    return {"mininterval": 15, "ncols": 100, "bar_format": "{l_bar}{bar}{r_bar}\n"}


def environment() -> dict[str, str]:
    """This process's, for one that it starts: the project's folder is importable in every worker, too.

    Where no cluster is asked for, what listens does so on this machine alone, unless a variable is set.
    """
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    address = {} if os.environ.get("RAY_ADDRESS") else LOOPBACK
    return address | os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def secrets_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Variables of ``env`` that are a credential or hold one: no file has them, a process inherits them."""
    variables = {name: str(value) for name, value in (settings.get("env") or {}).items()}
    return {name: value for name, value in variables.items() if masked(value, name) != value}


def shown_variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """Variables of a stage's ``env`` but for `secrets_of`, which the stage has inherited.

    They stay masked in its settings: veRL prints those, trackers keep them, Ray shows workers' variables.
    """
    variables = {name: str(value) for name, value in (settings.get("env") or {}).items()}
    return {name: value for name, value in variables.items() if MASK not in value and not is_secret(name)}


def _show(metrics: Path, seen: int, bar: tqdm) -> int:
    """Advance the bar by the metric lines that are new; returns how many were read so far."""
    if not metrics.exists():
        return seen
    lines = metrics.read_bytes().split(b"\n")[:-1]
    for line in lines[seen:]:
        entry = json.loads(line)
        data = entry["data"]
        shown = {short: f"{data[name]:.3f}" for name, short in _SHOWN.items() if name in data}
        if shown:
            bar.set_postfix(shown, refresh=False)
        bar.update(entry["step"] - bar.n)
    return len(lines)


def keep_metrics(work: Path) -> None:
    """Append the metrics of an attempt, if any, to a step's ``metrics.jsonl``: veRL's logger starts anew.

    Of an attempt that was killed the last line may be half; it would spoil the next one's first.
    """
    part, whole = work / "metrics.part.jsonl", work / "metrics.jsonl"
    if part.exists():
        content = [path.read_bytes() for path in (whole, part) if path.exists()]
        lines = [line for text in content for line in text.splitlines(True) if line.endswith(b"\n")]
        write_text(whole, b"".join(lines).decode(errors="replace"))
        part.unlink()
