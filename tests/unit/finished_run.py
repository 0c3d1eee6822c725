"""A small finished run whose checkpoints can be loaded: `fake_run`'s, with a Qwen3 of few weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from data_prep.prompt import load_templates
from data_prep.rows import read_rows, write_rows
from recipe.models import weights
from tests.unit.fake_run import make_run

SETTINGS = f"""
prompts: {{dir: compact, digest: {load_templates("compact").digest}}}
personas: {{scope: dialogue}}
"""


def make_model(folder: Path, tokenizer_folder: Path) -> Path:
    """Weights, tokenizer and chat template, and what a training leaves of its own machine."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, eos_token_id=2, pad_token_id=0, max_position_embeddings=512,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for path in tokenizer_folder.iterdir():
        shutil.copy(path, folder)
    own = json.loads((folder / "config.json").read_text())
    own |= {
        "_name_or_path": "/home/somebody/base",
        "attn_implementation": "flash_attention_2",
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(own))
    return folder


def make_finished_run(folder: Path, tokenizer_folder: Path) -> Path:
    """The run, at ``folder``."""
    make_run(folder)
    with (folder / "config.yaml").open("a") as file:
        file.write(SETTINGS)
    model = make_model(folder / "iter_0/sft/model", tokenizer_folder)
    for k in (1, 2):
        for step in ("rl", "sft"):
            shutil.copytree(model, folder / f"iter_{k}/{step}/model")
    (folder / "base").mkdir()
    (folder / "base/base.json").write_text('{"path": "model"}')
    (folder / "data/counts.json").write_text('{"train": {"meld": 8}}')
    digest = weights.digest(model)
    for path in folder.glob("iter_[12]/buffer/buffer.parquet"):
        rows = read_rows(path)
        for row in rows:
            for made in (row["extra_info"], row["response_from"] or {}):
                if made.get("model"):
                    made["model"] = digest
        write_rows(rows, path)
    return folder
