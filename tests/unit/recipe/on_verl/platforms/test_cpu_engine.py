"""Our engine on a CPU against veRL's own: the same model, rows and losses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from tensordict import NonTensorStack
from torch.testing import assert_close
from transformers import Qwen3Config, Qwen3ForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.utils.experimental.torch_functional import FusedLinearForPPOFunction
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.utils.losses import sft_loss

from recipe.on_verl.platforms import shared_prompts
from recipe.on_verl.platforms.cpu_engine import (
    CountedTokens,
    CpuEngine,
    install,
    labels_of,
    number_of_parts,
)
from recipe.on_verl.platforms.shared_prompts import IGNORED, Row

VOCABULARY = 61
#: veRL patches the class, for all models of a process, so the engine that makes logits gets this one back.
PLAIN = Qwen3ForCausalLM.forward


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def engines(request, tmp_path_factory):
    """veRL's, which makes all logits, and ours, each with a model of its own from the same file."""
    where = tmp_path_factory.mktemp("engine")
    write_model(where, request.param)
    store = dist.FileStore(str(where / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield SimpleNamespace(
            verls=made(FSDPEngineWithLMHead, where, False), ours=made(CpuEngine, where, True)
        )
    finally:
        Qwen3ForCausalLM.forward = PLAIN
        dist.destroy_process_group()


def write_model(where, tied):
    torch.manual_seed(0)
    sizes = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, head_dim=8, num_hidden_layers=2)
    sizes |= dict(num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=tied)
    Qwen3ForCausalLM(Qwen3Config(**sizes)).save_pretrained(where)


def made(engine, where, fused):
    install()  # as in the processes of a stage
    model = HFModelConfig(
        path=str(where), load_tokenizer=False, use_remove_padding=False, enable_gradient_checkpointing=False,
        override_config={"attn_implementation": "sdpa"}, use_fused_kernels=fused,
        fused_kernel_options={"impl_backend": "torch"},
    )  # fmt: skip
    float32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    options = FSDPEngineConfig(
        strategy="fsdp2", mixed_precision=float32, use_torch_compile=False, use_fused_kernels=fused
    )
    optimizer = FSDPOptimizerConfig(lr=1e-2, total_training_steps=10)
    found = engine(model, options, optimizer, CheckpointConfig())
    found.initialize()
    return found


def batch(lengths, answers, of_answers, dynamic, fused=True, left_out=True, groups=()):
    """Rows of tokens that follow from their length, or, where ``groups`` names some, with the prompt that
    follows from its number; the loss looks at the last ``answers`` of each, of the first row at one less."""
    ids = [tokens(n, n) for n in lengths]
    for i, (row, group) in enumerate(zip(ids, groups, strict=False)):
        n = lengths[i] - answers[i]
        row[:n] = tokens(n, 100 + group)
    masks = [torch.ones(n, dtype=torch.long) for n in answers]
    masks[0][1] = 0 if left_out else 1
    if not of_answers:  # SFT's masks cover the prompts, too; RL's do not
        masks = [torch.cat([torch.zeros(n - len(m)).long(), m]) for n, m in zip(lengths, masks, strict=True)]
    columns = {"input_ids": nested(ids), "loss_mask": nested(masks)}
    columns["position_ids"] = nested([torch.arange(n) for n in lengths])
    settings = {
        "use_dynamic_bsz": dynamic, "max_token_len_per_gpu": 64, "micro_batch_size_per_gpu": 2,
        "use_remove_padding": False, "use_fused_kernels": fused, "calculate_entropy": True,
        "temperature": 1.0,
    }  # fmt: skip
    return tu.get_tensordict(columns, settings)


def tokens(n, seed):
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed))


#: Three prompts of 14, 9 and 11 tokens, their answers in any order.
SHARED = {
    "lengths": [17, 14, 20, 13, 11, 18, 16, 12],
    "answers": [3, 5, 6, 4, 2, 4, 5, 3],
    "groups": [0, 1, 0, 1, 1, 0, 2, 1],
}


LENGTHS, ANSWERS = [19, 7, 12, 30, 8, 11, 20, 9], [6, 3, 5, 9, 2, 4, 8, 3]


