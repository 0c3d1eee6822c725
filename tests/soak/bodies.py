"""The stages' bodies without models: the files that veRL and vLLM write, in their order, in milliseconds.

All else is the real thing: steps, commits, selection, self-play, scores, pages. What a body writes follows
from what it reads, down to the last bit, so a run that lost or mixed something ends up with other files.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from safetensors.numpy import load_file, save_file

from data_prep.rows import read_rows, write_records
from recipe import flywheel
from recipe.evaluation import generate
from recipe.models import tiny
from recipe.on_verl import self_play as play_stage
from recipe.run import process, training
from recipe.steps import data, evaluate, self_play
from tests.unit.composed import composed
from tests.unit.fake_run import answer, rollouts_of_step

ITERATIONS = 3
_OVERRIDES = (
    "hardware=cpu",
    "run.name=soak",
    *(f"samples.{split}=60" for split in ("train", "dev", "test")),
    *("base.pretrain.dialogues=20", "base.pretrain.steps=1"),
    *("trainer.total_training_steps=3", "trainer.save_freq=1", "trainer.test_freq=-1"),
    *("data.train_batch_size=8", "actor_rollout_ref.rollout.n=3"),
    *("sft.data.train_batch_size=8", "sft.trainer.total_epochs=1"),
    *("evaluate.entropy_rows=0", "evaluate.batch_rows=40"),
    *("flywheel.min_reward=0.3", "flywheel.same_reply=1"),
)


def configuration(root: Path, iterations: int = ITERATIONS) -> DictConfig:
    """Of a small run below ``root``."""
    config = composed(*_OVERRIDES, f"flywheel.iterations={iterations}")
    config.run.root = str(root)
    config.prompts.digest = "soak"
    return config


def replace(pages: bool) -> None:
    """Put the bodies in place of veRL and vLLM, in this process, for good; ``pages``: are they drawn?"""
    if not pages:
        flywheel.write_report = lambda folder: None
        data.write_card = lambda *_: None
    tiny.train = lambda model, sequences, **_: [0.0]
    for module in (training, self_play, evaluate):
        module.run_stage = _run_stage
    for module in (generate, play_stage):
        module.answering = _answering


def _run_stage(stage: str, config: Any, work: Path, total: int, done: int = 0) -> None:
    part = work / "metrics.part.jsonl"
    process.keep_metrics(work)
    with (work / "log.txt").open("a") as log:
        log.write(f"{stage}\n")
    if stage == "rl":
        _rl(config, part)
    elif stage == "sft":
        _sft(config, part)
    elif stage == "self_play":
        play_stage.play_on(config)
    else:
        generate.generate_answers(config)
    process.keep_metrics(work)


def _rl(config: Any, metrics: Path) -> None:
    """veRL's trainer: rollouts, checkpoint, tracker, then the step's metrics."""
    rows, folder = read_rows(config.data.train_files), Path(config.trainer.default_local_dir)
    steps, n, start = (
        config.trainer.total_training_steps,
        config.actor_rollout_ref.rollout.n,
        config.actor_rollout_ref.model.path,
    )
    done, weights = _load(folder, Path(start))
    saved: list[Path] = []
    with metrics.open("wb", buffering=0) as logger:
        for step in range(done + 1, steps + 1):
            draw = random.Random(f"{weights.hex()}-{step}")
            batch = draw.sample(rows, config.data.train_batch_size)
            found = rollouts_of_step(batch, step, steps, 0.6, draw, n)
            write_records(found, Path(config.self_emo.rollout_dir) / f"step_{step:06d}.parquet")
            weights = _next(weights, json.dumps(found, sort_keys=True, default=float).encode())
            data = {"self_emo/reward": sum(r["score"] for r in found) / len(found)}
            logger.write(json.dumps({"step": step, "data": data}).encode() + b"\n")  # as our trainer does
            saved = _save(folder, step, weights, Path(start), saved, config.trainer.max_actor_ckpt_to_keep)
            data |= {"timing_s/step": 1.0}
            logger.write(json.dumps({"step": step, "data": data}).encode() + b"\n")


def _load(folder: Path, start: Path) -> tuple[int, bytes]:
    tracker = folder / "latest_checkpointed_iteration.txt"
    if not tracker.exists():
        return 0, _weights(start)
    step = int(tracker.read_text())  # like veRL, which does not forgive an empty tracker
    with zipfile.ZipFile(folder / f"global_step_{step}/actor/model_world_size_1_rank_0.pt") as file:
        weights = file.read("weights")
    for name in ("actor/optim_world_size_1_rank_0.pt", "actor/extra_state_world_size_1_rank_0.pt", "data.pt"):
        with zipfile.ZipFile(folder / f"global_step_{step}" / name) as file:
            assert file.read("weights") == weights
    return step, weights


def _save(folder: Path, step: int, weights: bytes, start: Path, saved: list[Path], keep: int) -> list[Path]:
    """In the order of veRL's FSDP checkpoint manager and trainer; the old actor goes before the tracker."""
    if keep > 1 and len(saved) >= keep:
        for old in saved[: len(saved) - keep + 1]:
            shutil.rmtree(old, ignore_errors=True)
        saved = saved[len(saved) - keep + 1 :]
    actor = folder / f"global_step_{step}/actor"
    actor.mkdir(parents=True, exist_ok=True)
    for kind in ("model", "optim", "extra_state"):
        _archive(actor / f"{kind}_world_size_1_rank_0.pt", weights)
    _export(weights, start, actor / "huggingface")
    saved = [*saved, actor]
    for old in saved[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    _archive(folder / f"global_step_{step}/data.pt", weights)
    with (folder / "latest_checkpointed_iteration.txt").open("w") as tracker:
        sys.audit("os.truncate", str(tracker.name), 0)  # tells `kills` that it is empty now
        tracker.write(str(step))
    return saved[-keep:]


def _sft(config: Any, metrics: Path) -> None:
    trainer, start = config.sft.trainer, Path(config.sft.model.path)
    weights = _next(_weights(start), Path(config.sft.data.train_files).read_bytes())
    with metrics.open("wb", buffering=0) as logger:
        for step in range(1, 4):
            logger.write(json.dumps({"step": step, "data": {"train/loss": 1.0 / step}}).encode() + b"\n")
    _export(weights, start, Path(trainer.default_local_dir) / "global_step_3/huggingface")


@contextmanager
def _answering(config: Any, checkpoint: str, sampling: Any) -> Iterator[Any]:
    weights, size = _weights(Path(checkpoint)).hex(), config.evaluate.batch_rows

    def batches(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, list[str]]]:
        for i in range(0, len(rows), size):
            yield {
                row["extra_info"]["row_id"]: [
                    answer(row, 0.7, random.Random(f"{weights}-{row['extra_info']['row_id']}-{j}"))
                    for j in range(sampling.n)
                ]
                for row in rows[i : i + size]
            }

    yield batches


def _archive(path: Path, weights: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights", weights)


def _export(weights: bytes, start: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in start.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    save_file({"weights": np.frombuffer(weights, np.uint8)}, folder / "model.safetensors")


def _weights(model: Path) -> bytes:
    found = load_file(model / "model.safetensors")
    return _next(b"", b"".join(found[name].tobytes() for name in sorted(found)))


def _next(weights: bytes, data: bytes) -> bytes:
    return hashlib.sha256(weights + data).digest() * 64
