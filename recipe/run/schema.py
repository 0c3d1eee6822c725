"""What every setting of this recipe may be: its type and range, checked before anything starts.

The settings themselves, with their comments, are in ``conf/``. Of veRL's nodes only those fields stand here
that the recipe reads, or whose wrong value would be found out after hours; `recipe.run.verl_types` checks
the types of the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from data_prep.setting_types import (
    Count,
    Seconds,
    Switch,
    Text,
    Words,
    faults,
    number,
    one_of,
    one_or_two,
    pair,
    shown,
    whole,
)

Seed = Annotated[int, whole(0, 2**32 - 1)]
AtLeastZero = Annotated[int, whole(0)]
Positive = Annotated[float, number(0, above=True)]
Share = Annotated[float, number(0, 1, above=True)]
NotNegative = Annotated[float, number(0)]
#: Assumptions of `make plan`: one number, or two from the worse to the better.
ShareRange = Annotated[float | list[float], one_or_two(0, 1, above=True)]
SecondsRange = Annotated[float | list[float], one_or_two(0)]
#: Every so many steps; -1: never.
Every = Annotated[int, whole(-1)]
#: A split of the made-up dialogues; fewer utterances do not have every corpus and label.
Sampled = Annotated[int, whole(60, 10_000_000)]
#: Above 1 only a sign was lost: 1e5 for 1e-5.
LearningRate = Annotated[float, number(0, 1)]
#: Iterations, turns, retries, wordings: more are done by no run, and would be counted out before it starts.
AtMostThousand = Annotated[int, whole(0, 1_000)]


class _Ours(BaseModel):
    """A node of ours: it has these settings and no other."""

    model_config = ConfigDict(extra="forbid")


class _Part(BaseModel):
    """A node of veRL's, of which some settings are looked at."""

    model_config = ConfigDict(extra="ignore")


class Run(_Ours):
    root: Text
    name: Text | None
    resume: Switch
    seed: Seed
    reuse: Words
    preload: Words
    retries: AtMostThousand
    patience: Seconds
    rejoin: Seconds


class Samples(_Ours):
    train: Sampled
    dev: Sampled
    test: Sampled
    seed: Seed


class Labels(_Ours):
    kind: Annotated[str, one_of("gold", "votes", "expert")]


class Personas(_Ours):
    scope: Annotated[str, one_of("dialogue", "past")]


class Prompts(_Ours):
    dir: Text
    digest: Text | None


class Architecture(_Ours):
    layers: Count
    hidden: Count
    intermediate: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    vocab: Count
    tied: Switch


class Pretraining(_Ours):
    dialogues: Count
    steps: Count
    batch: Count
    lr: Annotated[float, number(0, 1, above=True)]
    seed: Seed = 1  # what runs of before were begun without


class Base(_Ours):
    name: Text
    path: Text
    experiment: Text
    gpu_experiment: Text | None = None
    architecture: Architecture | None
    pretrain: Pretraining | None = None


class Mix(_Ours):
    original: Count | None
    self_play: AtLeastZero


class Flywheel(_Ours):
    iterations: AtMostThousand
    retrain_from: Annotated[str, one_of("base", "policy")]
    min_reward: Annotated[float, number(0, 1.1)]
    turns: AtMostThousand
    same_reply: Annotated[float, number(0, 1)]
    held_out: Annotated[float, number(0, 0.5)]
    batches: Annotated[str, one_of("shuffled", "stratified")]
    lambda_horizon: Annotated[str, one_of("stage", "run")]
    cold_start_rows: Count | None
    mix: Mix


class Evaluate(_Ours):
    batch_rows: Count
    replicas: Annotated[int, whole(1, 16)] = 1  # the settings of an older run do not have it
    stages: Words
    samples: Annotated[int, whole(1, 1_000)]
    temperature: Annotated[float, number(0, 10)]
    train_rows: AtLeastZero | None
    paraphrases: AtMostThousand = 0  # the settings of an older run do not have it
    entropy_rows: AtLeastZero | None
    of: Text | None
    endpoint: dict[str, Any] | None = None  # `data_prep.experts.settings.Settings` says what may stand there

    @model_validator(mode="after")
    def _several_answers_are_drawn(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"evaluate.samples={self.samples} answers at evaluate.temperature=0 would be all the same; "
                "choose a temperature above 0, or one sample"
            )
        return self


