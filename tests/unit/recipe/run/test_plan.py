"""`make plan`: every number against arithmetic written out here, and what it says would not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from data_prep.corpora import SPLITS, read_corpora
from recipe.run.plan import count_rows, main, render
from recipe.run.plan_memory import (
    GIB,
    Architecture,
    advice,
    architecture,
    largest_micro_batch,
    memory,
    micro_batch_tokens,
)
from recipe.run.preflight import PreflightError, check_types
from tests.unit.composed import composed as composed_of
from tests.unit.samples import SAMPLES

pytestmark = pytest.mark.settings


def composed(*overrides: str, model: str = "qwen3-8b", experiment: str = "paper", hardware: str = "8gpu"):
    groups = (f"model={model}", f"experiment={experiment}", f"hardware={hardware}")
    return composed_of(*groups, *overrides)


QWEN3_8B = 36 * (4096 * 128 * (32 + 8 + 8 + 32) + 3 * 4096 * 12288) + 2 * 151936 * 4096


def test_parameters_of_the_papers_models():
    assert architecture(composed()).parameters == QWEN3_8B == 8_190_427_136
    # The model cards say 8.2 and 4.0 billion; norms are not counted here.
    four = architecture(composed(model="qwen3-4b")).parameters
    assert four == 36 * (2560 * 128 * 80 + 3 * 2560 * 9728) + 151936 * 2560 == 4_022_272_000


def test_an_architecture_from_a_hugging_face_configuration():
    config = SimpleNamespace(
        num_hidden_layers=2, hidden_size=8, intermediate_size=16, num_attention_heads=4,
        vocab_size=10, tie_word_embeddings=True,
    )  # fmt: skip
    found = Architecture.of(config)
    assert (found.kv_heads, found.head_dim) == (4, 2)
    assert found.parameters == 2 * (4 * 8 * 8 + 3 * 8 * 16) + 80


LAYER, EMBEDDINGS = 192_937_984, 2 * 151936 * 4096
SDPA = "+actor_rollout_ref.model.override_config.attn_implementation=sdpa"


def test_memory_of_appendix_e_by_hand():
    config = composed(experiment="paper_exact")
    model = architecture(config)
    tokens = micro_batch_tokens(config, 12288)
    assert tokens == 16 * 12288
    need = memory(config, model, tokens)
    n = QWEN3_8B
    assert need.training["actor weights (float32, sharded)"] == n / 2
    assert need.training["gradients"] == n / 2
    assert need.training["Adam moments"] == n
    assert need.training["reference"] == 0  # offloaded
    assert need.training["gathered by FSDP2"] == 2 * (2 * LAYER + EMBEDDINGS)
    assert need.training["gradients to be scattered"] == 6 * 151936 * 4096  # the output projection's
    assert need.training["logits"] == 2 * 196608 * 151936  # bfloat16, their gradient written over them
    assert need.training["attention mask"] == 0
    checkpoints = 2 * 196608 * 4096 * 36
    assert need.training["activations"] == checkpoints + 34 * 196608 * 4096 + 6 * 196608 * 12288
    assert need.rollout["vLLM's share"] == pytest.approx(0.5 * 79.6 * GIB)
    assert need.rollout["Adam moments"] == n and "gradients" not in need.rollout
    # Two bytes for key and value of 8 heads of 128 in 36 layers; eight GPUs share the cache.
    cache = 0.5 * 79.6 * GIB - 2 * n / 8 - 2 * GIB
    assert need.kv_tokens == pytest.approx(cache * 8 / (2 * 2 * 8 * 128 * 36))
    assert not need.fits


def test_without_flash_attention_logits_are_kept_in_float32_and_a_mask_beside_them():
    config = composed(SDPA)
    need = memory(config, architecture(config), 16384)
    assert need.training["logits"] == 10 * 16384 * 151936
    assert need.training["attention mask"] == 3 * 16384**2


def test_appendix_e_does_not_fit_to_the_letter_and_does_by_tokens():
    config = composed(experiment="paper_exact")
    model = architecture(config)
    (problem,) = advice(config, model)
    assert "training does not fit" in problem and "use_dynamic_bsz=true" in problem
    # A token costs checkpoints, the layer that is recomputed, and logits; weights, gradients and moments of
    # 8.19 B parameters on eight GPUs take 2 N = 15.3 GiB.
    a_token = 2 * 4096 * 36 + 34 * 4096 + 6 * 12288 + 2 * 151936
    assert a_token == 811_776
    fixed = 2 * QWEN3_8B + 2 * (2 * LAYER + EMBEDDINGS) + 6 * 151936 * 4096 + 6 * GIB
    assert f"{(fixed + 196_608 * a_token) / GIB:.0f} GiB a GPU of 80" == "176 GiB a GPU of 80"
    assert largest_micro_batch(config, model) == int((79.6 * GIB - fixed) / a_token) == 68_555
    assert "176 GiB a GPU of 80" in problem
    assert "everything fits" in render(composed(), model, 1000, 100)
    # The run's own profile fits with flash-attn, and with the sdpa that stands in for it.
    assert advice(composed(), model) == advice(composed(SDPA), model) == []


def test_the_largest_micro_batch_is_the_largest():
    for config in (composed(), composed(SDPA)):
        model = architecture(config)
        most = largest_micro_batch(config, model)
        assert sum(memory(config, model, most).training.values()) <= 79.6 * GIB
        assert sum(memory(config, model, most + 1).training.values()) > 79.6 * GIB


@pytest.mark.parametrize(
    ("groups", "overrides"),
    [
        ({"experiment": "paper_exact"}, []),
        ({"hardware": "1gpu"}, []),
        ({"hardware": "1gpu", "model": "qwen3-4b"}, []),
        ({"hardware": "2gpu"}, ["actor_rollout_ref.rollout.tensor_model_parallel_size=2"]),
        ({}, ["actor_rollout_ref.rollout.gpu_memory_utilization=0.95"]),
        ({}, ["actor_rollout_ref.rollout.gpu_memory_utilization=0.04"]),
    ],
)
def test_what_the_plan_advises_fits(groups, overrides):
    config = composed(*overrides, **groups)
    (problem,) = advice(config, architecture(config))
    changes = problem.split('ARGS="')[1].rstrip('"').split()
    assert changes and advice(composed(*overrides, *changes, **groups), architecture(config)) == []


def test_no_advice_where_nothing_would_fit():
    config = composed("plan.gpu=rtx4090-24gb", hardware="1gpu")
    (problem,) = advice(config, architecture(config))
    assert "ARGS" not in problem and "more or larger GPUs" in problem


@pytest.mark.parametrize(
    ("model", "gpu"), [("qwen3-4b", "h100-80gb"), ("qwen3-8b", "h100-80gb"), ("qwen3-1.7b", "rtx4090-24gb")]
)
def test_adapters_on_one_gpu(model, gpu):
    config = composed(f"plan.gpu={gpu}", model=model, hardware="1gpu_lora")
    sizes = architecture(config)
    assert advice(config, sizes) == []
    assert config.actor_rollout_ref.model.use_remove_padding and config.actor_rollout_ref.model.lora.merge
    need = memory(config, sizes, 12288)
    d, f, q, kv = sizes.hidden, sizes.intermediate, sizes.heads * 128, sizes.kv_heads * 128
    of_a_layer = 32 * ((d + q) + 2 * (d + kv) + (q + d) + 3 * (d + f))
    assert need.training["gradients"] == 4 * of_a_layer * sizes.layers
    assert need.training["reference"] == 0  # the base itself, without its adapters


def test_offloading_frees_the_gpu_while_it_generates():
    config = composed(
        "actor_rollout_ref.actor.fsdp_config.param_offload=true",
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true",
    )
    need = memory(config, architecture(config), 0)
    assert sum(need.rollout.values()) == pytest.approx((0.5 * 79.6 + 6) * GIB)


def test_rows_are_counted_where_there_are_corpora():
    assert count_rows(composed()) == (22703, 5217)
    train, _, test = (
        sum(u.label is not None for d in read_corpora(SAMPLES, None, [split]) for u in d.utterances)
        for split in SPLITS
    )
    assert count_rows(composed(f"raw_dir={SAMPLES}")) == (train, test) and train >= 300


def test_the_page_names_model_cost_and_assumptions():
    config = composed("plan.dollars_per_gpu_hour=2", experiment="paper_exact")
    page = render(config, architecture(config), 22703, 5217)
    assert "Qwen3-8B: 8.19 B parameters on 8 x h100-80gb" in page
    assert "WOULD NOT FIT" in page and "cost at 2 dollars a GPU-hour" in page and "700 + 350 tokens" in page
    assert "one RL step against the data sheet (989 TFLOP/s" in page


def test_a_cost_wants_a_price_and_small_hours_are_not_none():
    config = composed(model="smollm2-135m", experiment="smoke_llm", hardware="1gpu")
    page = render(config, architecture(config), 64, 16)
    assert 'cost: not known; ARGS="plan.dollars_per_gpu_hour=..."' in page
    hours = page.split("GPU-hours\n")[1].split("\ntogether")[0].splitlines()
    assert len(hours) > 3 and all(float(line.split()[-1]) > 0 for line in hours), hours
    free = composed("plan.dollars_per_gpu_hour=0", model="smollm2-135m", hardware="1gpu")
    assert "dollars a GPU-hour: 0 dollars" in render(free, architecture(free), 64, 16)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["MODEL=Qwen3-8B", "hardware=cpu"], "error: a plan is of GPUs; hardware=cpu has none"),
        ([], "error: the tiny model needs no plan: it trains without a GPU"),
    ],
)
def test_a_run_without_gpus_has_no_gpu_hours(monkeypatch, capsys, words, told):
    monkeypatch.setattr("sys.argv", ["plan", *words])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr()
    assert said.err.startswith(told) and said.out == ""


def test_the_command_finds_its_configuration(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["plan", "MODEL=Qwen3-8B", "raw_dir=null"])
    main()
    assert "Qwen3-8B: 8.19 B parameters on 8 x h100-80gb" in capsys.readouterr().out


def test_a_replica_of_fewer_gpus_is_planned_as_it_will_be(monkeypatch, capsys):
    """The paper's replica takes eight GPUs; on four its KV cache is that of four."""
    monkeypatch.setattr("sys.argv", ["plan", "MODEL=Qwen3-8B", "hardware=4gpu", "raw_dir=null"])
    main()
    said = capsys.readouterr().out
    cache = (0.5 * 79.6 * GIB - 2 * QWEN3_8B / 4 - 2 * GIB) * 4 / (2 * 2 * 8 * 128 * 36)
    assert (
        "a rollout replica takes as many, not 8" in said
        and f"KV cache of a replica: {cache:,.0f} tok" in said
    )


def test_no_more_rows_are_planned_than_a_run_takes(capsys):
    rows = composed_of("hardware=8gpu").plan.rows
    assert count_rows(composed_of("hardware=8gpu")) == (rows.train, rows.test)
    assert "no RAW_DIR" in capsys.readouterr().err
    assert count_rows(composed_of("train_rows=40", "test_rows=8")) == (40, 8 * 3)
    assert count_rows(composed_of("train_rows=40", "test_rows=8", "corpora=[meld]")) == (40, 8)
    few = composed_of("train_rows=3", "test_rows=100000", f"raw_dir={SAMPLES}")
    assert count_rows(few) == (3, count_rows(composed_of(f"raw_dir={SAMPLES}"))[1])


def test_an_unknown_gpu_is_named_with_those_that_are_known():
    with pytest.raises(PreflightError, match="plan.gpu='h100' must be one of a100-80gb, h100-80gb"):
        check_types(composed_of("plan.gpu=h100"))
