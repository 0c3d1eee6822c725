"""What of a run's settings is used to ask its checkpoints: its folder may be somebody else's, or older."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from data_prep.prompt import load_templates
from recipe.annotation import checkpoint
from recipe.run.flatten import flatten, plain
from recipe.run.preflight import PreflightError, check_types
from recipe.run.shortcuts import CONF
from recipe.score import configured
from tests.unit.composed import composed

pytestmark = [pytest.mark.settings, pytest.mark.usefixtures("quick_compose")]

STAGE = "evaluate.stages=[cold]"


@pytest.fixture
def begun(tmp_path):
    """Writes the folder of a run that was stopped after its cold start, with changes to its settings."""

    def write(change, *overrides: str):
        folder = tmp_path / "theirs/mine"
        (folder / "iter_0/sft/model").mkdir(parents=True)
        config = composed("run.name=mine", "test_rows=8", *overrides)
        config.prompts.digest = load_templates("compact").digest
        OmegaConf.set_struct(config, False)
        change(config)
        OmegaConf.save(config, folder / "config.yaml")
        (folder / "state.json").write_text("{}")
        return folder

    return write


def test_a_foreign_run_brings_no_class_module_path_or_argument_of_ray(begun):
    def plant(config):
        config.algorithm = {"_target_": "logging.FileHandler", "filename": "planted", "mode": "w"}
        config.sft.engine._target_ = "logging.FileHandler.planted"
        config.actor_rollout_ref.model.external_lib = "planted"
        config.reward.custom_reward_function.path = "/planted.py"
        config.run.preload, config.run.reuse, config.run.root = ["planted"], ["/planted"], "/planted"
        config.cluster.update(_temp_dir="/planted", dashboard_host="planted")
        config.env.update(LD_PRELOAD="/planted.so", HF_TOKEN="planted")
        config.trainer.logger, config.download = ["planted"], "/planted"
        config.evaluate.endpoint = {"endpoints": [{"base_url": "http://planted/v1", "key": "HF_TOKEN"}]}
        config.actor_rollout_ref.rollout.engine_kwargs.vllm.hf_overrides = "planted"

    folder = begun(plant)
    found = plain(configured([f"RUN={folder}", STAGE]))
    assert "planted" not in str(found)
    ours = flatten(plain(composed()))
    assert all(value == ours[name] for name, value in flatten(found).items() if name.endswith("_target_"))
    assert found["run"]["root"] == str(folder.parent) and found["test_rows"] == 8


def test_a_text_that_two_references_make_is_not_resolved_again(begun, monkeypatch):
    monkeypatch.setenv("PLANTED", "planted")
    folder = begun(lambda config: config.base.update(name="$${base.half}{oc.env:PLANTED}", half=""))
    config = configured([f"RUN={folder}", STAGE])
    assert "planted" not in config.base.name and "${" not in config.base.name


def expert(**changes: str):
    return {"name": "e", "base_url": "${oc.env:EXPERT_BASE_URL,null}", "key": "EXPERT_API_KEY",
            "model": "${oc.env:EXPERT_MODEL,null}"} | changes  # fmt: skip


@pytest.mark.parametrize(
    "endpoint",
    [
        expert(base_url="http://elsewhere/v1"),
        expert(key="AWS_SECRET_ACCESS_KEY"),
        expert(model="${oc.env:AWS_SECRET_ACCESS_KEY}"),
        expert(base_url="http://elsewhere/${oc.env:AWS_SECRET_ACCESS_KEY}"),
        "no endpoint",
    ],
)
def test_a_run_s_folder_does_not_decide_who_is_sent_keys(begun, endpoint):
    theirs = {"kind": "endpoint", "endpoints": [endpoint]}
    folder = begun(lambda config: config.update(expert=theirs))
    with pytest.raises(
        ValueError, match=r"none of conf/expert here.*say who writes personas: expert=offline"
    ):
        configured([f"RUN={folder}", STAGE])
    chosen = configured([f"RUN={folder}", STAGE, "expert=mixed", "expert.max_cost=2"]).expert
    assert [e.key for e in chosen.endpoints] == ["ARK_API_KEY", "DEEPSEEK_API_KEY"] and chosen.max_cost == 2


@pytest.mark.parametrize("name", ["offline", "self", "endpoint", "mixed"])
def test_experts_of_one_s_own_conf_are_asked_again_as_they_stand_there(begun, name):
    def spend(config):
        if name == "mixed":
            config.expert.update(max_cost=1e9, concurrency=9_999)

    folder = begun(spend, f"expert={name}")
    with initialize_config_dir(str(CONF), version_base=None):
        own = compose(f"expert/{name}").expert
    found = configured([f"RUN={folder}", STAGE]).expert
    assert OmegaConf.to_container(found, resolve=False) == OmegaConf.to_container(own, resolve=False)


def test_settings_that_have_come_up_since_have_today_s_value_and_those_that_are_gone_are_left_out(begun):
    def age(config):
        for node in ("expert", "personas", "plan", "self_emo", "decontaminate"):
            del config[node]
        del config.flywheel.turns, config.flywheel.mix.self_play, config.evaluate.entropy_rows
        config.flywheel.iterations = 3
        config.evaluate.gone = config.gone = config.run.gone = 1

    folder = begun(age)
    config = configured([f"RUN={folder}", STAGE])
    check_types(config)
    assert (config.expert.kind, config.flywheel.iterations, config.flywheel.turns) == ("offline", 3, 2)
    (folder / "base").mkdir()
    (folder / "base/base.json").write_text('{"path": "/m"}')
    annotating, title, _ = checkpoint.configured(None, f"{folder}:base", [])
    check_types(annotating)
    assert title == "mine:base" and annotating.data.max_prompt_length == config.data.max_prompt_length


@pytest.mark.parametrize("value", ["many", -1, [1], {"a": 1}, True])
def test_a_setting_of_another_type_is_told(begun, value):
    folder = begun(lambda config: config.evaluate.update(samples=value))
    with pytest.raises(PreflightError, match="evaluate.samples=.* must be a whole number from 1"):
        check_types(configured([f"RUN={folder}", STAGE]))


def test_a_reference_to_a_setting_that_is_not_there_is_told(begun):
    folder = begun(lambda config: config.base.update(name="${base.gone}"))
    with pytest.raises(ValueError, match=r"config.yaml: Interpolation key 'base.gone' not found"):
        configured([f"RUN={folder}", STAGE])
