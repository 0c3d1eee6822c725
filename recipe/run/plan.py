"""`make plan`: what a run needs in memory and hours, before anything starts. Arithmetic, no GPU, no model.

Memory is worked out in `recipe.run.plan_memory`.
FLOPs of a token: 2 N forward, 6 N forward and backward, 8 N with checkpointing.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from data_prep.corpora import read_corpora
from recipe.run.files import checkpoint_folders, wanted_checkpoints
from recipe.run.plan_memory import (
    GIB,
    Architecture,
    advice,
    architecture,
    longest_row,
    memory,
    micro_batch_tokens,
)
from recipe.run.shortcuts import expand


@dataclass(frozen=True)
class Phase:
    """A part of the run: what it is, how many steps and tokens it has, how long it takes."""

    name: str
    steps: int
    tokens: float
    hours: float


def phases(config: Any, model: Architecture, train_rows: int, test_rows: int) -> list[Phase]:
    """Every stage of Algorithm 1 with its steps, tokens and hours.

    Args:
        config: the composed configuration, with ``plan``.
        model: the architecture.
        train_rows: labelled training utterances.
        test_rows: labelled test utterances.
    """
    plan, own, n = config.plan, config.flywheel, model.parameters
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    flops = plan.gpus[plan.gpu].tflops * 1e12 * gpus
    prompt, response = plan.tokens.prompt, plan.tokens.response
    row, start = prompt + response, plan.start_seconds / 3600

    def hours(work: float, share: float) -> float:
        return work / (flops * share) / 3600

    def sft(name: str, rows: int) -> Phase:
        steps = rows // config.sft.data.train_batch_size * config.sft.trainer.total_epochs
        tokens = steps * config.sft.data.train_batch_size * row
        return Phase(name, steps, tokens, start + hours(8 * n * tokens, plan.mfu.train))

    original = min(train_rows, own.mix.original)
    found = [sft("cold start (SFT)", min(original, own.cold_start_rows or original))]
    rows = original
    for k in range(1, own.iterations + 1):
        batch, rollouts = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
        steps = config.trainer.total_training_steps or rows // batch * config.trainer.total_epochs
        answers = steps * batch * rollouts
        passes = 2 * (2 if config.actor_rollout_ref.actor.use_kl_loss else 1)
        work = (
            hours(2 * n * answers * response, plan.mfu.decode)
            + hours(2 * n * steps * batch * prompt, plan.mfu.forward)
            + hours(passes * n * answers * row, plan.mfu.forward)
            + hours(8 * n * answers * row, plan.mfu.train)
        )
        found.append(Phase(f"RL {k} (SELF-GRPO)", steps, answers * row, start + work))
        visited = min(rows, steps * batch)
        played = min(visited, own.mix.self_play) * own.turns
        if played:
            tokens = played * rollouts * row
            work = hours(2 * n * played * rollouts * response, plan.mfu.decode)
            work += hours(2 * n * played * prompt, plan.mfu.forward)
            found.append(Phase(f"self-play {k}", own.turns, tokens, start + work))
        rows = original + min(visited * k * max(own.turns, 1), own.mix.self_play)
        found.append(sft(f"retraining {k} (SFT)", rows if own.turns else original))
    made = checkpoint_folders(Path(), own.iterations)
    for stage in wanted_checkpoints({"base": Path()} | made, config.evaluate.stages):
        tokens = test_rows * row
        work = hours(2 * n * test_rows * response, plan.mfu.decode)
        found.append(
            Phase(
                f"evaluation, {stage}",
                math.ceil(test_rows / config.evaluate.batch_rows),
                tokens,
                start + work,
            )
        )
    return found


def render(config: Any, model: Architecture, train_rows: int, test_rows: int) -> str:
    """The plan as text for a terminal."""
    plan = config.plan
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    longest = longest_row(config)
    tokens = micro_batch_tokens(config, longest)
    need = memory(config, model, tokens)
    lines = [
        f"{config.base.name}: {model.parameters / 1e9:.2f} B parameters on {gpus} x {plan.gpu}",
        "",
        f"memory of the RL stage, GiB a GPU of {need.available / GIB:.1f} "
        f"(longest rows, {tokens:,} tokens in a micro-batch)",
    ]
    for title, parts in (("training", need.training), ("generating", need.rollout)):
        lines.append(f"  {title:<40}{sum(parts.values()) / GIB:>9.1f}")
        lines += [f"    {name:<38}{size / GIB:>9.1f}" for name, size in parts.items() if size]
    usual = micro_batch_tokens(config, plan.tokens.prompt + plan.tokens.response)
    room = sum(memory(config, model, usual).training.values()) / GIB
    lines.append(f"  training with {usual:,} tokens in it (rows of mean length){room:>7.1f}")
    rows = need.kv_tokens / longest
    lines.append(
        f"  KV cache of a replica: {need.kv_tokens:,.0f} tokens, {rows:,.0f} of the longest rows at once"
    )
    lines += ["", f"{'stage':<30}{'steps':>8}{'tokens':>16}{'hours':>9}{'GPU-hours':>11}"]
    found = phases(config, model, train_rows, test_rows)
    for phase in found:
        work = f"{phase.name:<30}{phase.steps:>8,}{phase.tokens:>16,.0f}"
        lines.append(work + f"{phase.hours:>9.2f}{phase.hours * gpus:>11.1f}")
    total = sum(phase.hours for phase in found)
    lines.append(f"{'together':<54}{total:>9.2f}{total * gpus:>11.1f}")
    if plan.dollars_per_gpu_hour:
        lines.append(
            f"cost at {plan.dollars_per_gpu_hour} a GPU-hour: {total * gpus * plan.dollars_per_gpu_hour:,.0f}"
        )
    lines += [
        f"assumed: {plan.tokens.prompt} + {plan.tokens.response} tokens a row, shares of the peak "
        f'{dict(plan.mfu)}; replace them in conf/plan/assumptions.yaml or with ARGS="plan...."',
        "",
    ]
    lines += [f"WOULD NOT FIT  {problem}" for problem in advice(config, model)] or ["everything fits"]
    return "\n".join(lines)


def count_rows(config: Any) -> tuple[int, int]:
    """Labelled training and test utterances: of ``raw_dir`` if it is there, else as assumed."""
    raw_dir = config.raw_dir or config.download
    if not raw_dir or not Path(raw_dir).is_dir():
        print(f"rows as assumed: there is no folder raw_dir={raw_dir}", file=sys.stderr)
        return config.plan.rows.train, config.plan.rows.test
    found = {"train": 0, "dev": 0, "test": 0}
    for dialogue in read_corpora(raw_dir, config.corpora):
        found[dialogue.split] += sum(utterance.label is not None for utterance in dialogue.utterances)
    return found["train"], found["test"]


@hydra.main(version_base=None, config_path="../conf", config_name="self_emo")
def _plan(config: DictConfig) -> None:
    try:
        print(render(config, architecture(config), *count_rows(config)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """Entry point; a plan is for the node that one does not sit at, so eight GPUs unless told otherwise."""
    asked = sys.argv[1:]
    if not any(argument.startswith("hardware=") for argument in asked):
        asked.append("hardware=8gpu")
    sys.argv[1:] = expand(asked, os.environ)
    _plan()


if __name__ == "__main__":
    main()
