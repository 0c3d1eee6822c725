"""The output rule (Eq. 8): every reason by hand, hostile text, and the two properties that matter most."""

from __future__ import annotations

import json
import math
import time
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rewards.labels import LABELS
from rewards.parse import REASONS, parse_output

MELD = LABELS["meld"]
GOOD = "{'last_emotions': {'joy': 1.0}, 'my_emotions': {'anger': 0.5}, 'my_output': 'Well done!'}"


def after_think(text: str) -> str:
    return f"<think>She smiles.</think>\n{text}"


def answer(last: str = "{'joy': 1.0}", mine: str = "{'anger': 0.5}", reply: str = "'Well done!'") -> str:
    return after_think(f"{{'last_emotions': {last}, 'my_emotions': {mine}, 'my_output': {reply}}}")


def reason(text: str) -> str | None:
    return parse_output(text, MELD).reason


EXAMPLES = {
    "no_think": [
        "",
        GOOD,
        f"<think>never closed {GOOD}",
        f"only closed</think>{GOOD}",
        f"< think>a</think>{GOOD}",
    ],
    "many_think": [
        f"<think>a</think><think>b</think>{GOOD}",
        f"<think>a<think>b</think></think>{GOOD}",
        f"<think>a</think></think>{GOOD}",
        f"</think>a<think>{GOOD}",
        answer(reply="'I <think> so'"),
        answer(reply="'so </think>'"),
        answer(reply="'<think>a</think>'"),
    ],
    "no_dict": [
        after_think(""),
        after_think("I am happy for you."),
        after_think("[1, 2]"),
        after_think("{'joy', 'anger'}"),
        after_think(GOOD[:-1]),
        after_think("dict(last_emotions=1)}"),
        f"{GOOD}<think>the dictionary stands before the thought</think>",
        after_think(f"{{**{GOOD}}}"),
        answer(reply="f'{1}'"),
        answer(reply="'a' + 'b'"),
        answer(reply="reply"),
        answer(last="{'joy': 1/2}"),
        answer(last="{'joy': nan}"),
        answer(last="{label: 1 for label in ['joy']}"),
    ],
    "trailing_text": [
        after_think(GOOD + "."),
        after_think(GOOD + "\nI hope that helps."),
        after_think(f"```python\n{GOOD}\n```"),
        after_think(f"({GOOD})"),
        after_think(f"[{GOOD}]"),
        after_think(GOOD + ","),
    ],
    "bad_key": [
        after_think("{}"),
        after_think("{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 1.0}}"),
        after_think(GOOD[:-1] + ", 'note': ''}"),
        after_think(GOOD[:-1] + ", 'my_output': 'again'}"),
        after_think(GOOD.replace("my_output", "My_output")),
        after_think(GOOD.replace("'my_output'", "3")),
        after_think(GOOD.replace("'my_output'", "[1]")),
        after_think(
            '{"last_emotions": {"joy": 1}, "last_emotions": {"joy": 1}, "my_emotions": {"joy": 1}, '
            '"my_output": "x"}'
        ),
    ],
    "bad_map": [
        answer(last="'joy'"),
        answer(last="None"),
        answer(last="['joy']"),
        answer(last="{'joy'}"),
        answer(mine="1.0"),
        answer(mine="[('joy', 1.0)]"),
    ],
    "no_emotion": [answer(last="{}"), answer(mine="{}")],
    "too_many": [
        answer(last="{'joy': 0.1, 'fear': 0.1, 'anger': 0.1, 'disgust': 0.1}"),
        answer(mine="{'joy': 0.1, 'joy': 0.1, 'Joy': 0.1, 'disgust': 0.1}"),
    ],
    "bad_label": [
        answer(last="{'happy': 1.0}"),
        answer(last="{'': 1.0}"),
        answer(last="{' joy': 1.0}"),
        answer(mine="{1: 1.0}"),
        answer(mine="{None: 1.0}"),
        answer(mine="{('joy',): 1.0}"),
        answer(mine="{b'joy': 1.0}"),
    ],
    "duplicate_label": [
        answer(last="{'joy': 0.5, 'joy': 0.5}"),
        answer(last="{'joy': 0.5, 'JOY': 0.5}"),
        answer(mine="{'joy': 0.2, 'fear': 0.2, 'Joy': 0.2}"),
        after_think(
            '{"last_emotions": {"joy": 1}, "my_emotions": {"fear": 0.5, "fear": 0.5}, "my_output": "x"}'
        ),
    ],
    "bad_weight": [
        *(
            answer(last=f"{{'joy': {weight}}}")
            for weight in ("0", "0.0", "-0.0", "-1", "-0.5", "1.0000001", "2")
        ),
        *(answer(mine=f"{{'joy': {weight}}}") for weight in ("True", "False", "None", "'1.0'", "[1]", "1j")),
        answer(last="{'joy': 1e999}"),
        answer(last="{'joy': -1e999}"),
        answer(last="{'joy': 1e-999}"),
        answer(last="{'joy': " + "9" * 4000 + "}"),
        *(
            after_think(
                f'{{"last_emotions": {{"joy": {weight}}}, "my_emotions": {{"joy": 1}}, "my_output": "x"}}'
            )
            for weight in ("NaN", "Infinity", "-Infinity", "1e999", "true", "null", '"1"', "0", "-1", "{}")
        ),
    ],
    "empty_reply": [
        answer(reply="''"),
        answer(reply="' \\n\\t\\u00a0'"),
        answer(reply="None"),
        answer(reply="1"),
        answer(reply="['hello']"),
        answer(reply="b'hello'"),
    ],
    "long_reply": [answer(reply=repr("x" * 2001))],
}


