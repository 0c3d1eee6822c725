"""Prompts answered a second, after the start: evaluation here, and transformers' `generate` in batches.

Both answer the same prompts with the same checkpoint, greedily and up to the same length. `generate` is
given several batch sizes, and the fastest counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

BATCHES = (64, 256)


def speeds(source: DictConfig, model: str, prompts: Path, work: Path) -> dict[str, float]:
    """Prompts a second of each, by name."""
    work.mkdir(parents=True)
    OmegaConf.save(source, work / "config.yaml")
    environment = os.environ | {key: str(value) for key, value in source.env.items()}
    found = {}
    for name in ("ours", "generate"):
        command = [
            sys.executable,
            "-m",
            "bench.answer_speed",
            name,
            str(work / "config.yaml"),
            model,
            str(prompts),
        ]
        with (work / f"{name}.log").open("wb") as log:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, check=True, env=environment)
        found[name] = round(float(done.stdout.split()[-1]), 1)
    return found


def ours(config: Any, model: str, rows: list[dict[str, Any]]) -> float:
    """Prompts a second of what scores a checkpoint."""
    import ray

    from recipe.evaluation.engines import Sampling
    from recipe.evaluation.generate import answering

    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=config.cluster.num_cpus)
    with answering(config, model, Sampling()) as answer:
        list(answer(rows[:8]))  # the first call compiles and allocates
        started = time.time()
        said = [answers for batch in answer(rows) for answers in batch.values()]
        return len(said) / (time.time() - started)


def generate(config: Any, model: str, rows: list[dict[str, Any]]) -> float:
    """Prompts a second of `generate`, with the batch size that suits it best."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    template = dict(config.data.apply_chat_template_kwargs)
    texts = [
        tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False, **template)
        for row in rows
    ]
    prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]

    def answer(batch: list[list[int]]) -> None:
        inputs = tokenizer.pad({"input_ids": batch}, return_tensors="pt")
        policy.generate(**inputs, max_new_tokens=config.data.max_response_length, do_sample=False)

    answer(prompts[:8])
    found = []
    with torch.inference_mode():
        for size in BATCHES:
            started = time.time()
            for i in range(0, len(prompts), size):
                answer(prompts[i : i + size])
            found.append(len(prompts) / (time.time() - started))
    return max(found)


def main() -> None:
    """One of the two, in a process of its own."""
    from data_prep.rows import read_rows

    name, config, model, prompts = sys.argv[1:]
    measure = {"ours": ours, "generate": generate}[name]
    print(json.dumps(measure(OmegaConf.load(config), model, read_rows(prompts))))


if __name__ == "__main__":
    main()
