"""The steps of `bench.rl_steps` in TRL's GRPOTrainer, one process, in an environment of its own.

`python -m bench.trl_steps <model folder> <prompts.parquet> <settings.json> <out.json>`: writes the seconds
from the start of the process to the end of every step.
"""

from __future__ import annotations

import json
import sys
import time

STARTED = time.time()

import pyarrow.parquet as pq  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from rewards.iou import compute_score  # noqa: E402


class Clock(TrainerCallback):
    """Seconds from the start of the process to the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ends.append(time.time() - STARTED)


def reward(prompts: list, completions: list, **columns: list) -> list[float]:
    """The project's reward of every completion."""
    rows = zip(completions, columns["data_source"], columns["ground_truth"], strict=True)
    return [compute_score(source, said[-1]["content"], truth)["score"] for said, source, truth in rows]


def main() -> None:
    """Train for as many steps as the settings say."""
    model, prompts, settings, out = sys.argv[1:]
    with open(settings) as file:
        given = json.load(file)
    rows = pq.read_table(prompts).to_pylist()
    data = Dataset.from_list(
        [
            {
                "prompt": row["prompt"],
                "data_source": row["data_source"],
                "ground_truth": row["reward_model"]["ground_truth"],
            }
            for row in rows
        ]
    )
    config = GRPOConfig(
        output_dir=out + ".trl",
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=given["prompts"] * given["n"],
        num_generations=given["n"],
        max_completion_length=given["response"],
        max_steps=given["steps"],
        learning_rate=given["lr"],
        beta=given["kl"],
        temperature=1.0,
        gradient_checkpointing=False,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=1,
    )
    clock = Clock()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
        reward_funcs=reward,
        args=config,
        train_dataset=data,
        callbacks=[clock],
    )
    trainer.train()
    with open(out, "w") as file:
        json.dump(clock.ends, file)


if __name__ == "__main__":
    main()
