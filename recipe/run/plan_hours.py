"""The hours of a run, from the worse to the better of what `conf/plan` assumes.

FLOPs of a token, of N parameters: 2 N forward, 6 N forward and backward, 8 N with checkpointing; attention
adds a few per cent at a thousand tokens a row, and is left out. An RL step is generation, old and reference
log-probabilities, the update, and what is no arithmetic: weights to vLLM, its sleep and waking up, rewards,
advantages and dispatch. Validation and checkpoints come every so many steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import ListConfig

from recipe.run.files import checkpoint_folders, wanted_checkpoints
from recipe.run.plan_memory import Architecture


@dataclass(frozen=True)
class Phase:
    """A part of the run: what it is, its steps and tokens, and its hours, at least and at most."""

    name: str
    steps: int
    tokens: float
    hours: np.ndarray


def pair(value: Any) -> np.ndarray:
    """An assumption as (better, worse); ``value`` is one number, or two from the worse to the better."""
    numbers = list(value) if isinstance(value, ListConfig | list | tuple) else [value]
    if len(numbers) not in (1, 2):
        raise ValueError(f"plan: {numbers} is neither a number nor a pair; see conf/plan/assumptions.yaml")
    return np.array([float(numbers[-1]), float(numbers[0])])


def gpus_of(config: Any) -> int:
    """All GPUs of the run."""
    return config.trainer.n_gpus_per_node * config.trainer.nnodes


def _seconds(config: Any, flops: float, kind: str) -> np.ndarray:
    plan = config.plan
    return flops / (plan.gpus[plan.gpu].tflops * 1e12 * gpus_of(config) * pair(plan.mfu[kind]))


def _answering(config: Any, model: Architecture, prompts: float, answers: float) -> np.ndarray:
    """Seconds to read prompts once and to write answers to them."""
    tokens, n = config.plan.tokens, model.parameters
    reading = _seconds(config, 2 * n * prompts * tokens.prompt, "forward")
    return reading + _seconds(config, 2 * n * answers * tokens.response, "decode")


def step_seconds(config: Any, model: Architecture) -> dict[str, np.ndarray]:
    """An RL step by parts, each (at least, at most) in seconds."""
    role, plan, n = config.actor_rollout_ref, config.plan, model.parameters
    prompts, answers = config.data.train_batch_size, config.data.train_batch_size * role.rollout.n
    tokens = answers * (plan.tokens.prompt + plan.tokens.response)
    training = 8 if role.model.enable_gradient_checkpointing else 6
    parts = {
        "generation": _answering(config, model, prompts, answers),
        "old log-probabilities": _seconds(config, 2 * n * tokens, "forward"),
        "reference log-probabilities": _seconds(config, 2 * n * tokens, "forward"),
        "update": _seconds(config, training * n * tokens, "train"),
        "weights to vLLM": pair(plan.step_seconds.weights),
        "sleep and waking up": pair(plan.step_seconds.sleep),
        "rewards, advantages, dispatch": pair(plan.step_seconds.rest),
    }
    if not role.actor.use_kl_loss:
        del parts["reference log-probabilities"]
    if not role.rollout.free_cache_engine:
        del parts["sleep and waking up"]
    return parts


def _beside_steps(config: Any, model: Architecture, steps: int) -> np.ndarray:
    """Seconds of validation and checkpoints in an RL stage of so many steps."""
    trainer, role = config.trainer, config.actor_rollout_ref
    # veRL does both after the last step, too, and validates before the first one.
    checkpoints, validations = (
        math.ceil(steps / every) if every > 0 else 0 for every in (trainer.save_freq, trainer.test_freq)
    )
    validations += trainer.val_before_train
    answers = config.dev_rows * role.rollout.val_kwargs.n
    # Weights and two moments in float32, and the export in bfloat16.
    writing = 14 * model.parameters / (pair(config.plan.disk_gbs) * 1e9)
    return validations * _answering(config, model, config.dev_rows, answers) + checkpoints * writing


def phases(config: Any, model: Architecture, train_rows: int, test_rows: int) -> list[Phase]:
    """Every stage of Algorithm 1 with its steps, tokens and hours.

    Args:
        config: the composed configuration, with ``plan``.
        model: the architecture.
        train_rows: labelled training utterances.
        test_rows: labelled test utterances.
    """
    return list(_phases(config, model, train_rows, test_rows))


def _phases(config: Any, model: Architecture, train_rows: int, test_rows: int) -> Iterator[Phase]:
    plan, own, n = config.plan, config.flywheel, model.parameters
    row = plan.tokens.prompt + plan.tokens.response

    def phase(name: str, steps: int, tokens: float, seconds: np.ndarray) -> Phase:
        return Phase(name, steps, tokens, (plan.start_seconds + seconds) / 3600)

    def sft(name: str, rows: int) -> Phase:
        batch = config.sft.data.train_batch_size
        steps = rows // batch * config.sft.trainer.total_epochs
        tokens = steps * batch * row
        return phase(name, steps, tokens, _seconds(config, 8 * n * tokens, "train"))

    original = rows = min(train_rows, own.mix.original)
    yield sft("cold start (SFT)", min(original, own.cold_start_rows or original))
    a_step = sum(step_seconds(config, model).values(), np.zeros(2))
    batch, rollouts = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    for k in range(1, own.iterations + 1):
        steps = config.trainer.total_training_steps or rows // batch * config.trainer.total_epochs
        seconds = steps * a_step + _beside_steps(config, model, steps)
        yield phase(f"RL {k} (SELF-GRPO)", steps, steps * batch * rollouts * row, seconds)
        visited = min(rows, steps * batch)
        if played := min(visited, own.mix.self_play) * own.turns:
            seconds = _answering(config, model, played, played * rollouts)
            yield phase(f"self-play {k}", own.turns, played * rollouts * row, seconds)
        rows = original + min(visited * k * max(own.turns, 1), own.mix.self_play)
        yield sft(f"retraining {k} (SFT)", rows if own.turns else original)
    made = checkpoint_folders(Path(), own.iterations)
    asked = test_rows * (1 + config.evaluate.paraphrases) + min(config.evaluate.train_rows or 0, train_rows)
    for stage in wanted_checkpoints({"base": Path()} | made, config.evaluate.stages):
        steps = math.ceil(asked / config.evaluate.batch_rows)
        yield phase(f"evaluation, {stage}", steps, asked * row, _answering(config, model, asked, asked))


def hours_table(config: Any, model: Architecture, train_rows: int, test_rows: int) -> list[str]:
    """The phases as lines for a terminal, with their sum, what that costs, and what was assumed."""
    plan, gpus = config.plan, gpus_of(config)
    lines = [f"{'stage':<30}{'steps':>8}{'tokens':>16}{'hours':>16}{'GPU-hours':>16}"]
    found = phases(config, model, train_rows, test_rows)
    for p in found:
        lines.append(
            f"{p.name:<30}{p.steps:>8,}{p.tokens:>16,.0f}{_range(p.hours, '.1f'):>16}"
            f"{_range(p.hours * gpus, ',.1f'):>16}"
        )
    total = sum((p.hours for p in found), np.zeros(2))
    lines.append(f"{'together':<54}{_range(total, '.1f'):>16}{_range(total * gpus, ',.1f'):>16}")
    price = plan.dollars_per_gpu_hour
    if price is None:
        lines.append('cost: not known; ARGS="plan.dollars_per_gpu_hour=..." gives a GPU-hour its price')
    else:
        lines.append(f"cost at {price} dollars a GPU-hour: {_range(total * gpus * price, ',.0f')} dollars")
    shares = ", ".join(f"{kind} {_range(pair(share)[::-1], 'g')}" for kind, share in plan.mfu.items())
    lines.append(
        f"assumed: {plan.tokens.prompt} + {plan.tokens.response} tokens a row, shares of the peak {shares}; "
        'replace them in conf/plan/assumptions.yaml or with ARGS="plan...."'
    )
    return lines


def _range(ends: np.ndarray, form: str) -> str:
    low, high = (format(end, form) for end in ends)
    return low if low == high else f"{low} to {high}"
