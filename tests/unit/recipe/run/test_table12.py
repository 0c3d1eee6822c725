"""Table 12 at its veRL paths, and every committed combination of configuration groups."""

from __future__ import annotations

import contextlib
import io
from itertools import cycle, product

import pytest
import yaml
from omegaconf import OmegaConf

from recipe.models import weights
from recipe.run import gpu_checks, preflight
from recipe.run.flatten import flatten
from recipe.run.preflight import PreflightError
from recipe.run.shortcuts import CONF
from recipe.run.table12 import against_paper
from tests.unit.composed import composed

pytestmark = pytest.mark.settings

#: All rows of Table 12 but model.path, in the table's order (left column, then right), at the paths
#: where veRL reads them; the table leaves out `actor_rollout_ref` and, in three rows, `data`.
TABLE_12 = {
    "data.train_batch_size": 64,
    "data.max_prompt_length": 4096,
    "data.max_response_length": 8192,
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 32,
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 16,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.fsdp_config.param_offload": False,
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload": False,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 16,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.max_num_batched_tokens": 12400,
    "actor_rollout_ref.rollout.gpu_memory_utilization": 0.5,
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 8,
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": 16,
    "actor_rollout_ref.ref.fsdp_config.param_offload": True,
    "algorithm.use_kl_in_reward": False,
    "trainer.critic_warmup": 0,
    "trainer.n_gpus_per_node": 8,
    "trainer.nnodes": 1,
    "trainer.save_freq": 480,
    "trainer.test_freq": 10,
    "trainer.total_epochs": 3,
}
#: Attention and key-value heads, as the models' own configurations say.
HEADS = {
    "any": (32, 8), "qwen3-1.7b": (16, 8), "qwen3-4b": (32, 8), "qwen3-8b": (32, 8),
    "smollm2-135m": (9, 3), "tiny": (4, 2),
}  # fmt: skip


@pytest.mark.parametrize(("model", "path"), [("qwen3-4b", "Qwen/Qwen3-4B"), ("qwen3-8b", "Qwen/Qwen3-8B")])
def test_every_row_of_table_12(model, path):
    config = composed(f"model={model}", "experiment=paper_exact", "hardware=8gpu")
    assert len(TABLE_12) == 25
    found = {key: OmegaConf.select(config, key, throw_on_missing=True) for key in TABLE_12}
    assert found == TABLE_12
    assert {key: type(value) for key, value in found.items()} == {k: type(v) for k, v in TABLE_12.items()}
    assert config.actor_rollout_ref.model.path == config.base.path == path
    # What the table takes for granted: veRL leaves the KL loss off, and then its coefficient does nothing.
    assert config.actor_rollout_ref.actor.use_kl_loss is True
    # Micro-batches are those of the table, so nothing may split the rows by their tokens instead.
    role = config.actor_rollout_ref
    assert not any(
        (role.actor.use_dynamic_bsz, role.rollout.log_prob_use_dynamic_bsz, role.ref.log_prob_use_dynamic_bsz)
    )
    assert config.algorithm.adv_estimator == "self_grpo" and role.rollout.name == "vllm"
    assert config.flywheel.mix == {"original": 15_000, "self_play": 8_000}  # Table 2
    assert (config.flywheel.retrain_from, config.flywheel.min_reward) == ("base", 0.4)
    # The whole method: RL sees self-play rows only from the second iteration on.
    assert (config.flywheel.iterations, config.flywheel.turns) == (2, 2)
    assert config.self_emo.lambda_max == 1.0


def test_what_the_paper_profile_changes_of_the_letter():
    """Micro-batches by tokens, in all three places that have them, and more checkpoints; nothing else."""
    exact, paper = (
        flatten(
            OmegaConf.to_container(
                composed("model=qwen3-8b", f"experiment={name}", "hardware=8gpu"), resolve=True
            )
        )
        for name in ("paper_exact", "paper")
    )
    changed = {key: value for key, value in paper.items() if exact[key] != value}
    rollout, actor = ("actor_rollout_ref.rollout", "actor_rollout_ref.actor")
    of_rl = {
        key: value for key, value in changed.items() if key.startswith(("actor_rollout_ref.", "trainer."))
    }
    assert of_rl.pop("trainer.save_freq") == 40
    assert of_rl[f"{actor}.use_dynamic_bsz"] and of_rl[f"{rollout}.log_prob_use_dynamic_bsz"]
    assert of_rl["actor_rollout_ref.ref.log_prob_use_dynamic_bsz"]
    assert set(of_rl.values()) <= {True, 16384}
    assert all("dynamic_bsz" in key or "max_token_len" in key for key in of_rl)
    assert (
        paper[f"{actor}.ppo_max_token_len_per_gpu"] >= 4096 + 8192
    )  # veRL refuses rows that fill no micro-batch
    assert not [key for key in changed if not key.startswith(("actor_rollout_ref.", "trainer.", "critic."))]


def test_a_mini_batch_may_be_cut_anywhere():
    """veRL divides by the tokens of the whole mini-batch, so the losses of its parts add up to the same."""
    import torch
    from verl.trainer.ppo.core_algos import agg_loss

    torch.manual_seed(1)
    loss = torch.rand(16, 9)
    mask = (torch.arange(9)[None] < torch.randint(1, 10, (16, 1))).float()
    mode = composed("experiment=paper", "hardware=8gpu").actor_rollout_ref.actor.loss_agg_mode

    def added(*sizes: int) -> float:
        parts = zip(loss.split(sizes), mask.split(sizes), strict=True)
        return float(sum(agg_loss(a, b, mode, batch_num_tokens=int(mask.sum())) for a, b in parts))

    assert added(16) == pytest.approx(added(3, 8, 1, 4), rel=1e-6)


