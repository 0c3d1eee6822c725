"""Whatever text the rule is given, nothing of it runs and nothing raises."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rewards.labels import LABELS
from rewards.parse import REASONS, parse_output, spoken
from tests.unit.rewards.answers import EXAMPLES, GOOD, MELD, after_think, answer, reason


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
def test_hostile_text_is_refused(text):
    # Where cost grew with the square of the length these would take hours; bench/parse_speed.py has times.
    assert parse_output(after_think(text), MELD).reason in REASONS
    assert parse_output(text, MELD).reason in REASONS


BLANK = set("\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd\U0001d159")


weights = st.floats(1e-6, 1) | st.just(1)


replies = st.text(min_size=1, max_size=60).filter(
    lambda s: any(unicodedata.category(c)[0] in "LNPS" and c not in BLANK for c in s) and "think>" not in s
)


@st.composite
def fields(draw):
    corpus = draw(st.sampled_from(sorted(LABELS)))
    emotions = st.dictionaries(st.sampled_from(LABELS[corpus]), weights, min_size=1, max_size=3)
    return corpus, draw(emotions), draw(emotions), draw(replies)


@given(
    fields(),
    st.sampled_from([repr, json.dumps, lambda v: json.dumps(v, ensure_ascii=False, indent=1)]),
    st.sampled_from([str.lower, str.upper, str.title, str]),
    st.sampled_from(["", "\n", " \u3000\t"]),
    st.sampled_from(["", "\n \n"]),
)
def test_a_valid_output_round_trips(given_fields, dump, case, before, blank):
    corpus, last, mine, reply = given_fields
    value = {
        "last_emotions": {case(label): weight for label, weight in last.items()},
        "my_emotions": {case(label): weight for label, weight in mine.items()},
        "my_output": reply,
    }
    output = parse_output(f"{before}<think>hm</think>{before}{dump(value)}{blank}", LABELS[corpus])
    assert output.reason is None
    assert (output.last_emotions, output.my_emotions, output.my_output) == (last, mine, reply)


def check_sound(output, labels) -> None:
    if not output.valid:
        assert output.reason in REASONS
        assert (output.last_emotions, output.my_emotions, output.my_output) == ({}, {}, "")
        return
    for emotions in (output.last_emotions, output.my_emotions):
        assert 1 <= len(emotions) <= 3
        assert all(type(w) is float and math.isfinite(w) and 1e-6 <= w <= 1 for w in emotions.values())
        assert all(label.isprintable() and len(label) <= 64 for label in emotions)
    assert set(output.last_emotions) <= set(labels)
    assert output.my_output.strip() and len(output.my_output) <= 2000
    assert spoken(output.my_output) and not any(
        t in spoken(output.my_output) for t in ("<think>", "</think>")
    )


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


class Odd(str):
    """Text whose methods cannot be trusted."""

    def count(self, *_):
        raise RuntimeError

    find = index = strip = startswith = isascii = __contains__ = __getitem__ = __len__ = __str__ = count


def test_a_subclass_of_str_is_read_as_its_text():
    assert parse_output(Odd(after_think(GOOD)), MELD).valid
    assert parse_output(Odd("{"), MELD).reason == "no_think"


def test_ten_megabytes_are_read_like_any_other_text():
    fill = "so " * 3_500_000
    assert parse_output(f"<think>{fill}</think>{GOOD}", MELD).valid
    assert reason(after_think(GOOD) + fill) == "trailing_text"
    assert reason(answer(reply=repr(fill))) == "long_reply"
    assert reason(answer(last="{'joy': 0." + "3" * 10_000_000 + "}")) is None
    assert reason(fill) == "no_think"


def test_reading_compiles_opens_and_imports_nothing(subprocess_env):
    # Python reports each of these to an audit hook; it would report `ast.parse`, too.
    texts = [text for texts in EXAMPLES.values() for text in texts] + [after_think(GOOD)]
    code = (
        "import sys, json\n"
        "from rewards.parse import parse_output\n"
        "texts, seen = json.loads(sys.stdin.read()), []\n"
        "sys.addaudithook(lambda event, _: seen.append(event))\n"
        "for text in texts: parse_output(text, ['joy', 'anger'])\n"
        "found = list(seen)\n"
        "compile('1', '', 'eval')\n"
        "print(json.dumps([found, seen[len(found):]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(texts),
        env=subprocess_env(),
        capture_output=True,
        text=True,
        check=True,
    )
    found, control = json.loads(done.stdout)
    assert found == [] and "compile" in control


@given(st.integers(0, 200), st.integers(1, 200))
def test_a_cut_output_is_never_valid(start, length):
    # A response that hits the length limit must not pass for a whole one.
    text = after_think(GOOD)
    end = min(start + length, len(text) - 1)
    assert not parse_output(text[:end], MELD).valid
