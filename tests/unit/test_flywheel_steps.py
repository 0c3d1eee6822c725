"""How many RL steps a stage is told to make, and how a stage that lost a worker is done again."""

from __future__ import annotations

import json

import pytest
from hydra import compose, initialize_config_dir

from data_prep.rows import write_rows
from recipe import flywheel, models
from recipe.flywheel import Flywheel
from recipe.process import WorkerLostError
from recipe.shortcuts import CONF


@pytest.mark.parametrize(
    ("prompts", "override", "steps", "epochs"),
    [
        (20, "trainer.total_training_steps=7", 7, 4),  # two batches an epoch
        (20, "trainer.total_training_steps=1", 1, 1),
        (20, "trainer.total_training_steps=null", 2, 1),
        (35, "trainer.total_epochs=3 trainer.total_training_steps=null", 9, 3),
    ],
)
def test_steps_that_were_asked_for_have_epochs_enough(
    tmp_path, monkeypatch, make_prompt_row, prompts, override, steps, epochs
):
    seen = {}

    def run_stage(stage, config, work, total):
        seen.update(config=config, total=total)
        (work / "checkpoints/global_step_1/actor/huggingface").mkdir(parents=True)

    monkeypatch.setattr(flywheel, "run_stage", run_stage)
    models.make_tiny(["You are Mira. Labels: neutral."], tmp_path / "base/model", 1)
    (tmp_path / "base/base.json").write_text(json.dumps({"path": str(tmp_path / "base/model")}))
    write_rows([make_prompt_row(str(i)) for i in range(prompts)], tmp_path / "iter_0/buffer/buffer.parquet")
    write_rows([make_prompt_row("dev")], tmp_path / "data/dev.parquet")
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("self_emo", overrides=["data.train_batch_size=10", *override.split()])
    (tmp_path / "work").mkdir()
    Flywheel(config, tmp_path)._rl(tmp_path / "work", 1, tmp_path / "base/model")
    trainer = seen["config"].trainer
    assert (trainer.total_training_steps, trainer.total_epochs, seen["total"]) == (steps, epochs, steps)
    assert json.loads((tmp_path / "work/counts.json").read_text())["steps"] == steps


def test_a_stage_that_lost_a_node_waits_longer_for_another(tmp_path):
    with initialize_config_dir(str(CONF), version_base=None):
        run = Flywheel(compose("self_emo"), tmp_path)
    waited = []

    def work_on() -> None:
        waited.append(run._stage_config(tmp_path, "rl").run.patience)
        if len(waited) < 3:
            raise WorkerLostError("a node is gone")

    run._retried(work_on)
    assert waited == [45, 600, 600]


def test_a_stage_is_not_tried_for_ever(tmp_path):
    with initialize_config_dir(str(CONF), version_base=None):
        run = Flywheel(compose("self_emo", overrides=["run.retries=1"]), tmp_path)
    tried = []

    def work_on() -> None:
        tried.append(1)
        raise WorkerLostError("a node is gone")

    with pytest.raises(WorkerLostError, match="a node is gone"):
        run._retried(work_on)
    assert len(tried) == 2