@pytest.fixture
def each(engines, monkeypatch):
    """Calls a function with both engines, veRL's first."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(Qwen3ForCausalLM, "forward", PLAIN)
            theirs = function(engines.verls, False)
        return theirs, function(engines.ours, True)

    return call


@pytest.mark.parametrize("of_answers", [True, False], ids=["rl", "sft"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_what_the_loss_looks_at_is_verls_and_in_the_order_of_the_rows(each, of_answers, dynamic):
    def infer(engine, fused):
        with engine.eval_mode():
            rows = batch(LENGTHS, ANSWERS, of_answers, dynamic, fused)
            return engine.infer_batch(rows, loss_function=None)["model_output"]

    found = each(infer)
    for key in ("log_probs", "entropy"):
        of_rows = zip(*(outputs[key].unbind() for outputs in found), LENGTHS, ANSWERS, strict=True)
        for i, (theirs, ours, n, a) in enumerate(of_rows):
            counted = [t for t in range(n - a - 1, n - 1) if (i, t) != (0, n - a)]
            assert len(theirs) == len(ours) == n
            assert_close(ours[counted], theirs[counted], rtol=1e-5, atol=1e-6)
            assert (theirs != 0).all() and not ours[: n - a - 1].any()  # prompts are left out


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_training_step_is_verls(engines, each, dynamic):
    def train(engine, fused):
        with engine.train_mode():
            return engine.train_batch(batch(LENGTHS, ANSWERS, False, dynamic, fused), loss_function=loss)

    theirs, ours = each(train)
    assert ours["metrics"]["grad_norm"] == pytest.approx(theirs["metrics"]["grad_norm"], rel=1e-5)
    assert sum(ours["loss"]) == pytest.approx(sum(theirs["loss"]), rel=1e-5)
    mine = dict(engines.ours.module.named_parameters())
    for key, weight in engines.verls.module.named_parameters():
        assert_close(mine[key].full_tensor(), weight.full_tensor(), rtol=1e-4, atol=1e-4)  # of steps of .01


@pytest.mark.parametrize("of_answers", [True, False], ids=["rl", "sft"])
@pytest.mark.parametrize("most", [32, 64, 400])
def test_answers_that_share_their_prompt_get_what_verl_gives_each(each, of_answers, most, monkeypatch):
    packed = []
    pack = shared_prompts.pack
    monkeypatch.setattr(shared_prompts, "pack", lambda *given: packed.append(found := pack(*given)) or found)

    def infer(engine, fused):
        rows = batch(dynamic=True, fused=fused, of_answers=of_answers, **SHARED)
        tu.assign_non_tensor(rows, max_token_len_per_gpu=most)
        with engine.eval_mode():
            return engine.infer_batch(rows, loss_function=None)["model_output"]

    found = each(infer)
    assert packed or most == 32
    if most == 400:  # in one piece; with little room a prompt is there once a micro-batch
        assert [p.input_ids.shape for p in packed] == [(3, 13 + 4 + 7 + 5)]
    for key in ("log_probs", "entropy"):
        of_rows = zip(
            *(outputs[key].unbind() for outputs in found), SHARED["lengths"], SHARED["answers"], strict=True
        )
        for i, (theirs, ours, n, a) in enumerate(of_rows):
            counted = [t for t in range(n - a - 1, n - 1) if (i, t) != (0, n - a)]
            assert len(theirs) == len(ours) == n
            assert_close(ours[counted], theirs[counted], rtol=1e-5, atol=1e-6)
            assert not ours[: n - a - 1].any()


def test_a_step_on_shared_prompts_is_verls(engines, each):
    def train(engine, fused):
        with engine.train_mode():
            rows = batch(dynamic=True, fused=fused, of_answers=True, **SHARED)
            return engine.train_batch(rows, loss_function=sum_of_log_probs)

    theirs, ours = each(train)
    assert ours["metrics"]["grad_norm"] == pytest.approx(theirs["metrics"]["grad_norm"], rel=1e-5)
    mine = dict(engines.ours.module.named_parameters())
    for key, weight in engines.verls.module.named_parameters():
        assert_close(mine[key].full_tensor(), weight.full_tensor(), rtol=1e-4, atol=1e-4)


def sum_of_log_probs(model_output, data, dp_group):
    """A loss of the answers as RL's are: a weight of its own for each token."""
    total = torch.zeros(())
    for name in ("log_probs", "entropy"):
        for values, mask in zip(model_output[name].unbind(), data["loss_mask"].unbind(), strict=True):
            answer = values[-len(mask) - 1 : -1]
            total = total + (answer * mask * torch.linspace(-1, 2, len(mask))).sum()
    return total, {}


@pytest.mark.parametrize("change", [{"sliding_window": 4}, {"layer_types": ["sliding_attention"] * 2}])
def test_a_model_that_would_not_understand_the_mask_gets_plain_rows(engines, monkeypatch, change):
    rows = batch(dynamic=True, of_answers=True, **SHARED)
    labels = labels_of(rows["input_ids"], rows["loss_mask"])
    assert engines.ours._shared(rows["input_ids"], labels)
    for name, value in change.items():
        monkeypatch.setattr(engines.ours.module.config, name, value)
    assert not engines.ours._shared(rows["input_ids"], labels)


