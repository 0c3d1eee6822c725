"""Every setting has a type and a range; what is wrong is told in a line with what it takes."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf, open_dict

from recipe.run.flatten import plain
from recipe.run.preflight import PreflightError, check_types
from recipe.run.schema import Schema
from tests.unit.composed import composed

pytestmark = pytest.mark.settings


@pytest.fixture(scope="module")
def default():
    return composed("hardware=cpu")


@pytest.fixture
def said():
    """What is said of settings with these changes; empty if nothing is wrong."""

    def said(changes: dict) -> str:
        config = composed("hardware=cpu")
        with open_dict(config):
            for name, value in changes.items():
                OmegaConf.update(config, name, value, force_add=True)
        try:
            check_types(config)
        except PreflightError as error:
            return str(error)
        return ""

    return said


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("flywheel.mix.original", -5, "a whole number, at least 1"),
        ("flywheel.mix.self_play", None, "a whole number, at least 0"),
        ("flywheel.mix", 5, "settings by name"),
        ("flywheel.min_reward", "abc", "a number from 0 to 1.1"),
        ("flywheel.min_reward", float("nan"), "a number from 0 to 1.1"),
        ("flywheel.iterations", True, "a whole number"),
        ("flywheel.turns", 1.0, "a whole number"),
        ("flywheel", None, "settings by name"),
        ("sft.optim.lr", "fast", "a number from 0 to 1"),
        ("sft.optim.lr", None, "a number from 0 to 1"),
        ("sft.trainer.total_epochs", 0, "a whole number, at least 1"),
        ("actor_rollout_ref.actor.optim.lr", float("inf"), "a number from 0 to 1"),
        ("actor_rollout_ref.rollout.temperature", 0, "a number above 0, at most 10"),
        ("actor_rollout_ref.rollout.gpu_memory_utilization", 1.5, "a number above 0, at most 1"),
        ("run.seed", "abc", "a whole number from 0"),
        ("run.seed", -1, "a whole number from 0"),
        ("run.seed", 2**32, "a whole number from 0"),
        ("run.resume", "maybe", "true or false"),
        ("run.resume", 1, "true or false"),
        ("run.patience", -1, "a number, at least 0"),
        ("run.name", "", "text; put quotes around it"),
        ("run.reuse", 3, "a list, such as [one,two]"),
        ("trainer.n_gpus_per_node", 0, "a whole number, at least 1"),
        ("trainer.nnodes", None, "a whole number, at least 1"),
        ("trainer.save_freq", "never", "a whole number, at least -1"),
        ("data.train_batch_size", 0, "a whole number, at least 1"),
        ("data.max_response_length", "long", "a whole number, at least 1"),
        ("evaluate.stages", 1, "a list, such as [one,two]"),
        ("evaluate.batch_rows", 0, "a whole number, at least 1"),
        ("evaluate.entropy_rows", -1, "a whole number, at least 0"),
        ("evaluate.temperature", "warm", "a number from 0 to 10"),
        ("self_emo.poll_interval", 0, "a number above 0, at most 600"),
        ("samples.train", 59, "a whole number from 60 to"),
        ("corpora", [1], "a list, such as [one,two]"),
        ("raw_dir", False, "text"),
        ("base.pretrain.steps", 0, "a whole number, at least 1"),
        ("plan.mfu.train", 0, "a number above 0, at most 1"),
        ("plan.mfu.train", [0.1, 0.2, 0.3], "a number above 0, at most 1, or a list of two"),
        ("plan.mfu.decode", [0.1, "much"], "a number above 0, at most 1, or a list of two"),
        ("plan.step_seconds.sleep", [], "a number, at least 0, or a list of two"),
        ("plan.disk_gbs", 0, "a number above 0, or a list of two"),
        ("plan.check", "no", "true or false"),
        ("download", True, "text"),
        ("run.preload", 3, "a list, such as [one,two]"),
        ("evaluate.train_rows", -1, "a whole number, at least 0"),
        ("actor_rollout_ref.model.lora_rank", -1, "a whole number, at least 0"),
        ("actor_rollout_ref.actor.use_dynamic_bsz", "yes", "true or false"),
        ("plan.gpus.h100-80gb.tflops", "many", "a number above 0"),
        ("cluster.num_cpus", 0, "a whole number, at least 1"),
        ("env", "A=1", "settings by name"),
        ("sft.data.num_workers", -1, "a whole number, at least 0"),
        ("data.shuffle", "perhaps", "true or false"),
        ("data.train_max_samples", -5, "a whole number, at least -1"),
        ("trainer.critic_warmup", "soon", "a whole number, at least 0"),
        ("trainer.max_actor_ckpt_to_keep", 0, "a whole number, at least 1"),
        ("trainer.log_val_generations", 1.5, "a whole number, at least 0"),
        ("flywheel.iterations", 10**9, "a whole number from 0 to 1000"),
        ("flywheel.turns", 10**9, "a whole number from 0 to 1000"),
        ("evaluate.samples", 10**9, "a whole number from 1 to 1000"),
        ("samples.test", 10**12, "a whole number from 60 to"),
        ("sft.optim.lr", 1e5, "a number from 0 to 1"),
        ("base.pretrain.lr", 4.0, "a number above 0, at most 1"),
        ("sft.optim.betas", [0.9, 1.5], "a list of two numbers from 0 to less than 1"),
        ("actor_rollout_ref.actor.optim.betas", 0.9, "a list of two numbers"),
        ("actor_rollout_ref.actor.optim.betas", [0.9], "a list of two numbers"),
        ("sft.optim.clip_grad", 0, "a number above 0"),
        ("sft.optim.min_lr_ratio", 5, "a number from 0 to 1"),
        ("sft.optim.lr_warmup_steps", -5, "a whole number, at least -1"),
        ("sft.engine.ulysses_sequence_parallel_size", 0, "a whole number, at least 1"),
        ("sft.trainer.total_training_steps", 0, "a whole number, at least 1"),
        ("sft.data.use_dynamic_bsz", "x", "true or false"),
        ("actor_rollout_ref.actor.clip_ratio_low", -0.2, "a number, at least 0"),
        ("actor_rollout_ref.model.lora_alpha", 0, "a whole number, at least 1"),
        ("actor_rollout_ref.rollout.top_k", -5, "a whole number, at least -1"),
        ("actor_rollout_ref.rollout.repetition_penalty", 0, "a number above 0"),
        ("actor_rollout_ref.rollout.max_model_len", 0, "a whole number, at least 1"),
        ("actor_rollout_ref.rollout.agent.num_workers", 0, "a whole number, at least 1"),
        ("reward.num_workers", 0, "a whole number, at least 1"),
        ("transfer_queue.backend.SimpleStorage.num_data_storage_units", 0, "a whole number, at least 1"),
        ("run.reuse", [" "], "a list, such as [one,two]"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_what_is_wanted(said, name, value, wanted):
    line = said({name: value})
    assert line.startswith(f"{name}=") and f"must be {wanted}" in line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("labels.kind", "soft", "labels.kind='soft' is none of its values; choose gold or votes or expert"),
        ("flywheel.batches", None, "flywheel.batches=null is none of its values"),
        ("trainer.device", "tpu", "choose cpu or cuda"),
        ("flywheel.turn", 3, "there is no setting flywheel.turn; flywheel.turns is near"),
        ("base.name", "???", "base.name='???' must be given"),
        (
            "env.VLLM_CPU_KVCACHE_SPACE",
            "some",
            "env.VLLM_CPU_KVCACHE_SPACE='some' must be a whole number of GiB",
        ),
        ("run.patience", 10**400, "is no number to work with"),
        ("flywheel.iterations", 10**400, "is no number to work with"),
        ("flywheel.min_reward", 10**400, "is no number to work with"),
        ("run.root", "runs\0", "has a character NUL in it"),
        *(("env.OMP_NUM_THREADS", n, "OMP_NUM_THREADS=") for n in ("0", "-1", "many", "1.5", "nan")),
        ("env.VLLM_CPU_KVCACHE_SPACE", "0", "must be a whole number of GiB, at least 1"),
        ("run.seed", "${no.such.key}", "does not resolve: Interpolation key 'no.such.key' not found"),
    ],
)
def test_words_that_are_none_of_a_setting_s(said, name, value, words):
    assert words in said({name: value})


def test_all_faults_are_told_at_once_a_line_each(said):
    lines = said({"train_rows": 0, "test_rows": "few", "labels.kind": "soft"}).split("\n")
    assert [line.strip().partition("=")[0] for line in lines] == ["labels.kind", "train_rows", "test_rows"]


def test_several_answers_are_not_drawn_at_temperature_0(said):
    line = said({"evaluate.samples": 3, "evaluate.temperature": 0})
    assert line.startswith("evaluate.samples=3 answers at evaluate.temperature=0 would be all the same")
    assert not said({"evaluate.samples": 1, "evaluate.temperature": 0})


def test_a_word_where_a_list_is_meant_is_a_list_of_one(default):
    config = default.copy()
    with open_dict(config):
        config.corpora, config.evaluate.stages, config.run.reuse = "meld", "cold", "runs/a"
        config.trainer.logger = "console"
    check_types(config)
    assert [config.corpora, config.evaluate.stages, config.run.reuse] == [["meld"], ["cold"], ["runs/a"]]
    assert config.trainer.logger == ["console"]


@pytest.mark.parametrize("value", [0, 2026, "a run", "läufe"])
def test_a_run_may_be_called_anything_that_is_text(said, value):
    assert not said({"run.name": value})


def test_every_setting_of_ours_is_in_the_schema(default):
    shared = ("data", "actor_rollout_ref", "reward", "transfer_queue", "trainer")
    ours = {name for name in Schema.model_fields if name not in shared}
    with initialize_config_module("verl.trainer.config", version_base=None):
        theirs = set(compose("ppo_trainer"))
    assert set(plain(default)) - theirs == ours | {"expert"}  # data_prep.experts.settings checks it


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": "fast"}, "x.lr='fast' must be a number"),
        ({"lr": None}, "x.lr=null must be a number"),
        ({"weight_decay": True}, "x.weight_decay=True must be a number"),
        ({"override_optimizer_config": "none"}, None),
        ({"lr_scheduler_type": ["cosine"]}, "x.lr_scheduler_type=['cosine'] must be text"),
        ({"lr_warmup_steps": 1.5}, "x.lr_warmup_steps=1.5 must be a whole number or null"),
        ({"lr": 1, "betas": [0.9, 0.99], "lr_warmup_steps": -1}, None),
    ],
)
def test_verl_s_settings_have_the_types_of_its_dataclasses(settings, words):
    from recipe.run.verl_types import verl_faults

    optimizer = {"_target_": "verl.workers.config.FSDPOptimizerConfig"} | settings
    assert list(verl_faults({"x": optimizer})) == ([words] if words else [])
