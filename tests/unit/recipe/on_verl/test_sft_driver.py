"""What the driver changes in veRL's SFT trainer before it trains."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader

from recipe.on_verl import sft_driver


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_read_by_as_many_processes_as_are_asked_for(monkeypatch, workers):
    loader = StatefulDataLoader(range(4), num_workers=8)  # as veRL makes it
    started = []
    trainer = SimpleNamespace(train_dataloader=loader, device_name="cuda")
    trainer.fit = lambda: started.append((loader.num_workers, trainer.device_name))
    monkeypatch.setattr(sft_driver, "SFTTrainer", lambda config: trainer)
    sft_driver.fit(OmegaConf.create({"data": {"num_workers": workers}}))
    assert started == [(workers, "cpu")]
    assert [int(row) for row in loader] == [0, 1, 2, 3]
