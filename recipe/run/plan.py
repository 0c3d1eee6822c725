"""`make plan`: what a run needs in memory and hours, before anything starts. Arithmetic, no GPU, no model.

Memory per GPU, in bytes, of N parameters on G training ranks (FSDP2, float32 masters as veRL keeps
them, bfloat16 compute) and a rollout replica on every TP ranks:

    actor       4 N / G                      gradients 4 N / G          Adam moments 8 N / G
    reference   4 N / G, 0 with param_offload (on the GPU layer by layer only)
    gathered    2 layers and the two embeddings in bfloat16: what FSDP2 holds unsharded at once
    activations 2 T d L of checkpoints + 34 T d + 6 T f of the layer being recomputed
    logits      10 T V: bfloat16 logits, their float32 copy and its gradient
    rollout     gpu_memory_utilization of the GPU, of which 2 N / TP weights, the rest KV cache

for T tokens of a micro-batch, width d, L layers, feed-forward width f, V tokens in the vocabulary.
Hours are worked out in `recipe.run.plan_hours`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from data_prep.corpora import read_corpora
from recipe.models.named import resolve
from recipe.run.plan_hours import hours_table
from recipe.run.preflight import check_types
from recipe.run.roofline import step_table
from recipe.run.shortcuts import CONF, expand

GIB = 2**30


@dataclass(frozen=True)
class Architecture:
    """The sizes of a decoder-only transformer that memory and time depend on."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @classmethod
    def of(cls, config: Any) -> Architecture:
        """From a Hugging Face configuration."""
        heads = config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            vocab=config.vocab_size,
            tied=config.tie_word_embeddings,
        )

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer; norms and biases are left out, they are a few in ten thousand."""
        attention = self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding and, unless tied, of the output projection."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.layers * self.layer_parameters + self.embedding_parameters

    @property
    def kv_bytes(self) -> int:
        """Bytes of a token in the KV cache, in bfloat16."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU while it trains and while it generates."""

    training: Mapping[str, float]
    rollout: Mapping[str, float]
    available: float
    kv_tokens: float

    @property
    def fits(self) -> bool:
        """Whether both phases fit and a cache is left for at least one row."""
        return max(sum(self.training.values()), sum(self.rollout.values())) <= self.available


def micro_batch_tokens(config: Any, longest: int) -> int:
    """Tokens of the actor's largest micro-batch on one rank, rows being ``longest`` tokens long."""
    actor = config.actor_rollout_ref.actor
    if actor.use_dynamic_bsz:
        return max(actor.ppo_max_token_len_per_gpu, longest)
    return actor.ppo_micro_batch_size_per_gpu * longest


def memory(config: Any, model: Architecture, tokens: int) -> Memory:
    """Memory of the RL stage on one GPU.

    Args:
        config: the composed configuration.
        model: the architecture.
        tokens: of a micro-batch on one rank.
    """
    role, plan = config.actor_rollout_ref, config.plan
    ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes
    n, tp = model.parameters, role.rollout.tensor_model_parallel_size
    total, overhead = plan.gpus[plan.gpu].memory_gib * GIB, plan.overhead_gib * GIB
    fsdp = role.actor.fsdp_config
    weights = 0.0 if fsdp.param_offload else 4 * n / ranks
    moments = 0.0 if fsdp.optimizer_offload else 8 * n / ranks
    reference = 0.0 if role.ref.fsdp_config.param_offload or not role.actor.use_kl_loss else 4 * n / ranks
    width = tokens * model.hidden
    kept = 2 * width * model.layers if role.model.enable_gradient_checkpointing else 0
    per_layer = 34 * width + 6 * tokens * model.intermediate
    layers = 1 if role.model.enable_gradient_checkpointing else model.layers
    training = {
        "actor weights (float32, sharded)": 4 * n / ranks,
        "gradients": 4 * n / ranks,
        "Adam moments": 8 * n / ranks,
        "reference": reference,
        "gathered by FSDP2": 2.0 * (2 * model.layer_parameters + model.embedding_parameters),
        "activations": float(kept + layers * per_layer),
        "logits": 10.0 * tokens * model.vocab,
        "overhead": overhead,
    }
    share = role.rollout.gpu_memory_utilization * total
    rollout = {
        "actor weights (float32, sharded)": weights,
        "Adam moments": moments,
        "reference": reference,
        "vLLM's share": share,
        "overhead": overhead,
    }
    cache = max(share - 2 * n / tp - 2 * GIB, 0.0)
    return Memory(training, rollout, total, cache * tp / model.kv_bytes)


