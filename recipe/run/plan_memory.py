"""What the RL stage needs on a GPU, by arithmetic alone, and the settings with which it would fit.

In bytes, of N parameters on G training ranks (FSDP2, float32 masters as veRL keeps them, bfloat16 compute)
and a rollout replica on every TP ranks:

    actor       4 N / G                      gradients 4 N / G          Adam moments 8 N / G
                (LoRA: gradients and moments of its own weights alone)
    reference   4 N / G, 0 with param_offload (on the GPU layer by layer only) and with LoRA (the base itself)
    gathered    2 layers and the two embeddings in bfloat16: what FSDP2 holds unsharded at once
    scattered   6 bytes a weight of the largest group: its gradient, and its float32 copy to be summed
    activations 2 T d L of checkpoints + 34 T d + 6 T f of the layer being recomputed
    logits      2 T V: flash-attn's loss writes the gradient over them; 10 T V with veRL's fallback, which
                keeps a float32 log-softmax (verl/utils/torch_functional.py, logprobs_from_logits_v2)
    mask        3 T^2 where sdpa keeps the packed rows of a micro-batch apart; flash-attn needs none
    rollout     gpu_memory_utilization of the GPU, of which 2 N / TP weights, the rest KV cache

for T tokens of a micro-batch, width d, L layers, feed-forward width f, V tokens in the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from recipe.models.named import resolve

GIB = 2**30
_ACTOR, _MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.model"
_SHARE = "actor_rollout_ref.rollout.gpu_memory_utilization"


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

    def lora_parameters(self, rank: int) -> int:
        """Weights of LoRA adapters of ``rank`` on every projection of every layer."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        ends = 2 * (self.hidden + queries) + 2 * (self.hidden + keys) + 3 * (self.hidden + self.intermediate)
        return rank * ends * self.layers


def architecture(config: Any) -> Architecture:
    """The sizes that ``base.architecture`` states, else those of the model's own configuration."""
    if config.base.architecture:
        return Architecture(**config.base.architecture)
    path = resolve(config.base.path)
    if path == "builtin:tiny":
        raise ValueError(
            "the tiny model needs no plan: it trains without a GPU, in some 15 minutes on 2 cores; name a "
            "MODEL, for instance make plan MODEL=Qwen3-8B"
        )
    from transformers import AutoConfig

    return Architecture.of(AutoConfig.from_pretrained(path, trust_remote_code=False))


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU while it trains and while it generates."""

    training: Mapping[str, float]
    rollout: Mapping[str, float]
    available: float
    kv_tokens: float

    @property
    def fits(self) -> bool:
        """Whether both phases fit into the GPU."""
        return max(sum(self.training.values()), sum(self.rollout.values())) <= self.available


def micro_batch_tokens(config: Any, longest: int) -> int:
    """Tokens of the actor's largest micro-batch on one rank, rows being ``longest`` tokens long."""
    actor = config.actor_rollout_ref.actor
    if actor.use_dynamic_bsz:
        return max(actor.ppo_max_token_len_per_gpu, longest)
    return actor.ppo_micro_batch_size_per_gpu * longest


def longest_row(config: Any) -> int:
    """Tokens of the longest prompt and response that the settings allow."""
    return config.data.max_prompt_length + config.data.max_response_length


def uses_flash_attention(config: Any) -> bool:
    """Whether attention is flash-attn's, as it is in veRL unless ``override_config`` names another."""
    named = config.actor_rollout_ref.model.override_config.get("attn_implementation", "flash_attention_2")
    return str(named).startswith("flash")


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
    trained = model.lora_parameters(role.model.lora_rank) if role.model.lora_rank else n
    total, overhead = plan.gpus[plan.gpu].memory_gib * GIB, plan.overhead_gib * GIB
    fsdp = role.actor.fsdp_config
    flash = uses_flash_attention(config)
    no_reference = (
        role.ref.fsdp_config.param_offload or not role.actor.use_kl_loss or bool(role.model.lora_rank)
    )
    reference = 0.0 if no_reference else 4 * n / ranks
    width = tokens * model.hidden
    kept = 2 * width * model.layers if role.model.enable_gradient_checkpointing else 0
    per_layer = 34 * width + 6 * tokens * model.intermediate
    layers = 1 if role.model.enable_gradient_checkpointing else model.layers
    largest_group = 0 if role.model.lora_rank else max(model.layer_parameters, model.vocab * model.hidden)
    training = {
        "actor weights (float32, sharded)": 4 * n / ranks,
        "gradients": 4 * trained / ranks,
        "Adam moments": 8 * trained / ranks,
        "reference": reference,
        "gathered by FSDP2": 2.0 * (2 * model.layer_parameters + model.embedding_parameters),
        "gradients to be scattered": 6.0 * largest_group,
        "activations": float(kept + layers * per_layer),
        "attention mask": 0.0 if flash else 3.0 * tokens**2,
        "logits": (2.0 if flash else 10.0) * tokens * model.vocab,
        "overhead": overhead,
    }
    share = role.rollout.gpu_memory_utilization * total
    rollout = {
        "actor weights (float32, sharded)": 0.0 if fsdp.param_offload else 4 * n / ranks,
        "Adam moments": 0.0 if fsdp.optimizer_offload else 8 * trained / ranks,
        "reference": reference,
        "vLLM's share": share,
        "overhead": overhead,
    }
    cache = max(share - 2 * n / tp - 2 * GIB, 0.0)
    return Memory(training, rollout, total, cache * tp / model.kv_bytes)


