"""One RL step against the data sheet: the least seconds that the hardware allows, part by part.

A part takes at least as long as its FLOPs at the peak, as its bytes through the memory of a GPU, and as what
a GPU receives from the others; the largest of the three is its floor, and names what bounds it. Of N
parameters in bfloat16 on G GPUs with a rollout replica on every TP of them, B prompts, n answers to each, and
rows of p + r tokens of mean length:

    part       FLOPs                      bytes through memory                          bytes from other GPUs
    reading    (2 N + a) B p              2 N / TP a batch of tokens                    all-reduces
    decoding   (2 N + a) B n r            2 N / TP and the cache so far, r times        all-reduces
    log-probs  (2 N + a) B n (p + r)      4 N a micro-batch: gathered, read             2 N a micro-batch
    update     4 (2 N + a) B n (p + r)    8 N a micro-batch, 28 N / G an update         8 N a micro-batch
    weights                               2 N gathered, 2 N / TP written                2 N

a is attention over the tokens before, 4 FLOPs for each of them, of every head's width, in every layer.
Activations, logits and the host are left out, so a floor is a floor: nobody reaches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipe.run.plan_hours import gpus_of, step_seconds
from recipe.run.plan_memory import Architecture


@dataclass(frozen=True)
class Floor:
    """A part of the step.

    Attributes:
        flops: of all GPUs.
        memory, links: bytes through the memory of one GPU, and from other GPUs into it.
        seconds: what each of the three takes at its peak: ``arithmetic``, ``memory``, ``links``.
    """

    flops: float
    memory: float
    links: float
    seconds: dict[str, float]

    @property
    def least(self) -> float:
        """The floor in seconds."""
        return max(self.seconds.values())

    @property
    def bound(self) -> str:
        """What it is bound by."""
        return max(self.seconds, key=self.seconds.__getitem__)


def floors(config: Any, model: Architecture) -> dict[str, Floor]:
    """The parts of an RL step, named as `step_seconds` names them."""
    role, plan = config.actor_rollout_ref, config.plan
    gpu, gpus, n = plan.gpus[plan.gpu], gpus_of(config), model.parameters
    tp = role.rollout.tensor_model_parallel_size
    replicas = max(gpus // tp, 1)
    prompts, p, r = config.data.train_batch_size, plan.tokens.prompt, plan.tokens.response
    rows = prompts * role.rollout.n
    tokens = rows * (p + r)
    kl = role.actor.use_kl_loss

    def floor(flops: float, memory: float, links: float) -> Floor:
        seconds = {
            "arithmetic": flops / (gpus * gpu.tflops * 1e12),
            "memory": memory / (gpu.memory_tbs * 1e12),
            "links": links / (gpu.link_gbs * 1e9),
        }
        return Floor(flops, memory, links, seconds)

    def attention(context: float) -> float:
        return 4 * model.heads * model.head_dim * model.layers * context

    def reduced(amount: float) -> float:
        """Bytes of tensor parallelism for so many tokens of a replica: two all-reduces a layer, in a ring."""
        return 2 * model.layers * amount * model.hidden * 2 * 2 * (tp - 1) / tp

    def micro_batches(size: int, longest: int, dynamic: bool) -> int:
        own = rows / gpus  # of one rank
        return math.ceil(own * (p + r) / longest) if dynamic else math.ceil(own / size)

    def gathered(times: float) -> float:
        """Bytes that a rank receives when it gathers (or scatters) so many bytes of sharded weights."""
        return times * (gpus - 1) / gpus

    read = prompts * p
    batches = math.ceil(read / replicas / role.rollout.max_num_batched_tokens)
    decoded = rows * r / replicas
    cache = rows / replicas * r * (p + r / 2) * model.kv_bytes / tp
    generation = (
        (2 * n + attention(p / 2)) * read + (2 * n + attention(p + r / 2)) * rows * r,
        (batches + r) * 2 * n / tp + cache,
        reduced(read / replicas + decoded),
    )
    forward = (2 * n + attention((p + r) / 2)) * tokens
    actor = role.actor
    passes = micro_batches(
        role.rollout.log_prob_micro_batch_size_per_gpu or 1,
        role.rollout.log_prob_max_token_len_per_gpu,
        role.rollout.log_prob_use_dynamic_bsz,
    )
    updates = prompts / actor.ppo_mini_batch_size
    trained = micro_batches(
        actor.ppo_micro_batch_size_per_gpu or 1, actor.ppo_max_token_len_per_gpu, actor.use_dynamic_bsz
    )
    log_probs = floor(forward, passes * 4 * n, gathered(passes * 2 * n))
    found = {
        "generation": floor(*generation),
        "old log-probabilities": log_probs,
        "reference log-probabilities": log_probs,
        "update": floor(
            (8 if role.model.enable_gradient_checkpointing else 6) / 2 * forward,
            trained * 8 * n + updates * 28 * n / gpus,
            gathered(trained * 8 * n),  # weights forward and backward, gradients in float32
        ),
        "weights to vLLM": floor(0, 2 * n + 2 * n / tp, gathered(2 * n)),
    }
    if not kl:
        del found["reference log-probabilities"]
    return found


def step_table(config: Any, model: Architecture) -> list[str]:
    """One RL step for a terminal: its floor by the data sheet beside what the plan estimates."""
    gpu = config.plan.gpus[config.plan.gpu]
    known, estimates = floors(config, model), step_seconds(config, model)
    lines = [
        f"one RL step against the data sheet ({gpu.tflops:g} TFLOP/s, {gpu.memory_tbs:g} TB/s of memory, "
        f"{gpu.link_gbs:g} GB/s from other GPUs)",
        f"  {'':<32}{'PFLOP':>8}{'GB, memory':>12}{'GB, links':>11}{'floor, s':>10}  {'bound by':<10}"
        f"{'estimate, s':>14}",
    ]
    for name, (low, high) in estimates.items():
        part = known.get(name)
        numbers = " " * 43 + f"  {'':<10}"
        if part:
            numbers = (
                f"{part.flops / 1e15:>8.1f}{part.memory / 1e9:>12,.0f}{part.links / 1e9:>11,.0f}"
                f"{part.least:>10.2f}  {part.bound:<10}"
            )
        lines.append(f"  {name:<32}{numbers}{f'{low:.1f} to {high:.1f}':>14}")
    low, high = sum(estimates.values(), np.zeros(2))
    flops, least = (sum(getattr(part, name) for part in known.values()) for name in ("flops", "least"))
    estimate = f"{low:.1f} to {high:.1f}"
    lines.append(f"  {'together':<32}{flops / 1e15:>8.1f}{'':>23}{least:>10.2f}  {'':<10}{estimate:>14}")
    return lines
