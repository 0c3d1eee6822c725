"""Adapters through the real stack: what is exported answers as the policy did that vLLM held at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.rows import read_rows

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
STEPS = 2


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A cold start and two RL steps of the tiny model with LoRA, as `hardware=1gpu_lora` asks for it."""
    root = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [
            sys.executable, "-m", "recipe.main", "MODEL=tiny", "NAME=lora", f"run.root={root}",
            "hardware=cpu",
            "actor_rollout_ref.model.lora_rank=16", "actor_rollout_ref.model.lora_alpha=32",
            "actor_rollout_ref.model.lora.merge=true", "test_rows=8", "dev_rows=24",
            "samples={train: 600, dev: 60, test: 240, seed: 1}",
            "base.pretrain={dialogues: 900, steps: 150, batch: 16}", "sft.trainer.total_epochs=6",
            "flywheel.iterations=1", "flywheel.turns=0", "flywheel.min_reward=0.1",
            f"trainer.total_training_steps={STEPS}", f"trainer.save_freq={STEPS}",
            f"trainer.test_freq={STEPS}",
            f"+trainer.validation_data_dir={root / 'validation'}", "evaluate.stages=[rl]",
            "actor_rollout_ref.rollout.val_kwargs.do_sample=false",
        ],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PROFILE": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return root


def test_the_export_is_a_model_that_everybody_loads(run):
    from transformers import AutoModelForCausalLM

    for stage in ("iter_0/sft", "iter_1/rl", "iter_1/sft"):
        _, report = AutoModelForCausalLM.from_pretrained(
            run / f"lora/{stage}/model", output_loading_info=True
        )
        assert not report["missing_keys"] and not report["unexpected_keys"], stage
    assert (run / "lora/eval/rl_1/summary.json").exists()  # vLLM loaded it, too


def test_the_export_answers_as_the_policy_did(run):
    """Greedy answers of validation: vLLM's after the last weight sync, and the export's in PyTorch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run / "lora/iter_1/rl/model"
    lines = (run / f"validation/{STEPS}.jsonl").read_text().splitlines()
    said = {json.loads(line)["output"].strip() for line in lines}
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder).eval(),
    )
    prompts = [row["prompt"] for row in read_rows(run / "lora/iter_1/rl/dev.parquet")]
    assert len(lines) == len(prompts) == 24 and len(said) > 3  # not one answer to everything
    texts = [tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=False) for p in prompts]
    same = 0
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            answer = model.generate(ids, do_sample=False, max_new_tokens=56)[0, ids.shape[1] :]
        same += tokenizer.decode(answer, skip_special_tokens=True).strip() in said
    assert same >= 0.8 * len(texts)  # bfloat16 on the way to vLLM may turn a close call