class SelfEmo(_Ours):
    lambda_max: Annotated[float, number(0, 100)]
    min_named_weight: Annotated[float, number(0, 0.34)]
    poll_interval: Annotated[float, number(0, 600, above=True)]
    rollout_dir: Text | None
    lambda_offset: AtLeastZero
    lambda_total: Count | None


class Gpu(_Ours):
    memory_gib: Positive
    tflops: Positive
    memory_tbs: Positive
    link_gbs: Positive


class Mfu(_Ours):
    train: ShareRange
    forward: ShareRange
    decode: ShareRange


class StepSeconds(_Ours):
    weights: SecondsRange
    sleep: SecondsRange
    rest: SecondsRange


class MeanTokens(_Ours):
    prompt: Positive
    response: Positive


class Rows(_Ours):
    train: Count
    test: Count


class Plan(_Ours):
    check: Switch
    gpu: Text
    gpus: dict[str, Gpu]
    mfu: Mfu
    step_seconds: StepSeconds
    disk_gbs: Annotated[float | list[float], one_or_two(0, above=True)]
    overhead_gib: NotNegative
    start_seconds: Seconds
    dollars_per_gpu_hour: NotNegative | None
    tokens: MeanTokens
    rows: Rows

    @model_validator(mode="after")
    def _of_a_known_gpu(self) -> Self:
        if self.gpu not in self.gpus:
            raise ValueError(f"plan.gpu={shown(self.gpu)} must be one of {', '.join(self.gpus)}")
        return self


class Cluster(BaseModel):
    """Goes to ``ray.init``, whose other arguments it may hold."""

    model_config = ConfigDict(extra="allow")
    num_cpus: Count | None = None
    num_gpus: NotNegative | None = None


# ---- veRL's nodes ----


class _Optimizer(_Part):
    lr: LearningRate
    weight_decay: NotNegative | None = None
    lr_warmup_steps_ratio: Annotated[float, number(0, 1)] | None = None
    lr_warmup_steps: Every | None = None
    min_lr_ratio: Annotated[float, number(0, 1)] | None = None
    betas: Annotated[list[float], pair(0, 1)] | None = None
    clip_grad: Positive | None = None


class SftData(_Part):
    train_batch_size: Count
    micro_batch_size_per_gpu: Count | None = None
    max_token_len_per_gpu: Count | None = None
    max_length: Count
    num_workers: AtLeastZero = 0
    use_dynamic_bsz: Switch = True


class SftEngine(_Part):
    ulysses_sequence_parallel_size: Count = 1
    fsdp_size: Every = -1


class SftTrainer(_Part):
    total_epochs: Count
    total_training_steps: Count | None = None
    max_ckpt_to_keep: Count | None = None


class Sft(_Part):
    data: SftData
    optim: _Optimizer
    engine: SftEngine
    trainer: SftTrainer


class Data(_Part):
    train_batch_size: Count
    max_prompt_length: Count
    max_response_length: Count
    dataloader_num_workers: AtLeastZero
    shuffle: Switch = True
    truncation: Annotated[str, one_of("error", "left", "right", "middle")] = "error"
    train_max_samples: Every = -1
    val_max_samples: Every = -1


class Model(_Part):
    lora_rank: AtLeastZero
    lora_alpha: Count = 1
    enable_gradient_checkpointing: Switch


class Offload(_Part):
    param_offload: Switch
    optimizer_offload: Switch
    ulysses_sequence_parallel_size: Count = 1
    fsdp_size: Every = -1


class Actor(_Part):
    optim: _Optimizer
    ppo_mini_batch_size: Count
    ppo_micro_batch_size_per_gpu: Count | None
    ppo_max_token_len_per_gpu: Count
    ppo_epochs: Count
    use_dynamic_bsz: Switch
    fsdp_config: Offload
    kl_loss_coef: NotNegative
    grad_clip: Positive
    clip_ratio: NotNegative = 0.2
    clip_ratio_low: NotNegative = 0.2
    clip_ratio_high: NotNegative = 0.2


