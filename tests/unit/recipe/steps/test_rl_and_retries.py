"""How many RL steps a stage is told to make, and how a stage that lost a worker is done again."""

from __future__ import annotations

import json
import shutil

import pytest

from data_prep.rows import write_rows
from recipe.models import tiny
from recipe.run import run as run_module
from recipe.run import training
from recipe.run.process import WorkerLostError
from recipe.run.run import Run
from recipe.steps import rl
from tests.unit.composed import composed
from tests.unit.recipe.run.test_checkpoints import checkpoint


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

    def run_stage(stage, config, work, total, done=0):
        seen.update(config=config, total=total)
        (work / "checkpoints/global_step_1/actor/huggingface").mkdir(parents=True)

    monkeypatch.setattr(training, "run_stage", run_stage)
    tiny.make_tiny(["You are Mira. Labels: neutral."], tmp_path / "base/model", 1)
    (tmp_path / "base/base.json").write_text(json.dumps({"path": str(tmp_path / "base/model")}))
    write_rows([make_prompt_row(str(i)) for i in range(prompts)], tmp_path / "iter_0/buffer/buffer.parquet")
    write_rows([make_prompt_row("dev")], tmp_path / "data/dev.parquet")
    shutil.copytree(tmp_path / "base/model", tmp_path / "iter_0/sft/model")
    config = composed("data.train_batch_size=10", "data.max_prompt_length=192", *override.split())
    work = tmp_path / "iter_1/rl.work"
    work.mkdir(parents=True)
    rl.train(Run(config, tmp_path), work, 1)
    trainer = seen["config"].trainer
    assert (trainer.total_training_steps, trainer.total_epochs, seen["total"]) == (steps, epochs, steps)
    assert json.loads((work / "counts.json").read_text())["steps"] == steps
    # vLLM is made ready for what can occur, not for the model's whole context.
    assert seen["config"].actor_rollout_ref.rollout.max_model_len == 192 + 56
    # The model is taken; what the optimizer needed goes.
    assert (work / "model").is_dir() and not (work / "checkpoints").exists()


def test_a_model_that_was_taken_is_not_trained_again(tmp_path, monkeypatch):
    """A stage that was ended between taking its model and its commit."""
    monkeypatch.setattr(training, "run_stage", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(training.reuse, "fingerprint", lambda *_: {})
    run = Run(composed(), tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "checkpoints/global_step_1").mkdir(parents=True)
    training.train_stage(run, "rl", run.config, tmp_path, tmp_path, 6)
    assert not (tmp_path / "checkpoints").exists()


def test_a_stage_that_lost_a_node_waits_for_another(tmp_path, monkeypatch, capsys):
    run = Run(composed("trainer.nnodes=2"), tmp_path)
    tried, waited = [], []
    monkeypatch.setattr(run_module, "check_cluster", lambda *asked: waited.append(asked))

    def work_on() -> None:
        tried.append(1)
        if len(tried) < 3:
            raise WorkerLostError("a node is gone")

    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    run.retried(work_on)
    assert waited == [("head:6379", 2, 1, 600)] * 2
    assert capsys.readouterr().out.count("a node is gone; trying again") == 2
    monkeypatch.delenv("RAY_ADDRESS")
    tried.clear()
    run.retried(work_on)
    assert len(waited) == 2  # a local Ray starts anew


def test_a_stage_is_not_tried_for_ever(tmp_path):
    run = Run(composed("run.retries=1"), tmp_path)
    tried = []

    def work_on() -> None:
        tried.append(1)
        raise WorkerLostError("a node is gone")

    with pytest.raises(WorkerLostError, match="a node is gone"):
        run.retried(work_on)
    assert len(tried) == 2


def test_an_interrupted_rl_stage_says_where_it_goes_on(tmp_path, monkeypatch, capsys):
    seen = []

    def run_stage(stage, config, work, total, done=0):
        seen.append((total, done))
        (work / "checkpoints/global_step_6/actor/huggingface").mkdir(parents=True, exist_ok=True)
        (work / "checkpoints/global_step_6/huggingface").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(training, "run_stage", run_stage)
    monkeypatch.setattr(training.reuse, "fingerprint", lambda *_: {})
    run = Run(composed(), tmp_path)
    checkpoint(tmp_path / "rl.work/checkpoints", 2)
    (tmp_path / "rl.work/checkpoints/latest_checkpointed_iteration.txt").write_text(
        ""
    )  # as veRL's kill leaves it
    (tmp_path / "sft.work").mkdir()
    for stage in ("rl", "sft"):
        training.train_stage(run, stage, run.config, tmp_path / f"{stage}.work", tmp_path, 6)
        assert not (tmp_path / f"{stage}.work/checkpoints").exists()  # nothing goes on from them any more
    assert seen == [(6, 2), (6, 0)]
    assert capsys.readouterr().out == "  rl: going on from step 2 of 6\n"


def test_what_is_trained_is_not_trained_again(tmp_path, monkeypatch):
    """Ended after the last step's checkpoint, or after the model was taken from it and before the commit."""
    monkeypatch.setattr(training, "run_stage", lambda *_, **__: pytest.fail("trained once more"))
    monkeypatch.setattr(training.reuse, "fingerprint", lambda *_: {})
    run = Run(composed(), tmp_path)
    work = tmp_path / "rl.work"
    checkpoint(work / "checkpoints", 6)
    training.train_stage(run, "rl", run.config, work, tmp_path, 6)
    (work / "fingerprint.json").unlink()
    checkpoint(work / "checkpoints", 6)
    training.train_stage(run, "rl", run.config, work, tmp_path, 6)
    assert (work / "model/model.safetensors").exists()
