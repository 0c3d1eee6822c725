"""What is read from a checkpoint without loading it, and the tiny model's tokenizer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from recipe.models.tiny import make_tiny
from recipe.models.weights import digest, largest_weight_mib, state_dtype


def test_the_largest_weight_over_all_files_in_whole_mebibytes(tmp_path):
    save_file({"a": np.zeros((512, 512), np.float16), "b": np.zeros(7)}, tmp_path / "model-1.safetensors")
    assert largest_weight_mib(tmp_path) == 1  # 512 * 512 numbers of four bytes: exactly one
    save_file({"c": np.zeros((513, 1024), np.float16)}, tmp_path / "model-2.safetensors")
    assert largest_weight_mib(tmp_path) == 3  # 2.004, rounded up
    assert largest_weight_mib(tmp_path / "nothing") == 0


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_configuration_names_the_type_of_its_weights(tmp_path, kind):
    """As veRL exports a model: through one that is bfloat16, with weights of their own type."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    make_tiny(["Ann sounds joy."] * 20, tmp_path / "made", seed=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=getattr(torch, kind))
    exported = tmp_path / "exported"
    through = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(tmp_path / "made"), dtype="bfloat16"
    )
    through.save_pretrained(exported, state_dict=model.state_dict())
    before, said = digest(exported), json.loads((exported / "config.json").read_text())
    assert said["dtype"] == "bfloat16"
    state_dtype(exported)
    assert json.loads((exported / "config.json").read_text()) == said | {"dtype": kind}
    assert digest(exported) == before
    loaded = AutoModelForCausalLM.from_pretrained(exported, dtype="auto")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tiny") / "model"
    text = (
        "<think>Ann sounds joy.</think>\n{'last_emotions': {'joy': 0.9, 'sadness': 0.1}, 'my_output': 'Yes.'}"
    )
    make_tiny([text] * 20, folder, seed=1)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["Zo\u00eb\u2026 ok?? \U0001f600\n\n", "  a  b\t", "{'x': 0.25}}", "don't_stop 1,000", ""]
)
def test_every_text_survives_the_tiny_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_weight_and_a_run_of_punctuation_are_one_token_each(tokenizer):
    pieces = [
        tokenizer.decode([i]) for i in tokenizer("'joy': 0.9, '", add_special_tokens=False)["input_ids"]
    ]
    assert " 0.9" in pieces and len(pieces) <= 5
