"""How the stack tests run the flywheel, and what it has left on disk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
STEPS, PROMPTS, ROLLOUTS = 4, 16, 8


def command(root: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "recipe.main",
        "MODEL=tiny",
        "NAME=turn",
        f"run.root={root}",
        "hardware=cpu",
        "test_rows=24",
        "samples={train: 600, dev: 60, test: 240, seed: 1}",
        "base.pretrain={dialogues: 900, steps: 150, batch: 16}",
        "flywheel.min_reward=0.1",  # after so few steps nothing better would enter B
        "flywheel.same_reply=0.2",
        "data.train_batch_size=16",
        "actor_rollout_ref.rollout.n=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=16",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=1",
        "sft.trainer.total_epochs=6",
        "evaluate.stages=[cold,retrained]",
        "actor_rollout_ref.model.external_lib=tests.stack.recorded_loss",
        "actor_rollout_ref.actor.policy_loss.loss_mode=recorded",
        f"+env.SELF_EMO_RECORD={root / 'recorded'}",
        "trainer.logger=[console,file,tensorboard,wandb]",
        "+env.WANDB_MODE=offline",
        *more,
    ]


def descendants(pids: set[int]) -> list[str]:
    """Command lines of the processes in ``pids`` that still run."""
    alive = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(" ".join(process.cmdline())[:80] or process.name())
        except psutil.NoSuchProcess:
            continue
    return alive


def wait_for(condition, seconds: float, process: subprocess.Popen) -> None:
    end = time.time() + seconds
    while not condition():
        assert process.poll() is None, "the run ended early"
        assert time.time() < end, "timed out"
        time.sleep(0.5)


def latest(checkpoint: Path) -> int:
    return int(checkpoint.read_text() or 0)  # veRL writes it in place, so it may be empty for a moment


def segments() -> set[str]:
    return {p.name for p in Path("/dev/shm").iterdir()}


def rollouts(folder: Path, step: int, k: int = 1) -> list[dict]:
    return pq.read_table(folder / f"iter_{k}/rl/rollouts/step_{step:06d}.parquet").to_pylist()


def metrics(folder: Path) -> dict[int, dict]:
    lines = (folder / "iter_1/rl/metrics.jsonl").read_text().splitlines()
    return {entry["step"]: entry["data"] for entry in map(json.loads, lines)}


def buffer(folder: Path, k: int) -> dict[str, dict]:
    rows = pq.read_table(folder / f"iter_{k}/buffer/buffer.parquet").to_pylist()
    return {row["extra_info"]["row_id"]: row for row in rows}


def starts(folder: Path) -> list[int]:
    """The checkpoints from which the RL stage went on."""
    return [
        int(n)
        for n in re.findall(r"setting global step to (\d+)", (folder / "iter_1/rl/log.txt").read_text())
    ]
