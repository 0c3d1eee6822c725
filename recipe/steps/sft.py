"""Supervised fine-tuning: the cold start on D_0 (line 3), and the retraining on B (line 18).

Reads: ``iter_<k>/buffer/buffer.parquet``, of which the rows with a response train. Leaves:
``iter_<k>/sft/{model,train.parquet,metrics.jsonl}``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import OmegaConf, open_dict

from data_prep.rows import read_rows, write_rows
from recipe.models.fit_prompts import fit_rows
from recipe.run.run import Run
from recipe.run.sft_config import sft_config
from recipe.run.training import train_stage


def cold_start(run: Run, work: Path) -> None:
    """Line 3: the base model on the experts' responses."""
    _train(run, work, 0, run.base)


def retrain(run: Run, work: Path, k: int) -> None:
    """Line 18: the base model (``flywheel.retrain_from: policy``: the RL policy) on B."""
    from_base = run.config.flywheel.retrain_from == "base"
    _train(run, work, k, run.base if from_base else run.folder / f"iter_{k}/rl/model")


def _train(run: Run, work: Path, k: int, start: Path) -> None:
    if not (work / "model").exists():  # an interrupted SFT starts again: it keeps no optimizer state
        shutil.rmtree(work)
        work.mkdir(parents=True)
    rows = [r for r in read_rows(run.folder / f"iter_{k}/buffer/buffer.parquet") if r["response"]]
    fitted, _ = fit_rows(rows, run.base, run.config, run.templates)
    write_rows(fitted, work / "train.parquet")
    config = run.stage_config(f"iter_{k}-sft")
    batch = config.sft.data.train_batch_size
    if len(fitted) < batch:
        raise ValueError(f"{len(fitted)} rows with a response do not fill sft.data.train_batch_size={batch}")
    sft = sft_config(config.sft)
    sft.model.path = str(start)
    sft.data.train_files = str(work / "train.parquet")
    sft.trainer.default_local_dir = str(work / "checkpoints")
    sft.trainer.experiment_name = config.trainer.experiment_name
    sft.trainer.resume_mode = "disable"
    sft.trainer.save_freq = -1
    with open_dict(config):  # resolved here: its references are to veRL's SFT configuration
        config.sft = OmegaConf.to_container(sft, resolve=True)
    steps = len(fitted) // batch * config.sft.trainer.total_epochs
    train_stage(run, "sft", config, work, start, steps)