def largest_micro_batch(config: Any, model: Architecture) -> int:
    """The most tokens of a micro-batch that fit beside everything else; 0 if nothing does."""
    low, high = 0, 2**22
    while low < high:  # sdpa's mask makes it a square, so it is found by halving
        middle = (low + high + 1) // 2
        fits = sum(memory(config, model, middle).training.values()) <= memory(config, model, 0).available
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def problems(config: Any, model: Architecture) -> list[str]:
    """What of a configuration does not fit, in numbers; empty if everything does."""
    longest = longest_row(config)
    tokens = micro_batch_tokens(config, longest)
    need = memory(config, model, tokens)
    training, rollout = sum(need.training.values()), sum(need.rollout.values())
    found = []
    if training > need.available:
        found.append(
            f"training does not fit: {training / GIB:,.0f} GiB a GPU of {need.available / GIB:.0f} when all "
            f"{tokens:,} tokens of a micro-batch are there (rows of {longest:,} tokens)"
        )
    if rollout > need.available:
        found.append(f"generation does not fit: {rollout / GIB:,.0f} GiB a GPU of {need.available / GIB:.0f}")
    if need.kv_tokens < longest:
        found.append(f"the KV cache holds {need.kv_tokens:,.0f} tokens, less than one row of {longest:,}")
    return found


def remedy(config: Any, model: Architecture) -> str:
    """The first of a few changes, the cheapest first, with which everything fits, as a command's ARGS.

    Returns:
        One sentence; it names more or larger GPUs only where no change of settings is enough.
    """
    for changes in _candidates(config, model):
        changed = config.copy()
        OmegaConf.set_struct(changed, False)
        changed.merge_with_dotlist(list(changes))
        if not problems(changed, model):
            return f'it would with ARGS="{" ".join(changes)}"'
    longest = longest_row(config)
    return (
        f"no change of memory's settings is enough for rows of {longest:,} tokens: shorten "
        "data.max_response_length, or take more or larger GPUs"
    )


def advice(config: Any, model: Architecture) -> list[str]:
    """What does not fit, with what would; empty if everything fits."""
    found = problems(config, model)
    return [f"{'; '.join(found)}; {remedy(config, model)}"] if found else []


def _candidates(config: Any, model: Architecture) -> Iterator[Sequence[str]]:
    """Changes to try: micro-batches, vLLM's share, offloading, then LoRA, each with those before it."""
    offload = [
        (),
        (f"{_ACTOR}.fsdp_config.optimizer_offload=true",),
        (f"{_ACTOR}.fsdp_config.optimizer_offload=true", f"{_ACTOR}.fsdp_config.param_offload=true"),
    ]
    lora = (
        f"{_MODEL}.lora_rank=32", f"{_MODEL}.lora_alpha=64", f"{_MODEL}.lora.merge=true",
        f"{_ACTOR}.optim.lr=1e-5", "sft.optim.lr=1e-4",
    )  # fmt: skip
    for adapters in ((), lora):
        for moved in offload:
            settings = (*moved, *adapters)
            yield from _with_batch_and_share(config, model, settings)


def _with_batch_and_share(
    config: Any, model: Architecture, settings: Sequence[str]
) -> Iterator[Sequence[str]]:
    """``settings``, with the micro-batch and vLLM's share that fit beside them, where they must change."""
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    changed.merge_with_dotlist(list(settings))
    longest = longest_row(changed)
    room = min(largest_micro_batch(changed, model), 32768) // 1024 * 1024
    more = list(settings)
    if room >= longest and micro_batch_tokens(changed, longest) > room:
        more += [f"{_ACTOR}.use_dynamic_bsz=true", f"{_ACTOR}.ppo_max_token_len_per_gpu={room}"]
    need = memory(changed, model, longest)
    free = need.available - sum(need.rollout.values()) + need.rollout["vLLM's share"]
    share = math.floor(min(max(free / need.available, 0.0), 0.9) * 100) / 100
    if sum(need.rollout.values()) > need.available or need.kv_tokens < longest:
        more.append(f"{_SHARE}={share}")
    yield more