def test_objects_are_left_behind_and_images_are_not(engines, monkeypatch):
    seen = []
    original = FSDPEngineWithLMHead.forward_step
    monkeypatch.setattr(
        FSDPEngineWithLMHead,
        "forward_step",
        lambda self, rows, *more, **named: (
            seen.append(set(rows.keys())) or original(self, rows, *more, **named)
        ),
    )
    rows = batch(LENGTHS, ANSWERS, True, dynamic=True)
    for name in ("uid", "multi_modal_inputs"):
        rows[name] = NonTensorStack(
            *({"row": i} if name != "uid" else f"group {i}" for i in range(len(LENGTHS)))
        )
    monkeypatch.setattr(transformer_impl, "extract_multi_modal_inputs", lambda given: {})
    with engines.ours.eval_mode():
        engines.ours.infer_batch(rows, loss_function=None)
    assert seen and all("uid" not in keys and "multi_modal_inputs" in keys for keys in seen)
    assert "uid" in set(rows.keys())  # the caller keeps them


def loss(**given):
    return sft_loss(config=None, **given)


def test_less_is_padded_and_less_goes_through_the_output_layer(engines, monkeypatch):
    seen = []
    original = FusedLinearForPPOFunction.apply
    monkeypatch.setattr(
        FusedLinearForPPOFunction, "apply", lambda h, *more: seen.append(len(h)) or original(h, *more)
    )
    with engines.ours.eval_mode():
        engines.ours.infer_batch(batch(LENGTHS, ANSWERS, True, dynamic=True), loss_function=None)
    assert sum(seen) == sum(ANSWERS) - 1
    assert len(seen) == number_of_parts([Row(n, 0, n) for n in sorted(LENGTHS)], 64) == 4


@pytest.mark.parametrize("left", [{"use_remove_padding": True}, {"use_dynamic_bsz": False}])
def test_packed_rows_and_counted_ones_are_left_as_they_are(engines, monkeypatch, left):
    seen = []
    monkeypatch.setattr(
        FSDPEngineWithLMHead, "forward_backward_batch", lambda self, *given: seen.append(given)
    )
    rows = batch(LENGTHS, ANSWERS, True, dynamic=True)
    tu.assign_non_tensor(rows, **left)
    engines.ours.forward_backward_batch(rows, loss)
    assert seen == [(rows, loss, False)] and seen[0][0] is rows


def test_labels_are_the_next_tokens_that_count():
    ids = nested([torch.tensor([5, 6, 7, 8]), torch.tensor([3, 4])])
    masks = nested([torch.tensor([1, 0, 1]), torch.tensor([0, 1])])
    assert labels_of(ids, masks).tolist() == [[6, IGNORED, 8, IGNORED], [4, IGNORED, IGNORED, IGNORED]]


def test_gradients_at_counted_tokens_are_those_of_plain_logits():
    torch.manual_seed(2)
    states, weights = (torch.randn(s, dtype=torch.float32, requires_grad=True) for s in [(2, 5, 4), (7, 4)])
    labels = torch.tensor([[1, IGNORED, 3, 6, IGNORED], [IGNORED, 0, 2, IGNORED, 5]])
    log_probs, entropy = CountedTokens()(states, weights, labels, temperature=0.7)
    factors = torch.randn(2, 5), torch.randn(2, 5)
    found = torch.autograd.grad((factors[0] * log_probs + factors[1] * entropy).sum(), [states, weights])
    logits = torch.log_softmax(states @ weights.T / 0.7, -1)
    counted = labels != IGNORED
    plain = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    spread = -(logits.exp() * logits).sum(-1)
    expected = torch.autograd.grad(
        ((factors[0] * plain + factors[1] * spread) * counted).sum(), [states, weights]
    )
    assert_close(log_probs, plain * counted)
    assert_close(entropy, spread * counted)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 400))
def test_parts_divide_the_rows_and_hold_what_they_may(lengths, most):
    lengths.sort()
    parts = number_of_parts([Row(i, 0, n) for i, n in enumerate(lengths)], most)
    size, rest = divmod(len(lengths), parts)
    assert rest == 0
    padded = [size * max(lengths[i : i + size]) for i in range(0, len(lengths), size)]
    assert parts == len(lengths) or max(padded) <= most
    assert parts >= math.ceil(sum(lengths) / most) or parts == len(lengths)


def test_it_is_what_the_cpu_profile_trains_with(monkeypatch):
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cpu")
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is CpuEngine