class AgentLoop(_Part):
    num_workers: Count


class WeightTransfer(_Part):
    update_weights_bucket_megabytes: Count


class Rollout(_Part):
    n: Annotated[int, whole(2)]  # of SELF-GRPO's group, two are the fewest that can agree
    temperature: Annotated[float, number(0, 10, above=True)]  # a greedy group would agree with itself
    top_p: Share
    top_k: Every = -1
    repetition_penalty: Positive = 1.0
    max_model_len: Count | None = None
    agent: AgentLoop
    checkpoint_engine: WeightTransfer
    gpu_memory_utilization: Share
    tensor_model_parallel_size: Count
    max_num_batched_tokens: Count
    max_num_seqs: Count
    log_prob_micro_batch_size_per_gpu: Count | None


class Reference(_Part):
    log_prob_micro_batch_size_per_gpu: Count | None
    fsdp_config: Offload


class ActorRolloutRef(_Part):
    model: Model
    actor: Actor
    rollout: Rollout
    ref: Reference


class Reward(_Part):
    num_workers: Count


class Storage(_Part):
    num_data_storage_units: Count = 1


class TransferQueueBackend(_Part):
    SimpleStorage: Storage = Storage()


class TransferQueue(_Part):
    backend: TransferQueueBackend = TransferQueueBackend()


class Trainer(_Part):
    n_gpus_per_node: Count
    nnodes: Count
    total_training_steps: Count | None
    total_epochs: Count
    save_freq: Every
    test_freq: Every
    val_before_train: Switch
    critic_warmup: AtLeastZero = 0
    max_actor_ckpt_to_keep: Count | None = None
    resume_mode: Annotated[str, one_of("auto", "disable", "resume_path")] = "auto"
    log_val_generations: AtLeastZero = 0
    device: Annotated[str, one_of("cpu", "cuda")]
    logger: Words


class Schema(_Part):
    """All of a run's settings, as `make train` composes them."""

    run: Run
    raw_dir: Text | None
    download: Text | None
    corpora: Words | None
    samples: Samples
    labels: Labels
    personas: Personas
    decontaminate: Annotated[str, one_of("report", "drop")]
    train_rows: Count | None
    dev_rows: Count | None
    test_rows: Count | None
    prompts: Prompts
    base: Base
    flywheel: Flywheel
    evaluate: Evaluate
    self_emo: SelfEmo
    plan: Plan
    profile: Annotated[str, one_of("cpu", "gpu")]
    env: dict[str, Text]
    cluster: Cluster
    sft: Sft
    data: Data
    actor_rollout_ref: ActorRolloutRef
    reward: Reward
    transfer_queue: TransferQueue = TransferQueue()
    trainer: Trainer

    @model_validator(mode="after")
    def _what_the_environment_counts_is_a_number(self) -> Self:
        size = self.env.get("VLLM_CPU_KVCACHE_SPACE", "")
        if self.trainer.device == "cpu" and not (size.isascii() and size.isdigit() and int(size)):
            raise ValueError(
                f"env.VLLM_CPU_KVCACHE_SPACE={shown(size or None)} must be a whole number of GiB, at least 1"
            )
        threads = self.env.get("OMP_NUM_THREADS", "1")  # what it cannot read OpenMP takes for all cores
        if not re.fullmatch("[1-9][0-9]{0,3}", threads):
            raise ValueError(f"env.OMP_NUM_THREADS={shown(threads)} must be a whole number, at least 1")
        return self


def setting_faults(settings: Mapping[str, Any], known: list[str]) -> list[str]:
    """What is wrong with the settings, a line a fault; empty if nothing is.

    Args:
        settings: the composed configuration as plain containers, its references resolved.
        known: names of settings, for the nearest to an unknown one.
    """
    try:
        Schema.model_validate(settings)
    except ValidationError as error:
        return faults(error, "", known)
    return []
