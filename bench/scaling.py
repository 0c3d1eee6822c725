"""How the time of an RL step grows with its sizes: `python -m bench.scaling RUN`.

From the run's first RL stage on, one size at a time is changed: rollouts a prompt, prompts a step, the
length of answers (all of the same length, so that it is the length and not the model that decides) and
training ranks. Writes `docs/step_scaling.svg`, with the exponent of a fitted power law in every panel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from bench.rl_steps import stage
from bench.stage_times import ROOT, named_run, stage_ends, stage_of
from data_prep.files import write_json

PICTURE = ROOT / "docs/step_scaling.svg"

_FULL_LENGTH = {"actor_rollout_ref.rollout.ignore_eos": True}
#: Panel -> (setting, its values, what else is set).
SIZES: dict[str, tuple[str, Sequence[int], Mapping[str, object]]] = {
    "rollouts a prompt": ("actor_rollout_ref.rollout.n", (4, 8, 16), {}),
    "prompts a step": ("data.train_batch_size", (16, 32, 64), {}),
    "tokens an answer": ("data.max_response_length", (28, 56, 112), _FULL_LENGTH),
    "training ranks": ("trainer.n_gpus_per_node", (1, 2, 4), {"cluster.num_cpus": 64}),
}  # fmt: skip
#: What follows a setting.
ALONG = {
    "data.train_batch_size": ("actor_rollout_ref.actor.ppo_mini_batch_size",),
    "data.max_response_length": ("actor_rollout_ref.rollout.response_length",),
    "trainer.n_gpus_per_node": ("cluster.num_gpus",),
}


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """b of seconds = a * size ** b, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def step_seconds(source: DictConfig, work: Path, steps: int, settings: Mapping[str, object]) -> float:
    """The median step after the second one."""
    config = source.copy()
    OmegaConf.set_struct(config, False)
    for name, value in settings.items():
        OmegaConf.update(config, name, value)
    ends = stage_ends(["recipe.on_verl.stage", "rl"], stage(config, work, steps))
    return statistics.median(b - a for a, b in zip(ends[1:], ends[2:], strict=False))


def measure(source: DictConfig, work: Path, steps: int) -> dict[str, list[tuple[int, float]]]:
    """Panel -> (size, seconds a step), kept in ``scaling.json``: what is there is not measured again."""
    kept = work / "scaling.json"
    found: dict[str, list[tuple[int, float]]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for panel, (name, values, beside) in SIZES.items():
        for value in values[len(found.get(panel, [])) :]:
            along = dict.fromkeys(ALONG.get(name, ()), value)
            here = work / f"{name}-{value}"
            seconds = step_seconds(source, here, steps, {name: value, **along, **beside})
            print(f"{panel} {value}: {seconds:.2f} s", flush=True)
            found.setdefault(panel, []).append((value, seconds))
            write_json(kept, found)
    return found


def draw(found: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """A panel a size, on logarithmic axes from a common scale of seconds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "self-emo", "font.size": 9}):
        figure, panels = pyplot.subplots(1, len(found), figsize=(2.5 * len(found), 2.4), sharey=True)
        for axis, (name, points) in zip(panels, found.items(), strict=True):
            sizes, seconds = zip(*points, strict=True)
            axis.loglog(sizes, seconds, "o-", color="#2b6cb0")
            axis.set_xticks(sizes, [str(size) for size in sizes], minor=False)
            axis.set_xticks([], minor=True)
            axis.set_xlabel(name)
            axis.set_title(f"exponent {exponent(sizes, seconds):.2f}", fontsize=9)
            axis.grid(alpha=0.3, which="both")
        ticks = [t for t in (1, 2, 4, 8, 16, 32, 64) if t <= 2 * max(s for p in found.values() for _, s in p)]
        panels[0].set_yticks(ticks, [str(t) for t in ticks])
        panels[0].set_yticks([], minor=True)
        panels[0].set_ylabel("seconds a step")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="name of a run whose first RL stage is done")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--work", type=Path, help="folder; an earlier one's to go on with it")
    args = parser.parse_args()
    work = args.work or Path("runs/bench") / f"scaling-{time.strftime('%Y%m%d-%H%M%S')}"
    draw(measure(stage_of(named_run(args.run), "iter_1/rl"), work.resolve(), args.steps), PICTURE)


if __name__ == "__main__":
    main()
