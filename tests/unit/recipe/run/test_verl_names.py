"""Names that veRL looks up in the middle of a stage are looked up before a run starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from recipe.run.preflight import check_types
from recipe.run.sft_config import sft_config
from recipe.run.verl_names import name_faults
from tests.unit.composed import composed

pytestmark = pytest.mark.settings

ACTOR, SFT = "actor_rollout_ref.actor", "sft.optim"


def faults(*overrides: str) -> list[str]:
    config = composed(*overrides)
    check_types(config)
    return list(name_faults(config, sft_config(config.sft)))


@pytest.mark.parametrize("experiment", ["smoke", "paper", "paper_exact", "ablation_grpo"])
def test_what_the_recipe_sets_is_found(experiment):
    assert faults(f"experiment={experiment}") == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("algorithm.adv_estimator=self_grop", ("'self_grop'", "choose", "grpo", "self_grpo")),
        ("trainer.logger=[console,tensorbord]", ("'tensorbord'", "tensorboard")),
        ("trainer.logger=[vemlp_wandb]", ("volcengine_ml_platform", "not installed")),
        (f"{ACTOR}.policy_loss.loss_mode=gspoo", ("loss_mode", "gspoo")),
        (f"{ACTOR}.kl_loss_type=low", ("kl_loss_type='low'", "low_var_kl")),
        (f"{ACTOR}.optim.optimizer=AdamX", (f"{ACTOR}.optim.optimizer='AdamX'", "torch.optim")),
        (f"{ACTOR}.optim.optimizer_impl=no.such", ("optimizer", "No module named 'no'")),
        (f"+{SFT}.optimizer=AdamX", (f"{SFT}.optimizer='AdamX'",)),
        (f"{ACTOR}.fsdp_config.model_dtype=fp31", (f"{ACTOR}.fsdp_config.model_dtype='fp31'",)),
        ("++sft.engine.mixed_precision.param_dtype=fp31", ("sft.engine.mixed_precision.param_dtype='fp31'",)),
        (f"{ACTOR}.strategy=fsdp3", (f"{ACTOR}.strategy='fsdp3'", "fsdp or fsdp2")),
        ("actor_rollout_ref.rollout.dtype=fp31", ("rollout.dtype='fp31'", "bfloat16")),
        ("actor_rollout_ref.rollout.name=vlm", ("rollout.name='vlm'", "vllm")),
        ("reward.custom_reward_function.path=null", ("custom_reward_function.path=null",)),
        ("reward.custom_reward_function.path=no/such.py", ("no/such.py",)),
        ("reward.custom_reward_function.name=score", ("custom_reward_function", "score")),
        ("reward.reward_manager.name=best", ("reward_manager.name='best'",)),
        ("run.preload=[torch,no_such_module]", ("run.preload", "'no_such_module'")),
        ("run.preload=[verl.trainer.main_pppo]", ("run.preload", "'verl.trainer.main_pppo'")),
        ("run.preload=[.torch]", ("run.preload", "'.torch'")),
        ("run.preload=[torch..nn]", ("run.preload", "'torch..nn'")),
        ("run.preload=[torch.nn.]", ("run.preload", "'torch.nn.'")),
        ("run.preload=[torch.*]", ("run.preload", "'torch.*'")),
        ("run.preload=[verl.trainer.config.ppo_trainer]", ("run.preload", "ppo_trainer")),
        ("algorithm.adv_estimator=gae", ("'gae' asks for a critic", "choose self_grpo")),
        ("critic.enable=true", ("critic.enable=true asks for a critic",)),
        (f"{ACTOR}.optim.optimizer=Optimizer", (f"{ACTOR}.optim.optimizer='Optimizer'", "cannot be used")),
        (f"{ACTOR}.optim.optimizer=lr_scheduler", ("torch.optim.lr_scheduler is no optimizer",)),
        (f"{ACTOR}.optim.optimizer=LBFGS", ("LBFGS", "weight_decay")),
        (f"{ACTOR}.optim.optimizer=SparseAdam", ("SparseAdam", "weight_decay")),
        (f"++{ACTOR}.optim.override_optimizer_config.fusedd=true", ("fusedd",)),
        (f"++{ACTOR}.optim.override_optimizer_config=3", (f"{ACTOR}.optim",)),
        ("++sft.optim.override_optimizer_config={fusedd:true}", ("sft.optim.optimizer", "fusedd")),
        (f"{ACTOR}.fsdp_config.mixed_precision=bf16", ("mixed_precision='bf16'", "param_dtype")),
        (f"++{ACTOR}.fsdp_config.mixed_precision.parm_dtype=bf16", ("mixed_precision=", "param_dtype")),
        (f"{ACTOR}.checkpoint.save_contents=[model]", ("save_contents=['model']", "hf_model one of them")),
        (f"{ACTOR}.checkpoint.save_contents=[modle,hf_model]", ("'modle'", "must be among model")),
        ("sft.checkpoint.save_contents=[]", ("sft.checkpoint.save_contents=[]", "hf_model")),
        (
            "actor_rollout_ref.model.override_config.attn_implementation=flash",
            ("actor_rollout_ref.model.override_config.attn_implementation='flash'", "flash_attention_2"),
        ),
    ],
)
def test_a_name_that_is_not_there(override, words):
    found = faults(override)
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


def test_a_penalty_in_the_reward_is_looked_at_where_it_is_used():
    names = ("algorithm.kl_penalty=kll", "algorithm.kl_ctrl.type=fixd")
    assert faults(*names) == []
    control, penalty = faults("algorithm.use_kl_in_reward=true", *names)
    assert "algorithm.kl_ctrl.type='fixd'" in control and "algorithm.kl_penalty='kll'" in penalty


def test_an_optimizer_is_none_but_torch_s():
    (found,) = faults(f"{ACTOR}.optim.optimizer_impl=os", f"{ACTOR}.optim.optimizer=system")
    assert "os.system is no optimizer" in found


def test_what_a_plug_in_registers_is_known_in_the_workers_alone():
    names = (f"{ACTOR}.policy_loss.loss_mode=recorded", "algorithm.adv_estimator=mine")
    assert len(faults(*names)) == 2
    assert faults(*names, "++actor_rollout_ref.model.external_lib=tests.unit.samples") == []
    (found,) = faults("++actor_rollout_ref.model.external_lib=no_such_module")
    assert "external_lib" in found and "no_such_module" in found


def test_modules_are_looked_for_and_not_imported():
    # In another process: here they may have been imported by another test.
    code = """
import sys
from recipe.run.verl_names import _modules
heavy = ["verl.workers.rollout.vllm_rollout.vllm_async_server", "vllm.v1.worker.cpu_worker", "torch"]
assert list(_modules("run.preload", heavy)) == []
assert not {"verl", "vllm", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
