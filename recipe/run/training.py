"""Run a training stage in veRL and keep its model, or take it from a run that has done the same."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from recipe.models import lora
from recipe.run import reuse
from recipe.run.cuda_memory import with_less_memory
from recipe.run.process import run_stage
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
    if (work / "model").exists():  # an attempt before this one was ended between here and its commit
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        reuse.record(found, work)
        return
    reached = work / "checkpoints/latest_checkpointed_iteration.txt"
    if done := int(reached.read_text() or 0) if stage == "rl" and reached.exists() else 0:
        print(f"  {stage}: going on from step {done} of {steps}", flush=True)
    with_less_memory(run_stage, stage, config, work, steps, done)
    take_model(work, stage)
    reuse.record(found, work)


def take_model(work: Path, stage: str) -> None:
    """Move the newest exported Hugging Face folder to ``<work>/model``, and delete the checkpoints: three
    quarters of their bytes are an optimizer's, which nothing needs any more.

    Raises:
        FileNotFoundError: the stage left none.
    """
    found = sorted(
        (work / "checkpoints").glob(f"global_step_*/{_EXPORTED[stage]}"),
        key=lambda p: int(p.relative_to(work / "checkpoints").parts[0].removeprefix("global_step_")),
    )
    if not found:
        raise FileNotFoundError(f"the stage left no model below {work / 'checkpoints'}")
    lora.merged(found[-1]).rename(work / "model")
    shutil.rmtree(work / "checkpoints")
