"""Groups as rows: what is shared, how it is laid out; a model gives every token what it gave before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen3Config

from recipe.on_verl.platforms.shared_prompts import (
    IGNORED,
    Row,
    in_order,
    pack,
    packed_tokens,
    rows_of,
    understood_by,
    unpack,
    worth_sharing,
)

#: Two answers to [5, 6, 7], one to [8, 9, 2], in turns.
ROWS = [[5, 6, 7, 10, 11], [8, 9, 2, 12], [5, 6, 7, 13]]
LABELS = torch.tensor([[IGNORED, IGNORED, 10, 11, IGNORED], [IGNORED, IGNORED, 12, IGNORED, IGNORED],
                       [IGNORED, IGNORED, 13, IGNORED, IGNORED]])  # fmt: skip


def nested(rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def test_by_hand():
    rows = rows_of(nested(ROWS), LABELS)
    assert rows == [Row(0, 2, 3), Row(1, 2, 2), Row(0, 2, 2)]
    assert packed_tokens(rows) == 2 * 7 and in_order(rows) == [1, 0, 2]
    packed = pack(nested(ROWS), LABELS, rows, padding=0)
    assert packed.input_ids.tolist() == [[5, 6, 7, 10, 11, 7, 13], [8, 9, 2, 12, 0, 0, 0]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 3], [0, 1, 2, 3, 0, 0, 0]]
    i = IGNORED
    assert packed.labels.tolist() == [[i, i, 10, 11, i, 13, i], [i, i, 12, i, i, i, i]]
    assert packed.places.tolist() == [[14, 14, 2, 3, 4], [14, 14, 9, 10, 14], [14, 14, 5, 6, 14]]
    sees = packed.attention_mask[0, 0].int().tolist()
    assert sees[4] == [1, 1, 1, 1, 1, 0, 0]  # the first answer's end: the prompt and itself
    assert sees[6] == [1, 1, 0, 0, 0, 1, 1]  # the second's: not the first
    assert packed.attention_mask.any(-1).all()  # padding sees something, or softmax gives no number
    values = torch.arange(14.0).view(2, 7)
    assert unpack(values, packed.places).tolist() == [[0, 0, 2, 3, 4], [0, 0, 9, 10, 0], [0, 0, 5, 6, 0]]


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(3, 5), min_size=1, max_size=3), st.lists(st.integers(3, 30), max_size=4)
        ),
        min_size=1,
        max_size=9,
    )
)
def test_every_token_of_an_answer_has_its_place_and_its_label(drawn):
    """Prompts of few tokens, so that some are alike, some begin others; answers of no token, too."""
    ids = [prompt + answer for prompt, answer in drawn]
    labels = torch.full((len(ids), max(map(len, ids))), IGNORED)
    for i, (prompt, answer) in enumerate(drawn):
        labels[i, len(prompt) - 1 : len(prompt) - 1 + len(answer)] = torch.tensor(answer)
    rows = rows_of(nested(ids), labels)
    packed = pack(nested(ids), labels, rows, padding=0)
    assert packed.input_ids.numel() == packed_tokens(rows)
    flat = packed.input_ids.flatten().tolist() + [None]
    for i, (row, (prompt, answer)) in enumerate(zip(ids, drawn, strict=True)):
        head = len(prompt) - 1 if answer else 0
        assert rows[i].head == head
        assert [flat[p] for p in packed.places[i].tolist()[: len(row)]] == [None] * head + row[head:]
    again = torch.where(
        packed.places < packed.labels.numel(), unpack(packed.labels.float(), packed.places).long(), IGNORED
    )
    assert torch.equal(again, labels)
    order = in_order(rows)
    groups = [rows[i].group for i in order]
    assert sorted(order) == list(range(len(rows)))
    assert all(groups.index(g) + groups.count(g) > i for i, g in enumerate(groups))  # each in one piece


def test_a_model_gives_the_same_log_probabilities_and_gradients():
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=2)
    sizes |= dict(num_attention_heads=2, num_key_value_heads=1)
    model = LlamaForCausalLM(LlamaConfig(**sizes, attn_implementation="sdpa")).double()
    packed = pack(nested(ROWS), LABELS, rows_of(nested(ROWS), LABELS), padding=0)

    def log_probs(labels, **inputs):
        logits = torch.log_softmax(model(**inputs).logits, -1)
        return logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0]

    alone = [
        log_probs(labels[None, : len(row)], input_ids=torch.tensor([row]))[0]
        for row, labels in zip(ROWS, LABELS, strict=True)
    ]
    together = unpack(
        log_probs(
            packed.labels, input_ids=packed.input_ids, position_ids=packed.position_ids,
            attention_mask=packed.attention_mask,
        ),
        packed.places,
    )  # fmt: skip
    counted = LABELS != IGNORED
    padded = torch.zeros(LABELS.shape, dtype=torch.double)
    for i, row in enumerate(alone):
        padded[i, : len(row)] = row
    assert_close(together[counted], padded[counted])
    weights = torch.randn(LABELS.shape).double() * counted
    one, other = (
        torch.autograd.grad((values * weights).sum(), list(model.parameters()))
        for values in (together, padded)
    )
    for ours, plain in zip(one, other, strict=True):
        assert_close(ours, plain)


@pytest.mark.parametrize(
    ("rows", "worth"),
    [
        ([Row(0, 5, 2), Row(0, 5, 3)], True),
        ([Row(0, 5, 2), Row(1, 5, 3)], False),  # no two of a group
        ([Row(0, 2, 5), Row(0, 2, 3)], False),  # answers are most of it
    ],
)
def test_what_is_worth_it(rows, worth):
    assert worth_sharing(rows) is worth


def test_which_models_see_by_a_mask():
    def config(kind, **more):
        found = kind(**more)
        found._attn_implementation = more.get("attn", "sdpa")
        return found

    assert understood_by(config(Qwen3Config)) and understood_by(config(LlamaConfig))
    assert not understood_by(config(LlamaConfig, attn="eager"))
    assert not understood_by(config(MistralConfig, sliding_window=8))
    sliding = config(Qwen3Config, use_sliding_window=True, sliding_window=8, max_window_layers=0)
    assert not understood_by(sliding)
