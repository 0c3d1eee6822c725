"""A step of RL here, in stock veRL and in TRL.

Each is given the cold start and the first RL stage's prompts of a run that has got so far, and makes the
same steps: prompts, rollouts a prompt, lengths, one update, KL to the start.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from bench.stage_times import ROOT, stage_ends

TRL = ROOT / ".venv-trl/bin/python"


def stage(source: DictConfig, work: Path, steps: int) -> Path:
    """Write an RL stage's configuration for so many steps of its own below ``work``; its path."""
    config = source.copy()
    with open_dict(config):
        config.trainer.total_training_steps = steps
        config.trainer.save_freq = -1
        config.trainer.default_local_dir = str(work / "checkpoints")
        config.self_emo.rollout_dir = None
    work.mkdir(parents=True)
    OmegaConf.save(config, work / "config.yaml")
    return work / "config.yaml"


def in_trl(source: DictConfig, work: Path, steps: int) -> list[float]:
    """The same in TRL, by its own clock."""
    actor, rollout = source.actor_rollout_ref.actor, source.actor_rollout_ref.rollout
    given = {
        "prompts": source.data.train_batch_size,
        "n": rollout.n,
        "response": source.data.max_response_length,
        "steps": steps,
        "lr": actor.optim.lr,
        "kl": actor.kl_loss_coef,
    }
    work.mkdir(parents=True)
    (work / "settings.json").write_text(json.dumps(given))
    files = [source.data.train_files, work / "settings.json", work / "out.json"]
    command = [TRL, "-m", "bench.trl_steps", source.actor_rollout_ref.model.path, *files]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(source.env.OMP_NUM_THREADS)}
    with (work / "log.txt").open("wb") as log:
        done = subprocess.run(list(map(str, command)), stdout=log, stderr=log, env=environment, check=False)
    if done.returncode:
        sys.exit(f"error: TRL ended with {done.returncode}; see {work / 'log.txt'}")
    return json.loads((work / "out.json").read_text())


def summary(ends: list[list[float]]) -> dict[str, float]:
    """Over all turns: the median step after a turn's second, and the median time to its first step's end."""
    steps = [b - a for turn in ends for a, b in zip(turn[1:], turn[2:], strict=False)]
    return {
        "s a step": round(statistics.median(steps), 2),
        "s to the first step's end": round(statistics.median(turn[0] for turn in ends), 1),
        "s in all": round(statistics.median(turn[-1] for turn in ends), 1),
    }


def measure(source: DictConfig, work: Path, steps: int, turns: int) -> dict[str, dict[str, float]]:
    """Steps of each, in turns.

    Args:
        source: configuration of a run's first RL stage.
        work: folder for what they write.
        steps: of a turn.
        turns: how often each has its turn, so that what else the machine does meets all of them.

    Returns:
        By name what `summary` says. TRL only where its environment is there.
    """
    found: dict[str, list[list[float]]] = {"ours": [], "stock veRL": []}
    if TRL.is_file():
        found["TRL"] = []
    for turn in range(turns):
        for name, ends in found.items():
            print(f"RL, turn {turn + 1}: {name}", flush=True)
            here = work / f"rl-{turn}-{name.split()[0]}"
            if name == "TRL":
                ends.append(in_trl(source, here, steps))
            else:
                command = ["recipe.on_verl.stage", "rl"] if name == "ours" else ["bench.stock_rl"]
                ends.append(stage_ends(command, stage(source, here, steps)))
    return {name: summary(ends) for name, ends in found.items()}
