"""What our trainer adds to veRL's around a checkpoint; the stack tests see the rest."""

from __future__ import annotations

import numpy as np
import pytest
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.rollout.replica import RolloutReplicaRegistry

from recipe.on_verl.trainer import SelfEmoTaskRunner, SelfEmoTrainer
from recipe.run.shortcuts import CONF
from tests.unit.composed import composed


def test_metrics_are_in_the_file_before_the_checkpoint_is(monkeypatch, tmp_path):
    """A kill between the two would lose them for ever: the stage goes on from that checkpoint. And what a
    resumed stage went on from makes room before the third is written: two is what the disk was asked for."""
    order = []

    class Logger:
        def log(self, data, step, backend=None):
            order.append((data, step, backend))

    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda self: order.append("saved"))
    trainer = SelfEmoTrainer.__new__(SelfEmoTrainer)
    trainer.logger, trainer.global_steps = Logger(), 7
    trainer.config = composed(f"trainer.default_local_dir={tmp_path}")
    for step in (5, 6):
        (tmp_path / f"global_step_{step}").mkdir()
    trainer._metrics = {"self_emo/reward": np.float32(0.5), "a": 1, "b": np.zeros(2), "c": "text"}
    trainer._save_checkpoint()
    assert order == [({"self_emo/reward": 0.5, "a": 1}, 7, ["file"]), "saved"]
    assert [path.name for path in tmp_path.iterdir()] == ["global_step_6"]


@pytest.mark.parametrize("hardware", sorted(path.stem for path in (CONF / "hardware").glob("*.yaml")))
def test_every_hardware_reaches_verls_own_task_runner(hardware, monkeypatch):
    """veRL's configuration has no `agent_loop_manager_class` where nobody names one: on GPUs, that is."""
    runner = SelfEmoTaskRunner.__ray_metadata__.modified_class
    begun, registered = [], []
    monkeypatch.setattr(runner.__mro__[1], "run", lambda self, config: begun.append(config))
    monkeypatch.setattr(RolloutReplicaRegistry, "register", lambda name, load: registered.append(name))
    config = composed(f"hardware={hardware}")
    runner.__new__(runner).run(config)
    assert begun == [config]
    assert registered == (["vllm"] if hardware == "cpu" else [])
