"""Run a training stage in veRL and keep its model, or take it from a run that has done the same."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from data_prep.files import commit
from recipe.models import lora, weights
from recipe.run import checkpoints, reuse
from recipe.run.cuda_memory import with_less_memory
from recipe.run.process import StageError, keep_metrics, run_stage
from recipe.run.run import Run

#: Where a stage's trainer exports its Hugging Face folder, below a step's checkpoint.
_EXPORTED = {"rl": "actor/huggingface", "sft": "huggingface"}


def train_stage(run: Run, stage: str, config: DictConfig, work: Path, start: Path, steps: int) -> None:
    """Train, unless a run of ``run.reuse`` has done the very same; leaves ``<work>/model``.

    Args:
        run: whose stage it is.
        stage: ``sft`` or ``rl``.
        config: the stage's whole configuration.
        work: the step's folder, ``<run>/<step>.work``.
        start: the weights it starts from.
        steps: how many the trainer will make, for the progress bar.

    Raises:
        StageError: the stage failed; `WorkerLostError` where another try may go better.
    """
    found = reuse.fingerprint(stage, config, work, run.folder, start)
    step = work.relative_to(run.folder).as_posix().removesuffix(".work")
    if other := reuse.take(found, work, step, run.config.run.reuse):
        print(f"  {stage}: as in the run {other}, taken from there", flush=True)
        return
    if not (work / "model").exists():  # else an attempt before this one was ended just before its commit
        with_less_memory(partial(_go_on, stage, work=work, steps=steps), stage, config, work / "log.txt")
        _take_model(work, stage)
    keep_metrics(work)  # of an attempt that was ended after its last step
    shutil.rmtree(work / "checkpoints", ignore_errors=True)  # nothing goes on from them any more
    reuse.record(found, work)


def _go_on(stage: str, config: DictConfig, work: Path, steps: int) -> None:
    """Train what is left, from the newest whole checkpoint on; SFT keeps none, and starts again."""
    done = 0
    if stage == "rl":
        contents = config.actor_rollout_ref.actor.checkpoint.save_contents
        done = checkpoints.settle(work / "checkpoints", contents)
    if done:
        print(f"  {stage}: going on from step {done} of {steps}", flush=True)
    if done < steps:
        run_stage(stage, config, work, total=steps, done=done)


def _take_model(work: Path, stage: str) -> None:
    found = sorted(
        (work / "checkpoints").glob(f"global_step_*/{_EXPORTED[stage]}"),
        key=lambda p: int(p.relative_to(work / "checkpoints").parts[0].removeprefix("global_step_")),
    )
    if not found:
        raise StageError(f"{stage} left no model below {work / 'checkpoints'}; trainer.save_freq saves one")
    exported = lora.merged(found[-1])
    weights.state_dtype(exported)
    commit(exported, work / "model")
