"""When the steps of a stage end, by the metrics that it writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from recipe.run.files import run_folder

ROOT = Path(__file__).resolve().parent.parent


def named_run(name: str) -> Path:
    """A run's folder.

    Raises:
        SystemExit: there is none.
    """
    try:
        return run_folder(name).resolve()
    except ValueError as error:
        sys.exit(f"error: {error}")


def stage_of(run: Path, step: str) -> DictConfig:
    """The configuration with which a finished run did a step, such as ``iter_1/rl``.

    Raises:
        SystemExit: the run has not done it.
    """
    done = run / step
    if not (done / "config.yaml").is_file():
        sys.exit(f"error: {done}/config.yaml is missing; `make train NAME={run.name}` makes it")
    return OmegaConf.create(
        yaml.safe_load((done / "config.yaml").read_text().replace(f"{done}.work", str(done)))
    )


def stage_ends(command: Sequence[str], config: Path) -> list[float]:
    """Seconds from the start of `python -m <command> <config>` to the end of every step."""
    ends: list[float] = []
    metrics, started = config.with_name("metrics.part.jsonl"), time.time()
    with (config.parent / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "recipe.run.supervise", "--", sys.executable, "-m", *command, str(config)],
            stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        while process.poll() is None:
            time.sleep(0.05)
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            ends += [time.time() - started] * (lines - len(ends))
    if process.returncode:
        sys.exit(f"error: {command[0]} ended with {process.returncode}; see {config.parent / 'log.txt'}")
    return ends
