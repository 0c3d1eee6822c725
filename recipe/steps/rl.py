"""The RL stage (Algorithm 1, lines 5-10): SELF-GRPO on prompts drawn from B.

Reads: ``iter_<k-1>/buffer/buffer.parquet`` and the policy of ``iter_<k-1>/sft/model``. Leaves:
``iter_<k>/rl/{model,rollouts/step_*.parquet,metrics.jsonl,counts.json}``. An interrupted stage goes on
from its last checkpoint.
"""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import open_dict

from data_prep.files import write_json
from data_prep.rows import read_rows, write_rows
from recipe.draws import in_rounds
from recipe.models import weights
from recipe.models.fit_prompts import fit_rows
from recipe.run.files import read_json
from recipe.run.run import Run
from recipe.run.training import train_stage


def train(run: Run, work: Path, k: int) -> None:
    """Lines 5-10 of iteration k.

    Raises:
        ValueError: B holds less than one batch of prompts.
    """
    policy = run.folder / f"iter_{k - 1}/sft/model"
    buffer = read_rows(run.folder / f"iter_{k - 1}/buffer/buffer.parquet")
    cut = 0
    for name, rows in {"train": buffer, "dev": read_rows(run.folder / "data/dev.parquet")}.items():
        fitted, shortened = fit_rows(rows, run.base, run.config, run.templates)
        if name == "train" and run.config.flywheel.batches == "stratified":
            fitted = [fitted[i] for i in in_rounds(fitted, run.config.run.seed + k)]
        prompts = ({**row, "response": None, "response_from": None} for row in fitted)
        write_rows(prompts, work / f"{name}.parquet")
        cut += shortened
    config = run.stage_config(f"iter_{k}-rl")
    an_epoch = len(buffer) // config.data.train_batch_size
    if an_epoch < 1:
        raise ValueError(
            f"{len(buffer)} prompts do not fill data.train_batch_size={config.data.train_batch_size}"
        )
    steps = config.trainer.total_training_steps or an_epoch * config.trainer.total_epochs
    with open_dict(config):
        config.actor_rollout_ref.model.path = str(policy)
        config.data.train_files = str(work / "train.parquet")
        config.data.val_files = str(work / "dev.parquet")
        config.trainer.default_local_dir = str(work / "checkpoints")
        config.trainer.total_training_steps = steps
        # veRL ends with whichever comes first; a number of steps that was asked for is meant.
        config.trainer.total_epochs = max(config.trainer.total_epochs, math.ceil(steps / an_epoch))
        config.data.shuffle = run.config.flywheel.batches == "shuffled"
        config.self_emo.rollout_dir = str(work / "rollouts")
        # Else vLLM is made ready for the whole context of the model, 40,960 tokens of Qwen3.
        longest = config.data.max_prompt_length + config.data.max_response_length
        config.actor_rollout_ref.rollout.max_model_len = (
            config.actor_rollout_ref.rollout.max_model_len or longest
        )
        # A weight must fit into one bucket on its way to vLLM; veRL notices when a step is done.
        engine = config.actor_rollout_ref.rollout.checkpoint_engine
        largest = weights.largest_weight_mib(policy) + 1
        engine.update_weights_bucket_megabytes = max(engine.update_weights_bucket_megabytes, largest)
        if run.config.flywheel.lambda_horizon == "run":
            before = sum(read_json(run.folder / f"iter_{j}/rl/counts.json")["steps"] for j in range(1, k))
            config.self_emo.lambda_offset = before
            config.self_emo.lambda_total = before + steps * (run.config.flywheel.iterations - k + 1)
    train_stage(run, "rl", config, work, policy, steps)
    write_json(work / "counts.json", {"prompts": len(buffer), "steps": steps, "prompts_cut": cut})
