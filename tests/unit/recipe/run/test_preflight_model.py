"""What MODEL may be: every bad one has its clear error before a model is loaded or made."""

from __future__ import annotations

import json

import pytest

from data_prep.prompt import load_templates
from recipe.models import tiny, weights
from recipe.models.weights import ModelError
from recipe.run import preflight
from recipe.run.preflight import check
from recipe.steps.base import readings
from tests.unit.recipe.run.refusals import SMALL, refused

pytestmark = pytest.mark.settings


def test_a_model_folder_passes(configured, tmp_path, model_folder):
    assert check(configured(model=model_folder(tmp_path / "my model"))).is_dir()


@pytest.mark.parametrize(
    "path", ["nonsense", "a/b/c", "/no/such/folder", "./nothing", "~/nothing/here", "builtin:big"]
)
def test_a_model_that_is_nothing(configured, path):
    refused(configured(model=path), "neither", path, "tiny", error=ModelError)


def test_a_hub_id_that_cannot_be_read(configured):
    message = refused(configured(model="self-emo-no-such-owner/nothing"), "hub", error=ModelError)
    assert "self-emo-no-such-owner/nothing" in message and "folder" in message


def test_a_folder_without_config(configured, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(
        configured(model=tmp_path / "empty"),
        "without config.json",
        str(tmp_path / "empty"),
        error=ModelError,
    )


def test_a_model_whose_tokenizer_or_template_cannot_be_used(configured, tmp_path, model_folder):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps(SMALL))
    refused(configured(model=bare), "MODEL=mine has no chat template", "tokenizer", error=ModelError)
    (bare / "tokenizer.json").write_text("{broken")
    refused(configured(model=bare), "MODEL=mine has no tokenizer that can be read", error=ModelError)
    folder = model_folder(tmp_path / "m")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only users') }}")
    refused(configured(model=folder), "no system and user message (only users)", error=ModelError)


@pytest.mark.parametrize("content", ["{not json", "{}", '{"model_type": "no-such-model"}', "[]"])
def test_a_folder_with_a_broken_config(configured, tmp_path, content, model_folder):
    # `make train` shows a ValueError as one line, anything else as a traceback.
    folder = model_folder(tmp_path / "broken")
    (folder / "config.json").write_text(content)
    refused(configured(model=folder), error=ValueError)


@pytest.mark.usefixtures("machine")
def test_parameters_are_counted_from_the_configuration_alone(tmp_path, model_folder):
    folder = model_folder(tmp_path / "small")
    embedding, norm = 256 * 32, 32
    attention = 3 * 32 * 32 + 32 * 32 + 2 * 16  # q, k, v, o and the two head norms
    layer = attention + 3 * 32 * 64 + 2 * norm
    assert weights.count_parameters(str(folder)) == embedding + 2 * layer + norm


def test_the_tiny_model_is_as_large_as_is_said(tmp_path):
    tiny.make_tiny(readings(load_templates("compact"), 300, seed=1), tmp_path / "tiny", seed=1)
    assert weights.count_parameters(str(tmp_path / "tiny")) == pytest.approx(tiny.PARAMETERS, rel=0.1)


def test_rows_that_are_longer_than_the_model_s_context(configured, tmp_path, model_folder):
    folder = model_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 300}
    (folder / "config.json").write_text(json.dumps(config))
    refused(configured("experiment=smoke_llm", model=folder), "384 tokens together", "at most 300")


@pytest.mark.parametrize(
    ("heads", "works"),
    [
        ((32, 8), [1, 2, 4, 8, 16, 32]),  # Qwen3-8B: beyond eight, key-value heads are copied
        ((9, 3), [1, 3, 9]),  # SmolLM2-135M
        ((4, 2), [1, 2, 4]),
        ((12, 8), [1, 2, 4]),  # 12 heads over 3 or 6 or 12 GPUs would leave 8 key-value heads uneven
        ((28, 4), [1, 2, 4, 28]),  # 7 and 14 GPUs: four key-value heads are no even number of copies
        ((16, 1), [1, 2, 4, 8, 16]),  # one key-value head for all
    ],
)
def test_over_how_many_gpus_a_layer_can_be_split(heads, works):
    assert [n for n in range(1, 33) if preflight.splits(n, *heads)] == works


def test_a_tensor_parallel_size_that_does_not_fit_the_model(configured, tmp_path, model_folder):
    size = "actor_rollout_ref.rollout.tensor_model_parallel_size"
    gpus = "trainer.n_gpus_per_node=8"
    words = ("=8 cannot split tiny", "4 attention heads and 2 key-value heads", "[1, 2, 4]")
    refused(configured(gpus, f"{size}=8"), size, *words)
    refused(configured(f"{size}=2"), f"{size}=2 does not divide the 1 GPUs of a node")
    folder = model_folder(tmp_path / "m", SMALL | {"num_attention_heads": 6, "num_key_value_heads": 3})
    refused(configured(gpus, f"{size}=2", model=folder), "6 attention heads and 3 key-value heads", "[1]")
    assert weights.attention_heads(str(folder)) == (6, 3)