def test_every_reason_has_an_example():
    assert set(EXAMPLES) == set(REASONS)


@pytest.mark.parametrize(("wanted", "text"), [(r, t) for r, texts in EXAMPLES.items() for t in texts])
def test_reasons(wanted, text):
    output = parse_output(text, MELD)
    assert output.reason == wanted
    assert not output.valid
    assert (output.last_emotions, output.my_emotions, output.my_output) == ({}, {}, "")


@pytest.mark.parametrize(
    "text",
    [
        after_think(GOOD),
        after_think(
            json.dumps(
                {"my_output": "Well done!", "my_emotions": {"anger": 0.5}, "last_emotions": {"joy": 1.0}},
                indent=2,
            )
        ),
        answer(last="{'JOY': 1}", mine="{'Anger': +0.5}"),
        "Before. " + after_think(f"Here it is:\n```python\n{GOOD}  \n\n"),
        after_think("A set {1} and a pair {x} first. " + GOOD),
        "<think></think>" + GOOD,
        "<think>{'last_emotions': {}}\n{</think>" + GOOD,
        after_think(GOOD.replace("'Well done!'", "'Well ' 'done!'")),
        after_think(GOOD.replace("{'joy': 1.0}", "{'joy': 1.0,}")),
        after_think(GOOD.replace("my_output': ", "my_output':  # the reply\n")),
    ],
)
def test_valid_forms(text):
    output = parse_output(text, MELD)
    assert output.reason is None and output.valid
    assert output.last_emotions == {"joy": 1.0}
    assert output.my_emotions == {"anger": 0.5}
    assert output.my_output == "Well done!"


def test_weights_are_given_back_as_they_were_and_labels_in_the_corpus_spelling():
    text = answer(last="{'sCARED': 0.25, 'powerful': 1, 'MAD': 1e-300}", mine="{'Neutral': 0.5}")
    output = parse_output(text, LABELS["emorynlp"])
    assert output.last_emotions == {"Scared": 0.25, "Powerful": 1.0, "Mad": 1e-300}
    assert all(type(weight) is float for weight in output.last_emotions.values())
    assert list(output.last_emotions) == ["Scared", "Powerful", "Mad"]
    assert parse_output(text, MELD).reason == "bad_label"