def test_the_page_says_where_the_table_s_micro_batches_only_document():
    notes = {line["name"]: line for line in against_paper(composed("experiment=paper", "hardware=8gpu"))}
    for name in ("actor.ppo_micro_batch_size_per_gpu", "ref.log_prob_micro_batch_size_per_gpu"):
        line = notes[f"actor_rollout_ref.{name}"]
        assert line["same"] and line["note"] == "by tokens instead, at most 16,384 a GPU: the same sums"
    assert not notes["trainer.save_freq"]["same"] and notes["data.train_batch_size"]["note"] == ""
    assert not any(
        line["note"] for line in against_paper(composed("experiment=paper_exact", "hardware=8gpu"))
    )


def test_verl_s_own_objects_hold_table_12():
    from verl.utils.config import omega_conf_to_dataclass

    config = composed("model=qwen3-8b", "experiment=paper_exact", "hardware=8gpu")
    nodes = [f"actor_rollout_ref.{name}" for name in ("actor", "rollout", "ref.fsdp_config")]
    made = {f"{node}.": omega_conf_to_dataclass(OmegaConf.select(config, node)) for node in nodes}
    seen = 0
    for key, wanted in TABLE_12.items():
        for prefix, value in made.items():
            if key.startswith(prefix):
                seen += 1
                for name in key.removeprefix(prefix).split("."):
                    value = value[name]
                assert value == wanted, key
    assert seen == 8 + 5 + 1


# ---- all combinations ----


def group(name: str) -> list[str]:
    return sorted(path.stem for path in (CONF / name).glob("*.yaml"))


#: Other hardware with fewer GPUs or with adapters: tried with the largest and the smallest profile.
DERIVED = ("1gpu_lora", "2gpu", "4gpu")
PROFILES = [
    (e, h)
    for e in group("experiment")
    for h in group("hardware")
    if h not in DERIVED or e in ("paper", "smoke")
]
#: What cannot work, and what the message says.
REFUSED = {
    (e, "multinode"): "sft.data.train_batch_size=8 is not divisible by the 16"
    for e in ("endpoint", "smoke_llm", "zero_shot")
}
# Pairs of a model and an expert are dealt out over the profiles: with this many, each of them occurs, and
# the test below shows that neither of them touches what the others set.
PAIRS = cycle(product(group("model"), group("expert")))
DEALT = [(e, h, model, expert) for (e, h), (model, expert) in zip(PROFILES, PAIRS, strict=False)]


def test_models_and_experts_set_nothing_that_the_other_groups_set():
    pairs = {(model, expert) for _, _, model, expert in DEALT}
    assert len(pairs) == len(group("model")) * len(group("expert"))
    packages = {"model": ("# @package _global_", {"base"}), "expert": ("# @package expert", None)}
    for name, (package, keys) in packages.items():
        for path in (CONF / name).glob("*.yaml"):
            text = path.read_text()
            assert text.startswith(package), path
            assert keys is None or set(yaml.safe_load(text)) == keys, path
    for path in [p for name in ("experiment", "hardware") for p in (CONF / name).glob("*.yaml")]:
        assert not {"base", "expert"} & set(yaml.safe_load(path.read_text())), path


@pytest.mark.parametrize(("experiment", "hardware", "model", "expert"), DEALT)
def test_every_combination(experiment, hardware, model, expert):
    named = ["base.name=mine", "base.path=owner/name"] if model == "any" else []
    groups = f"experiment={experiment} hardware={hardware} model={model} expert={expert}"
    if expert == "offline":  # which softens no labels; the refusal has a test of its own
        named.append("labels.kind=gold")
    config = composed(*groups.split(), *named)
    if hardware != "cpu":
        gpu_checks.fit_replicas(config)
    OmegaConf.to_container(config, resolve=True)
    assert OmegaConf.missing_keys(config) == {"reward.reward_model.rollout.name"}  # veRL's own, not in use
    with contextlib.redirect_stdout(io.StringIO()):
        if reason := REFUSED.get((experiment, hardware)):
            with pytest.raises(PreflightError, match=reason):
                preflight._check_settings(config)
            return
        preflight._check_settings(config)
    # Which models the replicas can be split for does not depend on the rest.
    size = config.actor_rollout_ref.rollout.tensor_model_parallel_size
    whole = {2: {"smollm2-135m"}, 4: {"smollm2-135m"}, 8: {"smollm2-135m", "tiny"}}.get(size, set())
    for name, heads in HEADS.items():
        if name in whole:
            with pytest.raises(PreflightError, match=f"={size} cannot split .* {heads[0]} attention heads"):
                preflight._check_tensor_parallel(config, *heads)
        else:
            preflight._check_tensor_parallel(config, *heads)


def test_the_heads_are_the_models_own():
    assert HEADS.keys() == set(group("model"))
    assert HEADS["tiny"] == weights.attention_heads("builtin:tiny")
    for model in ("qwen3-1.7b", "qwen3-4b", "qwen3-8b"):
        sizes = yaml.safe_load((CONF / f"model/{model}.yaml").read_text())["base"]["architecture"]
        assert HEADS[model] == (sizes["heads"], sizes["kv_heads"])
