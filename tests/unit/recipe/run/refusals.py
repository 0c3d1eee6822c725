"""What the tests of `recipe.run.preflight` share: a model's shape, and how a refusal is checked."""

from __future__ import annotations

import os

import pytest

from recipe.run.preflight import PreflightError, check

SMALL = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": True,
}
#: Qwen3-8B's shape.
LARGE = SMALL | {
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}


def refused(config, *words: str, error: type[Exception] = PreflightError) -> str:
    """The message with which ``config`` is refused; nothing may be left of the run."""
    root = config.run.root
    before = sorted(os.listdir(root)) if os.path.isdir(root) else None
    with pytest.raises(error) as caught:
        check(config)
    for word in words:
        assert word in str(caught.value)
    assert (sorted(os.listdir(root)) if os.path.isdir(root) else None) == before
    return str(caught.value)
