"""Spans of an answer's three parts, in characters and in the tokens of the tiny model's tokenizer."""

from __future__ import annotations

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluation.spans import character_spans, token_ranges
from recipe.models.tiny import make_tiny
from rewards.labels import LABELS
from rewards.parse import parse_output

MELD = LABELS["meld"]
THINK = '<think>maybe {"my_output": "no"} or not</think>'

ANSWERS = {
    "plain": (
        '{"last_emotions": {"joy": 0.9}, "my_emotions": {"fear": 1}, "my_output": "Well done."}',
        ('{"joy": 0.9}', '{"fear": 1}', "Well done."),
    ),
    "no space, other order": (
        "{'my_output':'It\\'s so','my_emotions':{'fear':1},'last_emotions':{'joy':.5,'anger':.5}}",
        ("{'joy':.5,'anger':.5}", "{'fear':1}", "It\\'s so"),
    ),
    "lines": (
        '\r\n {\t"last_emotions" :\n\n  { "joy" :\r\n 0.9 } ,\r"my_emotions": {"fear":1},\n'
        '"my_output": "  a  "\n}\n ',
        ('{ "joy" :\r\n 0.9 }', '{"fear":1}', "  a  "),
    ),
    "escapes": (
        r'{"last_emotions": {"\u006aoy": 1}, "my_emotions": {"fear": 1}, "my_output": "\"{\ud83d\ude00\\"}',
        (r'{"\u006aoy": 1}', '{"fear": 1}', r"\"{\ud83d\ude00\\"),
    ),
    "not ASCII": (
        '{"last_emotions": {"joy": 1}, "my_output": "Zoë 😀 你好 e\u0301 {x}", "my_emotions": {"fear": 1}}',
        ('{"joy": 1}', '{"fear": 1}', "Zoë 😀 你好 e\u0301 {x}"),
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tokenizer of the tiny model, trained on a few answers."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_tiny([THINK + text for text, _ in ANSWERS.values()], folder, seed=1)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_part_is_found_as_it_was_written(name):
    text, values = ANSWERS[name]
    assert parse_output(THINK + text, MELD).valid  # else the case says nothing
    spans = character_spans(THINK + text)
    found = tuple((THINK + text)[slice(*spans[k])] for k in ("last_emotions", "my_emotions", "my_output"))
    assert found == values


@pytest.mark.parametrize("name", ANSWERS)
def test_tokens_of_a_part_hold_it_and_little_else(name, tiny):
    text, _ = ANSWERS[name]
    answer = THINK + text
    encoded = tiny(answer, return_offsets_mapping=True, add_special_tokens=False)
    spans = character_spans(answer)
    ranges = token_ranges(spans, encoded["offset_mapping"])
    ids = encoded["input_ids"]
    for key, (first, last) in ranges.items():
        start, end = spans[key]
        # Decoding knows nothing of offsets: what the tokens say must hold the part, and without the
        # outer two no longer more than the part.
        assert answer[start:end] in tiny.decode(ids[first:last])
        assert tiny.decode(ids[first + 1 : last - 1]) in answer[start:end] or "�" in tiny.decode(
            ids[first + 1 : last - 1]
        )
    order = sorted(ranges.values())
    assert all(before[1] <= after[0] for before, after in zip(order, order[1:], strict=False))


@given(
    reply=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    write=st.sampled_from(["json", "ascii", "python"]),
    spaces=st.lists(st.sampled_from(["", " ", "\n", "\r\n", "\t "]), min_size=4, max_size=4),
)
def test_any_reply_is_found(reply, write, spaces):
    dump = {
        "json": lambda x: json.dumps(x, ensure_ascii=False),
        "ascii": json.dumps,
        "python": repr,
    }[write]
    a, b, c, d = spaces
    text = f"{{{a}{dump('last_emotions')}:{b}{{{dump('joy')}: 1}},{dump('my_output')}:{c}{dump(reply)}{d},"
    text += f"{dump('my_emotions')}: {{{dump('fear')}: 1}}}}"
    answer = f"<think>{reply.replace('<', '')}</think>{text}"
    if not parse_output(answer, MELD).valid:  # blank, for instance
        return
    start, end = character_spans(answer)["my_output"]
    read = ast.literal_eval if write == "python" else json.loads
    assert read(answer[start - 1 : end + 1]) == reply


def test_a_special_token_belongs_to_no_part():
    spans = {"my_output": (4, 8)}
    assert token_ranges(spans, [(0, 0), (0, 3), (3, 5), (5, 7), (7, 9), (9, 12), (0, 0)]) == {
        "my_output": (2, 5)
    }
    assert token_ranges(spans, [(0, 4), (4, 5), (4, 5), (5, 8), (8, 9)]) == {"my_output": (1, 4)}
    with pytest.raises(ValueError, match="no token lies in my_output at 4:8"):
        token_ranges(spans, [(0, 4), (8, 9)])


@pytest.mark.parametrize(
    "text", ["", "{}", "<think>{'a': 1}</think>", THINK + "{'my_output': 'a'}", THINK + "x {'a'"]
)
def test_an_answer_that_breaks_the_rule_has_no_spans(text):
    with pytest.raises(ValueError, match="has no spans"):
        character_spans(text)