def largest_micro_batch(config: Any, model: Architecture) -> int:
    """The most tokens of a micro-batch that fit beside everything else; 0 if nothing does."""
    fixed, with_thousand = (sum(memory(config, model, t).training.values()) for t in (0, 1000))
    free = memory(config, model, 0).available - fixed
    return max(math.floor(free / (with_thousand - fixed) * 1000), 0)


def advice(config: Any, model: Architecture) -> list[str]:
    """What does not fit, each with the smallest change that would."""
    longest = config.data.max_prompt_length + config.data.max_response_length
    tokens = micro_batch_tokens(config, longest)
    need = memory(config, model, tokens)
    training, rollout = sum(need.training.values()), sum(need.rollout.values())
    found = []
    if training > need.available:
        room = largest_micro_batch(config, model)
        text = (
            f"training does not fit: {training / GIB:,.0f} GiB a GPU of {need.available / GIB:.0f} when "
            f"all {tokens:,} tokens of a micro-batch are there (rows of {longest:,} tokens). "
        )
        if room >= longest:
            text += (
                'Micro-batches by tokens fit: ARGS="actor_rollout_ref.actor.use_dynamic_bsz=true '
                f'actor_rollout_ref.actor.ppo_max_token_len_per_gpu={room // 1024 * 1024}"'
            )
        else:
            text += (
                f"Only {room:,} tokens fit, less than one row: split rows over GPUs "
                "(actor_rollout_ref.actor.ulysses_sequence_parallel_size=2 or more), shorten "
                "data.max_response_length, or take more GPUs"
            )
        found.append(text)
    if rollout > need.available:
        share = (need.available - rollout + need.rollout["vLLM's share"]) / need.available
        found.append(
            f"generation does not fit: {rollout / GIB:,.0f} GiB a GPU of {need.available / GIB:.0f}; "
            f"actor_rollout_ref.rollout.gpu_memory_utilization={math.floor(max(share, 0) * 100) / 100} would"
        )
    if need.kv_tokens < longest:
        found.append(
            f"the KV cache holds {need.kv_tokens:,.0f} tokens, less than one row of {longest:,}; raise "
            "actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size"
        )
    return found


def render(config: Any, model: Architecture, train_rows: int, test_rows: int) -> str:
    """The plan as text for a terminal."""
    plan = config.plan
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    longest = config.data.max_prompt_length + config.data.max_response_length
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
    lines += ["", *hours_table(config, model, train_rows, test_rows), "", *step_table(config, model), ""]
    problems = advice(config, model)
    lines += [f"WOULD NOT FIT  {problem}" for problem in problems] or ["everything fits"]
    return "\n".join(lines)


def architecture(config: Any) -> Architecture:
    """The sizes that ``base.architecture`` states, else those of the model's own configuration."""
    if config.base.architecture:
        return Architecture(**config.base.architecture)
    path = resolve(config.base.path)
    if path == "builtin:tiny":
        raise ValueError("the tiny model needs no plan; name a MODEL, for instance Qwen3-8B")
    from transformers import AutoConfig

    return Architecture.of(AutoConfig.from_pretrained(path, trust_remote_code=False))


def count_rows(config: Any) -> tuple[int, int]:
    """Labelled training and test utterances: of ``raw_dir`` if it is there, else as assumed."""
    if not config.raw_dir or not Path(config.raw_dir).is_dir():
        print(f"rows as assumed: there is no folder raw_dir={config.raw_dir}", file=sys.stderr)
        return config.plan.rows.train, config.plan.rows.test
    found = {"train": 0, "dev": 0, "test": 0}
    for dialogue in read_corpora(config.raw_dir, config.corpora):
        found[dialogue.split] += sum(utterance.label is not None for utterance in dialogue.utterances)
    return found["train"], found["test"]


@hydra.main(version_base=None, config_path=str(CONF), config_name="self_emo")
def _plan(config: DictConfig) -> None:
    try:
        check_types(config)
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
