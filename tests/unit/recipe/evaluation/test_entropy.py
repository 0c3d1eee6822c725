"""Token entropies of the parts of an answer, against a model whose distribution is known."""

from __future__ import annotations

import math

import pytest
import torch

from recipe.evaluation import entropy as token_entropy
from recipe.models import tiny
from rewards.parse import KEYS

ANSWER = "<think>hm</think>{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 1.0}, 'my_output': 'Oh.'}"


@pytest.fixture
def checkpoint(tmp_path):
    tiny.make_tiny([ANSWER], tmp_path / "model", 1)
    return tmp_path / "model"


def test_a_model_that_knows_nothing_has_the_entropy_of_its_vocabulary(checkpoint, make_prompt_row):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    model.save_pretrained(checkpoint)
    found = token_entropy.measure(checkpoint, [make_prompt_row("a")], {"a": [ANSWER]}, {})
    assert found["answers"] == 1
    for key in KEYS:
        assert found[key] == pytest.approx(math.log(model.config.vocab_size), abs=1e-4)


def test_entropies_are_those_of_the_tokens_own_predictions(checkpoint, make_prompt_row):
    """The reply's entropy, recomputed token by token from whole forward passes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    row = make_prompt_row("a")
    found = token_entropy.measure(checkpoint, [row], {"a": [ANSWER]}, {})
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
    )
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    text, start = prompt + ANSWER, len(prompt) + ANSWER.index("Oh.")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    entropies = []
    for i, (a, b) in enumerate(coded["offset_mapping"]):
        if a < start + 3 and b > start:
            logits = model(torch.tensor([coded["input_ids"][:i]])).logits[0, -1].double()
            p = logits.softmax(-1)
            entropies.append(-(p * p.log()).sum().item())
    assert entropies and found["my_output"] == pytest.approx(sum(entropies) / len(entropies), abs=1e-4)


def test_answers_that_break_the_rule_are_not_measured(checkpoint, make_prompt_row):
    found = token_entropy.measure(checkpoint, [make_prompt_row("a")], {"a": ["nothing"]}, {})
    assert found == {"answers": 0} | dict.fromkeys(KEYS)
