"""The output rule (Eq. 8): every reason by hand, and all that keeps it."""

from __future__ import annotations

import json
import unicodedata
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.labels import LABELS
from rewards.parse import REASONS, parse_output, spoken
from tests.unit.rewards.answers import EXAMPLES, GOOD, JSON, MELD, after_think, answer, reason


def test_every_reason_has_an_example():
    assert tuple(EXAMPLES) == REASONS


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
        answer(last="{'JOY': 1}", mine="{'Anger': .5}"),
        answer(last="{'joy': 1.}", mine="{'anger': 5e-1}"),
        answer(last="{'joy': 10.0e-1}", mine="{'anger': 0.05E+1}"),
        answer(mine="{'anger': 0.5" + "0" * 500 + "}"),
        " \n\u00a0\u3000" + after_think(f"\t\u2003{GOOD}  \n\n\u00a0"),
        "<think></think>" + GOOD,
        "<think>{'last_emotions': {}}\n{</think>" + GOOD,
        answer(reply=r"'\x57ell \N{latin small letter d}\u006f\156\U00000065!'"),
        answer(last=r"{'\x6aoy': 1}"),
        after_think(JSON.replace("joy", r"\u006aoy").replace("my_output", r"my\u005foutput")),
        after_think(GOOD.replace("{'joy': 1.0}", "{'joy': 1.0,}")),
        after_think(JSON[:-1] + ",}"),
        after_think(GOOD.replace("'}", "' , \n}").replace("{'", "{\f\r\n'").replace(":", "\t:")),
    ],
)
def test_valid_forms(text):
    output = parse_output(text, MELD)
    assert output.reason is None and output.valid
    assert output.last_emotions == {"joy": 1.0}
    assert output.my_emotions == {"anger": 0.5}
    assert output.my_output == "Well done!"


def test_weights_are_given_back_as_they_were_and_labels_in_the_corpus_spelling():
    text = answer(last="{'sCARED': 0.25, 'powerful': 1, 'MAD': 1e-6}", mine="{'Neutral': 0.5}")
    output = parse_output(text, LABELS["emorynlp"])
    assert output.last_emotions == {"Scared": 0.25, "Powerful": 1.0, "Mad": 1e-6}
    assert all(type(weight) is float for weight in output.last_emotions.values())
    assert list(output.last_emotions) == ["Scared", "Powerful", "Mad"]
    assert parse_output(text, MELD).reason == "bad_label"


def test_the_limits_are_inside():
    three = "{'joy': 1, 'fear': 1.0, 'anger': 0.001}"
    assert parse_output(answer(last=three, mine=three, reply=repr("x" * 2000)), MELD).valid


@pytest.mark.parametrize(
    ("escaped", "char"), [(r"\\", "\\"), (r"\u0041", "A"), (r"\ud83d\ude00", "\U0001f600")]
)
@pytest.mark.parametrize("quote", "'\"")
def test_a_reply_of_the_longest_length_may_be_all_escapes(escaped, char, quote):
    # Two halves of a surrogate pair are one character in what is stored, in both languages.
    text = after_think(GOOD.replace("'", quote).replace("Well done!", escaped * 2000))
    assert parse_output(text, MELD).my_output == char * 2000
    assert reason(text.replace(escaped, escaped * 2, 1)) == "long_reply"


@pytest.mark.parametrize(
    "reply",
    ["It's {fine} }", 'a "quoted" } word', "<b>thinking</b>", "{'last_emotions': {}}", "\\d {", "caf\u00e9"],
)
@pytest.mark.parametrize("dump", [repr, json.dumps])
def test_replies_may_look_like_anything(reply, dump):
    output = parse_output(answer(reply=dump(reply)), MELD)
    assert output.my_output == reply


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


def test_a_feeling_outside_of_the_list_is_kept_as_given():
    # The winning answer of the paper's Table 8 feels curiosity.
    output = parse_output(answer(mine="{'JOY': 0.6, 'Curiosity': 0.5}"), MELD)
    assert output.valid and output.my_emotions == {"joy": 0.6, "Curiosity": 0.5}
    for label in ("curiosity", "mixed feelings", "\u597d\u5947", "d\u00e9go\u00fbt", "x" * 64):
        output = parse_output(answer(mine=f"{{{label!r}: 0.5}}"), MELD)
        assert output.valid and output.my_emotions == {label: 0.5}


@pytest.mark.parametrize("label", ["\u212aind", "\uff4bind", "\ufb01ne", "b\u0131g"])
def test_only_ascii_letters_change_their_case(label):
    listed = ("kind", "fine", "big")
    assert parse_output(answer(last=f"{{{label!r}: 1}}", mine="{'kind': 1}"), listed).reason == "bad_label"
    assert parse_output(answer(last="{'KIND': 1, 'Fine': 1}", mine="{'bIG': 1}"), listed).valid
    # A list that has such a letter itself is met with that letter only.
    assert parse_output(answer(last="{'\u00fcBEL': 1}", mine="{'\u00fcbel': 1}"), ("\u00fcbel",)).valid
    assert not parse_output(answer(last="{'\u00dcBEL': 1}", mine="{'\u00fcbel': 1}"), ("\u00fcbel",)).valid


FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Well done!", "Well done!"),
        ("1\n2\r\n3\r4\u20285\x856\v7\t8\f9\x1c0", "1 2 3 4 5 6 7 8 9 0"),
        (" \n a  b \n", "a b"),
        ("a\x00b\x1b[31mc\x7f\x9fd", "ab[31mcd"),
        ("a\u202eb\u202c\u2066c\u2069\u202ad", "abcd"),
        ("\ufeffa\ufeffb", "ab"),
        (f"{FAMILY} \u0645\u06cc\u200c\u062e", f"{FAMILY} \u0645\u06cc\u200c\u062e"),
        ("half \ud83d, two \ud83d\ude00", "half \ufffd, two \U0001f600"),
        ("", ""),
    ],
)
def test_spoken(text, wanted):
    assert spoken(text) == wanted


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_what_is_spoken_is_one_line_that_can_be_stored(text):
    line = spoken(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in line)
    assert len(line.splitlines()) <= 1 and not set("\u202a\u202b\u202c\u202d\u202e\ufeff") & set(line)
    assert spoken(line) == line and len(line) <= len(text)