def test_the_limits_are_inside():
    three = "{'joy': 1, 'fear': 1.0, 'anger': 0.001}"
    assert parse_output(answer(last=three, mine=three, reply=repr("x" * 2000)), MELD).valid


@pytest.mark.parametrize(
    "reply",
    ["It's {fine} }", 'a "quoted" } word', "<b>thinking</b>", "{'last_emotions': {}}", "\\d {", "caf\u00e9"],
)
@pytest.mark.parametrize("dump", [repr, json.dumps])
def test_replies_may_look_like_anything(reply, dump):
    output = parse_output(answer(reply=dump(reply)), MELD)
    assert output.my_output == reply


def test_a_comment_after_the_dictionary_is_trailing_text():
    # A comment is no part of the tree, so `ast.parse` alone does not see what follows.
    assert reason(after_think(GOOD + " # I hope that helps :-}")) == "trailing_text"


def test_an_odd_escape_in_a_reply_is_no_error_even_where_warnings_are():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(answer(reply=r"'\d'")) is None


@pytest.mark.parametrize("reply", [r'"well \ud83d"', r"'well \ud83d'", r"'\ud83d\ude00'", "'well \ud83d'"])
def test_a_valid_reply_can_be_stored(reply):
    # Half of an emoji's escape, or JSON's two halves in a Python literal, as a model may write them: no file
    # format takes a surrogate, and one such reply in a step would end the run. Invalid or mended, but
    # what is called valid must be text that Parquet and JSON files in UTF-8 can hold.
    assert parse_output(answer(reply=reply), MELD).my_output.encode("utf-8") is not None


@pytest.mark.parametrize(
    "payload",
    [
        "__import__('os').system('touch {0}')",
        "open('{0}', 'w').close()",
        "[open('{0}', 'w') for _ in [1]]",
        "(lambda: open('{0}', 'w'))()",
        "f\"{{open('{0}', 'w')}}\"",
        "(x := open('{0}', 'w'))",
        "exec(\"open('{0}', 'w')\")",
    ],
)
def test_nothing_is_ever_executed(tmp_path, payload):
    target = tmp_path / "executed"
    code = payload.format(target)
    texts = [
        after_think(code),
        after_think("{" + code + "}"),
        after_think("{" + code + ": 1}"),
        answer(reply=code),
        answer(last=code),
        answer(last="{'joy': " + code + "}"),
        answer(mine="{" + code + ": 1.0}"),
        after_think(GOOD[:-1] + f", {code}: 1}}"),
        f"<think>{code}</think>{code}{GOOD}",
    ]
    for text in texts:
        parse_output(text, MELD)
    assert not target.exists()
    assert reason(answer(reply=code)) == "no_dict"
    # The same text, evaluated, would have left the file: the test can fail.
    eval(code)
    assert target.exists()


