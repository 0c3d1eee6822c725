"""Exports of LoRA training, merged: what they answer is what the trained model answers."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, Qwen3Config

from recipe.models.lora import META, merged


def exported(folder, tied: bool):
    """An adapted model, and its export as veRL's checkpoint manager writes it: PEFT's state under a plain
    configuration, rank and alpha beside it."""
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, tie_word_embeddings=tied,
    )  # fmt: skip
    plain = AutoModelForCausalLM.from_config(config)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_config(config),
        LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=8, target_modules="all-linear"),
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:  # zero before any step
            torch.nn.init.normal_(weight, std=0.2)
    target = folder / "actor/huggingface"
    target.mkdir(parents=True)
    plain.save_pretrained(target, state_dict={k: v.clone() for k, v in adapted.state_dict().items()})
    (target.parent / META).write_text(json.dumps({"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM"}))
    (target / "tokenizer.json").write_text("{}")
    return adapted.eval(), target


@pytest.mark.parametrize("tied", [False, True])
def test_a_merged_export_loads_and_answers_as_the_trained_model(tmp_path, tied):
    adapted, folder = exported(tmp_path, tied)
    found = merged(folder, most_bytes=20_000)
    assert len(list(found.glob("*.safetensors"))) > 2 and (found / "tokenizer.json").exists()
    loaded, report = AutoModelForCausalLM.from_pretrained(found, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = torch.arange(24).reshape(2, 12)
    with torch.inference_mode():
        wanted, got = adapted(ids).logits, loaded.eval()(ids).logits
        with adapted.disable_adapter():
            before = adapted(ids).logits
    assert torch.allclose(got, wanted, atol=1e-5)
    assert not torch.allclose(before, wanted, atol=1e-2)  # the adapters say something


def test_an_export_without_adapters_is_left_alone(tmp_path):
    folder = tmp_path / "actor/huggingface"
    folder.mkdir(parents=True)
    assert merged(folder) == folder
