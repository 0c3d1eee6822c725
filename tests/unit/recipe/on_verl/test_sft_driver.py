"""veRL's own SFT loop on a driver without a GPU; workers, data and checkpoints are stand-ins."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from verl.trainer.sft_trainer_ray import SFTTrainer
from verl.utils import tensordict_utils as tu

from recipe.on_verl import sft_driver


class Standing(SFTTrainer):
    """The trainer with its loop and nothing to train."""

    def __init__(self, config):
        self.config, self.device_name = config, config.trainer.device
        self.resume_global_step, self.total_training_steps, self.steps_per_epoch = 0, 1, 1
        self.global_batch_size, self.test_freq, self.save_freq = 2, -1, -1
        self.start_profile_step = self.end_profile_step = -1
        self.val_dataloader, self.saved = None, []
        self.model_config = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0))
        rows = [torch.arange(3), torch.arange(5)]
        self.train_dataloader = [{"input_ids": torch.nested.as_nested_tensor(rows, layout=torch.jagged)}]
        self.train_sampler = SimpleNamespace(set_epoch=lambda epoch: None)
        metrics = {"loss": 1.0, "grad_norm": 1.0, "lr": 1.0, "mfu": 0.1}
        output = tu.get_tensordict({}, non_tensor_dict={"metrics": metrics})
        self.training_client = SimpleNamespace(train_batch=lambda data: SimpleNamespace(get=lambda: output))
        self.ckpt_handler = SimpleNamespace(save_checkpoint=lambda step: self.saved.append(step))
        Standing.last = self


def test_the_driver_needs_no_gpu_of_its_own(monkeypatch, capsys):
    assert not torch.cuda.is_available()
    monkeypatch.setattr(sft_driver, "SFTTrainer", Standing)
    trainer = {
        "device": "cuda", "project_name": "p", "experiment_name": "e", "logger": ["console"],
        "total_epochs": 1,
        "balance_batch": False,
    }  # fmt: skip
    data = {
        "use_dynamic_bsz": True,
        "max_token_len_per_gpu": 8,
        "micro_batch_size_per_gpu": 1,
        "pad_mode": "no",
    }
    sft_driver.fit(
        OmegaConf.create({"trainer": trainer, "data": data, "model": {"use_remove_padding": True}})
    )
    assert Standing.last.saved == [1]
    assert "global_tokens:8" in capsys.readouterr().out