HOSTILE = {
    "braces": "{" * 200_000 + "}" * 200_000,
    "open braces": "{" * 300_000 + "}",
    "many ends": GOOD + " " + "}" * 100_000,
    "brackets": "{'a': " + "[" * 100_000 + "]" * 100_000 + "}",
    "json nesting": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "minus": "{'a': " + "-" * 100_000 + "1}",
    "short minus": "{'a': " + "-" * 900 + "1}",
    "sum": "{'a': " + "1+" * 20_000 + "1}",
    "calls": "{'a': f" + "()" * 20_000 + "}",
    "attributes": "{'a': a" + ".b" * 50_000 + "}",
    "lambdas": "{'a': " + "lambda:" * 20_000 + "1}",
    "digits": "{'a': " + "9" * 100_000 + "}",
    "null bytes": GOOD.replace("Well", "\0Well"),
    "surrogates": GOOD.replace("Well", "\ud800"),
    "open quotes": "{'" * 50_000 + "}",
    "backslashes": "{'a': " + "\\" * 50_000 + "}",
    "unicode name": "{'a': '\\N{" + "x" * 10_000 + "}'}",
    "huge reply": GOOD.replace("Well", "x" * 2_000_000),
    "tags": "<think>" * 50_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused_in_time(text):
    started = time.perf_counter()
    output = parse_output(after_think(text), MELD)
    assert output.reason in REASONS
    assert time.perf_counter() - started < 10  # a bound for quadratic cost, not a benchmark


# ---- properties ----

weights = st.floats(0, 1, exclude_min=True) | st.just(1)
replies = st.text(min_size=1, max_size=60).filter(lambda s: s.strip() and "think>" not in s)


@st.composite
def fields(draw):
    corpus = draw(st.sampled_from(sorted(LABELS)))
    emotions = st.dictionaries(st.sampled_from(LABELS[corpus]), weights, min_size=1, max_size=3)
    return corpus, draw(emotions), draw(emotions), draw(replies)


@given(
    fields(),
    st.sampled_from([repr, json.dumps, lambda v: json.dumps(v, ensure_ascii=False, indent=1)]),
    st.sampled_from([str.lower, str.upper, str.title, str]),
    st.sampled_from(["", "\n", " The dictionary: "]),
    st.sampled_from(["", "\n \n"]),
)
def test_a_valid_output_round_trips(given_fields, dump, case, prose, blank):
    corpus, last, mine, reply = given_fields
    value = {
        "last_emotions": {case(label): weight for label, weight in last.items()},
        "my_emotions": {case(label): weight for label, weight in mine.items()},
        "my_output": reply,
    }
    output = parse_output(f"<think>hm</think>{prose}{dump(value)}{blank}", LABELS[corpus])
    assert output.reason is None
    assert (output.last_emotions, output.my_emotions, output.my_output) == (last, mine, reply)


def check_sound(output, labels) -> None:
    if not output.valid:
        assert output.reason in REASONS
        assert (output.last_emotions, output.my_emotions, output.my_output) == ({}, {}, "")
        return
    for emotions in (output.last_emotions, output.my_emotions):
        assert 1 <= len(emotions) <= 3
        assert set(emotions) <= set(labels)
        assert all(type(w) is float and math.isfinite(w) and 0 < w <= 1 for w in emotions.values())
    assert output.my_output.strip() and len(output.my_output) <= 2000


any_text = st.text(st.characters(exclude_categories=()), max_size=80)  # surrogates, too
pieces = st.sampled_from(
    [
        *"{}[]()'\":,.#\\\n\0 -0123456789",
        "<think>",
        "</think>",
        "joy",
        "True",
        "nan",
        "1e999",
        "'joy': 1",
        "**",
    ]
)


@given(any_text | st.lists(pieces, max_size=40).map("".join))
@example("")
def test_never_raises_on_any_text(text):
    for form in (
        text,
        after_think(text),
        after_think("{" + text + "}"),
        answer(reply=text),
        answer(last=text),
    ):
        check_sound(parse_output(form, MELD), MELD)


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 12), st.integers(0, 200), pieces | any_text), max_size=4
    ),
    st.booleans(),
)
def test_never_raises_on_mutated_outputs(edits, as_json):
    text = after_think(GOOD.replace("'", '"') if as_json else GOOD)
    for place, length, source, inserted in edits:
        copied = text[source : source + length]
        text = text[:place] + inserted + copied + text[place + length :]
    check_sound(parse_output(text, MELD), MELD)


@given(st.integers(0, 200), st.integers(1, 200))
def test_a_cut_output_is_never_valid(start, length):
    # A response that hits the length limit must not pass for a whole one.
    text = after_think(GOOD)
    end = min(start + length, len(text) - 1)
    assert not parse_output(text[:end], MELD).valid
