"""What our trainer adds to veRL's around a checkpoint; the stack tests see the rest."""

from __future__ import annotations

import numpy as np
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from recipe.on_verl.trainer import SelfEmoTrainer


def test_metrics_are_in_the_file_before_the_checkpoint_is(monkeypatch):
    """A kill between the two would lose them for ever: the stage goes on from that checkpoint."""
    order = []

    class Logger:
        def log(self, data, step, backend=None):
            order.append((data, step, backend))

    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda self: order.append("saved"))
    trainer = SelfEmoTrainer.__new__(SelfEmoTrainer)
    trainer.logger, trainer.global_steps = Logger(), 7
    trainer._metrics = {"self_emo/reward": np.float32(0.5), "a": 1, "b": np.zeros(2), "c": "text"}
    trainer._save_checkpoint()
    assert order == [({"self_emo/reward": 0.5, "a": 1}, 7, ["file"]), "saved"]
