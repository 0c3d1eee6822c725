"""`make eval`: what is scored with which settings, and what is refused."""

from __future__ import annotations

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from data_prep.prompt import load_templates
from recipe.score import configured
from tests.unit.composed import composed

pytestmark = [pytest.mark.settings, pytest.mark.usefixtures("quick_compose")]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that was stopped after its cold start."""
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    folder = tmp_path / "mine"
    (folder / "iter_0/sft/model").mkdir(parents=True)
    config = composed("run.name=mine", "test_rows=8", "run.seed=5")
    config.prompts.digest = load_templates("compact").digest
    OmegaConf.save(config, folder / "config.yaml")
    (folder / "state.json").write_text("{}")
    return folder


def test_a_model_is_asked_with_the_whole_instructions():
    config = configured(["MODEL=SmolLM2-135M", "NAME=zero", "hardware=cpu", "test_rows=5"])
    assert (config.prompts.dir, config.test_rows, list(config.evaluate.stages)) == ("full", 5, ["base"])
    assert config.run.name == "zero" and config.base.path == "builtin:smollm2-135m"


def test_a_run_is_not_scored_with_other_prompts(run, tmp_path):
    config = OmegaConf.load(run / "config.yaml")
    config.prompts.digest = "0123456789ab"
    OmegaConf.save(config, run / "config.yaml")
    with pytest.raises(ValueError, match="prompts.dir=compact have changed since mine was trained"):
        configured([f"RUN={run}", "evaluate.stages=[cold]"])


def test_the_paper_s_models_keep_the_paper_s_settings():
    config = configured(["MODEL=Qwen3-8B", "hardware=8gpu"])
    assert config.data.max_prompt_length == 4096 and config.base.path == "Qwen/Qwen3-8B"
    assert list(config.evaluate.stages) == ["base"] and config.run.name.startswith("eval-Qwen3-8B-")


def test_an_experiment_that_was_asked_for_is_kept():
    config = configured(["MODEL=SmolLM2-135M", "hardware=cpu", "experiment=smoke_llm"])
    assert config.prompts.dir == "compact"


def test_a_run_is_scored_with_its_own_settings(run):
    config = configured([f"RUN={run}", "NAME=again", "RAW_DIR=/raw", "test_rows=null",
                         "evaluate.stages=[cold]", "evaluate.samples=8"])  # fmt: skip
    assert (config.run.seed, config.test_rows, config.raw_dir) == (5, None, "/raw")
    assert (config.evaluate.of, config.evaluate.samples, config.run.name) == (str(run), 8, "again")


def test_longer_utterances_than_those_of_the_training_can_be_asked_about(run):
    asked = [f"RUN={run}", "evaluate.stages=[cold]"]
    longer = configured(asked).data.max_prompt_length + 100
    assert configured([*asked, f"data.max_prompt_length={longer}"]).data.max_prompt_length == longer


def test_a_run_of_before_there_were_other_wordings_can_be_asked_in_them(run):
    config = OmegaConf.load(run / "config.yaml")
    del config.evaluate.paraphrases
    OmegaConf.save(config, run / "config.yaml")
    asked = [f"RUN={run}", "evaluate.stages=[cold]"]
    assert configured(asked).evaluate.paraphrases == 0
    assert configured([*asked, "evaluate.paraphrases=3"]).evaluate.paraphrases == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one"),
        (["MODEL=tiny", "RUN=mine"], "name one"),
        (["RUN=/nowhere"], "no run, there is no state.json"),
    ],
)
def test_what_cannot_be_scored(arguments, said):
    with pytest.raises(ValueError, match=said):
        configured(arguments)


def test_a_run_s_settings_are_not_changed_and_its_checkpoints_are_there(run):
    with pytest.raises(ValueError, match="data.max_response_length=9: a run is scored with its own settings"):
        configured([f"RUN={run}", "data.max_response_length=9"])
    with pytest.raises(ValueError, match="no checkpoint rl_1, retrained_1, rl_2, retrained_2 yet"):
        configured([f"RUN={run}"])
    with pytest.raises(ValueError, match="no setting evaluate.sample; evaluate.samples is near"):
        configured([f"RUN={run}", "evaluate.sample=3", "evaluate.stages=[cold]"])
    with pytest.raises(HydraException, match="nonsense"):
        configured(["MODEL=tiny", "hardware=cpu", "nonsense=1"])
