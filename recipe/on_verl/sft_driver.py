"""veRL's SFT trainer, driven from a process that may sit on a machine without a GPU."""

from __future__ import annotations

from typing import Any

from verl.trainer.sft_trainer_ray import SFTTrainer


def fit(config: Any) -> None:
    """Supervised fine-tuning; ``config`` is veRL's SFT configuration."""
    trainer = SFTTrainer(config=config)
    # veRL starts eight processes an epoch to read rows that are in memory (0: none).
    trainer.train_dataloader.num_workers = config.data.num_workers
    # The driver adds up token counts on `trainer.device`, and the head of a cluster may have none such. The
    # workers, which have been told their device by now, compute where they did.
    trainer.device_name = "cpu"
    trainer.fit()
