"""An epoch of SFT here and in a loop in plain PyTorch, over the same rows, batches and updates.

The loop is what one writes by hand: one process, rows padded to the longest of a batch, AdamW, clipping,
cosine. Both leave out their start and first steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from bench.stage_times import stage_ends

SKIPPED = 10


def ours(source: DictConfig, work: Path) -> float:
    """Seconds a step in the SFT stage, over one epoch."""
    config = source.copy()
    with open_dict(config):
        config.sft.trainer.total_epochs = 1
        config.sft.trainer.default_local_dir = str(work / "checkpoints")
    work.mkdir(parents=True)
    OmegaConf.save(config, work / "config.yaml")
    return _a_step(stage_ends(["recipe.on_verl.stage", "sft"], work / "config.yaml"))


def plain(source: DictConfig, work: Path) -> float:
    """The same in the loop, a process of its own with the stage's number of threads."""
    work.mkdir(parents=True)
    OmegaConf.save(source, work / "config.yaml")
    environment = os.environ | {"OMP_NUM_THREADS": str(source.env.OMP_NUM_THREADS)}
    command = [sys.executable, "-m", "bench.sft_steps", str(work / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return _a_step(json.loads(done.stdout))


def _a_step(ends: list[float]) -> float:
    return round((ends[-1] - ends[SKIPPED]) / (len(ends) - 1 - SKIPPED), 4)


def loop(config: Any) -> list[float]:
    """Train for one epoch; seconds from the start to the end of every step."""
    import pyarrow.parquet as pq
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from torch.utils.data import DataLoader, DistributedSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

    sft, started = config.sft, time.time()
    model = AutoModelForCausalLM.from_pretrained(sft.model.path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(sft.model.path)
    template = dict(sft.data.apply_chat_template_kwargs)

    def encode(row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        text = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, tokenize=False, **template
        )
        prompt = tokenizer(text, add_special_tokens=False).input_ids
        response = tokenizer(row["response"], add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
        return torch.tensor(prompt + response), torch.tensor([0] * len(prompt) + [1] * len(response))

    data = [encode(row) for row in pq.read_table(sft.data.train_files).to_pylist()]

    def collate(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
        ids, mask = zip(*rows, strict=True)
        read = [torch.ones_like(x) for x in ids]
        return [pad_sequence(list(x), batch_first=True) for x in (ids, read, mask)]

    order = DistributedSampler(data, num_replicas=1, rank=0, drop_last=True)  # as veRL's trainer
    batches = DataLoader(data, sft.data.train_batch_size, sampler=order, collate_fn=collate, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), sft.optim.lr, tuple(sft.optim.betas), weight_decay=0.01)
    warm_up = round(len(batches) * sft.optim.lr_warmup_steps_ratio)
    schedule = get_cosine_schedule_with_warmup(optimizer, warm_up, len(batches))
    ends = []
    for ids, read, mask in batches:
        logits = model(input_ids=ids, attention_mask=read).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        wanted = mask[:, 1:].flatten()
        ((loss * wanted).sum() / wanted.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ends.append(time.time() - started)
    return ends


if __name__ == "__main__":
    print(json.dumps(loop(OmegaConf.load(sys.argv[1]))))
