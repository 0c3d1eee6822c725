"""Settings that do not fit together are refused with the remedy, in a line."""

from __future__ import annotations

import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf

from recipe.run import preflight
from recipe.run.shortcuts import CONF
from tests.unit.recipe.run.refusals import refused

pytestmark = pytest.mark.settings


@pytest.mark.parametrize(
    "override",
    ["flywheel.iterations=abc", "test_rows=-1", "flywheel.cold_start_rows=0",
     "trainer.total_training_steps=0", "actor_rollout_ref.rollout.n=1", "evaluate.samples=1.5"],
)  # fmt: skip
def test_numbers_that_are_none(configured, override):
    name, _, value = override.partition("=")
    refused(configured(override), name, value, "must be a whole number")


#: Micro-batches of fixed sizes, which the default experiments leave to the number of tokens.
FIXED = (
    "actor_rollout_ref.actor.use_dynamic_bsz=false actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64 "
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64 "
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64 "
    "sft.data.use_dynamic_bsz=false +sft.data.micro_batch_size_per_gpu=16"
)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("flywheel.retrain_from=scratch", ("flywheel.retrain_from", "scratch", "base or policy")),
        ("flywheel.lambda_horizon=epoch", ("flywheel.lambda_horizon", "stage or run")),
        ("flywheel.iterations=-1", ("flywheel.iterations=-1",)),
        ("evaluate.stages=[cold,hot]", ("evaluate.stages", "hot", "retrained")),
        ("+sft.nonsense=1", ("sft.nonsense",)),
        ("+sft.data.nonsense=1", ("sft.data.nonsense",)),
        ("+sft.optim.nonsense=1", ("sft.optim.nonsense",)),
        (f"data.train_batch_size=7 {FIXED}", ("train_batch_size (7)", "ppo_mini_batch_size (32)")),
        ("actor_rollout_ref.actor.use_dynamic_bsz=false", ("ppo_micro_batch_size",)),
        ("run.seed=${no.such.key}", ("no.such.key",)),
        # What veRL's own objects refuse, and otherwise only the workers would.
        ("actor_rollout_ref.rollout.pipeline_model_parallel_size=2", ("pipeline_model_parallel_size",)),
        ("actor_rollout_ref.rollout.mode=sync", ("mode=async",)),
        ("actor_rollout_ref.actor.optim.lr_scheduler_type=linear", ("lr_scheduler_type", "cosine")),
    ],
)
def test_settings_that_do_not_fit(configured, override, words):
    refused(configured(*override.split()), *words)


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.n_gpus_per_node=3",),  # of 64 rollouts and 16 SFT rows
        ("trainer.n_gpus_per_node=3", "sft.data.train_batch_size=15"),  # of 64 rollouts
        ("trainer.n_gpus_per_node=2", "sft.data.train_batch_size=31"),
        # Micro-batches of a rank's share of a mini-batch; veRL only asserts this in the middle of the stage.
        ("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=48",),
        ("actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=48",),
        ("actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=48",),
        ("sft.data.train_batch_size=16", "++sft.data.micro_batch_size_per_gpu=5"),
    ],
)
def test_batch_sizes_that_do_not_divide(configured, overrides):
    refused(configured(*FIXED.split(), *overrides))


def test_soft_labels_want_an_expert(configured):
    message = refused(configured("labels.kind=expert"))
    assert "labels.kind=gold (or votes), or an expert" in message
    bad = {
        "labels.kind=soft": "choose gold or votes or expert",
        "flywheel.min_reward=abc": "0 to 1.1",
        "flywheel.same_reply=-1": "0 to 1",
        "flywheel.mix.original=-5": "at least 1",
    }
    for override, words in bad.items():
        assert words in refused(configured(override))


@pytest.mark.parametrize("gpus", [3, 7])
def test_gpus_over_which_the_rows_cannot_be_shared_out(configured, gpus):
    batches = "data.train_batch_size=64 sft.data.train_batch_size=64"
    refused(configured(*batches.split(), f"trainer.n_gpus_per_node={gpus}"), f"the {gpus} training ranks")
    # 32 prompts of 8 rollouts each in a mini-batch; the SFT batch is one that can be shared out.
    message = refused(configured(f"sft.data.train_batch_size={gpus}", f"trainer.n_gpus_per_node={gpus}"))
    assert f"256 rows of a batch cannot be shared out evenly over {gpus} training ranks" in message
    assert "ppo_mini_batch_size" in message


def test_sft_takes_verl_s_own_settings(configured):
    from recipe.run.sft_config import sft_config

    config = configured("+sft.optim.betas=[0.9,0.95]", "sft.optim.lr=0.5")
    settings = sft_config(config.sft)
    assert settings.optim.lr == 0.5 and list(settings.optim.betas) == [0.9, 0.95]
    assert settings.trainer.seed == config.run.seed
    assert settings.data.messages_key  # veRL's own defaults stay


def test_an_unknown_override_is_refused(configured):
    with pytest.raises(ConfigCompositionException, match="nonsense.key"):
        configured("nonsense.key=1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("flywheel.iteration=3", "no setting flywheel.iteration; flywheel.iterations is near"),
        ("hardware=tpu", "Could not find 'hardware/tpu' Available options in 'hardware': 1gpu 1gpu_lora"),
    ],
)
def test_what_was_probably_meant(override, said):
    from recipe.main import explain

    with initialize_config_dir(str(CONF), version_base=None), pytest.raises(HydraException) as refused:
        compose("self_emo", overrides=[override])
    assert said in explain(refused.value) and "\n" not in explain(refused.value)


def test_an_error_is_one_line_on_the_command_line(root, tmp_path, monkeypatch, capsys, configured):
    from recipe import main

    monkeypatch.setattr(sys, "argv", ["main"])
    with pytest.raises(SystemExit) as ended:
        main._train.__wrapped__(configured(model="nonsense"))
    assert ended.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: MODEL='nonsense'")


def test_verl_s_types_are_checked_before_its_objects_are_made(configured):
    refused(
        configured("actor_rollout_ref.actor.use_kl_loss=perhaps", "sft.optim.lr_scheduler_type=linear"),
        "actor_rollout_ref.actor.use_kl_loss='perhaps' must be true or false",
    )


def test_the_ablations_differ_from_the_paper_s_setting_in_what_they_are_named_for(configured):
    def flat(experiment: str) -> dict:
        config = configured(f"experiment={experiment}", "hardware=8gpu")
        return preflight.flatten(OmegaConf.to_container(config, resolve=False))

    paper = flat("paper")
    differences = {
        name: {
            key: value for key, value in flat(name).items() if paper.get(key) != value and "run." not in key
        }
        for name in ("ablation_cold", "ablation_grpo", "ablation_original_only")
    }
    assert differences == {
        "ablation_cold": {"flywheel.cold_start_rows": 5000},
        "ablation_grpo": {"algorithm.adv_estimator": "grpo"},
        "ablation_original_only": {
            "algorithm.adv_estimator": "grpo",
            "flywheel.mix.original": 100_000,
            "flywheel.mix.self_play": 0,
            "flywheel.turns": 0,
        },
    }


def test_two_nodes_are_one_node_twice(configured):
    one, two = (configured("experiment=paper", f"hardware={h}").trainer for h in ("8gpu", "multinode"))
    assert (one.nnodes, two.nnodes) == (1, 2) and one.n_gpus_per_node == two.n_gpus_per_node == 8


def test_names_that_verl_would_look_up_hours_later(configured):
    refused(
        configured("algorithm.adv_estimator=self_grop", "trainer.logger=tensorbord"), "grop", "tensorbord"
    )
