"""The pretrained base: a folder that loads, whose tokens and template are what SFT and RL rely on."""

from __future__ import annotations

import math

import pytest

from data_prep.sample_dialogues import unlabelled
from recipe.models import tiny

SMALL = tiny.SIZES | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 8}
CHAT = [{"role": "system", "content": "You are Ada."}, {"role": "user", "content": "Gil: I got the job."}]


@pytest.fixture(scope="module")
def texts():
    dialogues = unlabelled(1, 300)
    return ["".join(f"{turn['speaker']}: {turn['text']}\n" for turn in turns) for _, turns in dialogues]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(tiny, "SIZES", SMALL)


def test_it_learns_and_loads(tmp_path, texts):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    losses = tiny.pretrain(texts, tmp_path / "base", seed=1, steps=40, batch=16, lr=2e-3)
    assert len(losses) == 40
    assert losses[0] == pytest.approx(
        math.log(len(AutoTokenizer.from_pretrained(tmp_path / "base"))), rel=0.1
    )
    assert sum(losses[-5:]) / 5 < losses[0] - 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.config.eos_token_id == AutoTokenizer.from_pretrained(tmp_path / "base").eos_token_id


def test_a_seed_is_a_model(texts):
    tokenizer = tiny.make_tokenizer(texts)
    sequences = tokenizer(texts)["input_ids"]

    def losses(seed):
        model = tiny.make_model(tokenizer, seed)
        return tiny.train(model, sequences, steps=3, batch=4, lr=2e-3, seed=seed)

    assert losses(1) == losses(1) != losses(2)


def test_tokens_and_chat_template(texts):
    tokenizer = tiny.make_tokenizer([*texts, "{'last_emotions': {'joy': 0.7, 'fear': 0.2}}"])
    for tag in ("<think>", "</think>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer(tag, add_special_tokens=False)["input_ids"]) == 1
    assert tokenizer.decode(tokenizer("<think>so</think>")["input_ids"], skip_special_tokens=True) == (
        "<think>so</think>"
    )
    rendered = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    assert rendered.startswith("<|im_start|>system\nYou are Ada.<|im_end|>\n<|im_start|>user\n")
    assert rendered.endswith("<|im_end|>\n<|im_start|>assistant\n")
