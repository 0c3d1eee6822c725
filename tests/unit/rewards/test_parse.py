"""The output rule (Eq. 8): every reason by hand, hostile text, and the two properties that matter most."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import unicodedata
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rewards.labels import LABELS
from rewards.parse import REASONS, parse_output, spoken

MELD = LABELS["meld"]
GOOD = "{'last_emotions': {'joy': 1.0}, 'my_emotions': {'anger': 0.5}, 'my_output': 'Well done!'}"
JSON = GOOD.replace("'", '"')


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
        f"<THINK>a</THINK>{GOOD}",
    ],
    "many_think": [
        f"<think>a</think><think>b</think>{GOOD}",
        f"<think>a<think>b</think></think>{GOOD}",
        f"<think>a</think></think>{GOOD}",
        f"</think>a<think>{GOOD}",
        f"{GOOD}</think><think>a</think>{GOOD}",
        answer(reply="'I <think> so'"),
        answer(reply="'so </think>'"),
        answer(reply="'<think>a</think>'"),
        # A tag that is only there once escapes are resolved, or once is left out what a dialogue leaves out.
        answer(reply=r"'Hi \x3cthink\x3e there'"),
        answer(reply=r"'Hi \u003c/think\U0000003e there'"),
        answer(reply=r"'Hi \N{LESS-THAN SIGN}think\N{GREATER-THAN SIGN} there'"),
        answer(reply=r"'Hi \74think\076 there'"),
        answer(reply=r"'Hi <\x74hink> there'"),
        after_think(JSON.replace("Well", r"\u003cthink\u003e")),
        after_think(JSON.replace("Well", r"<\/think>")),
        answer(reply=r"'<thi\x00nk>'"),
        answer(reply="'<thi\u200bnk>'"),
        answer(reply="'<\ufeff/think>'"),
        answer(reply="'<think\u202e>'"),
    ],
    "leading_text": [
        "Before. " + after_think(GOOD),
        f"Sure: {{'a': 1}} <think>a</think>{GOOD}",
        f"{GOOD}<think>the dictionary stands before the thought</think>",
        f"{GOOD}<think>a</think>{GOOD}",
        *(odd + after_think(GOOD) for odd in ("\u200b", "\ufeff", "\0", "<|im_start|>", "```\n")),
    ],
    "text_between": [
        after_think(before + GOOD + behind)
        for before, behind in [
            ("Here it is:\n", ""),
            ("```python\n", "\n```"),
            ("A set {1} and a pair {x} first. ", ""),
            ("(", ")"),
            ("[", "]"),
            ("# a comment\n", ""),
            ("\u200b", ""),
            ("\\\n", ""),
            ("answer = ", ""),
            ("-", ""),
        ]
    ],
    "no_dict": [
        after_think(""),
        after_think("I am happy for you."),
        after_think("[1, 2]"),
        after_think("{'joy', 'anger'}"),
        after_think(GOOD[:-1]),
        after_think("dict(last_emotions=1)}"),
        after_think(f"{{**{GOOD}}}"),
        answer(reply="f'{1}'"),
        answer(reply="'a' + 'b'"),
        answer(reply="reply"),
        answer(last="{'joy': 1/2}"),
        answer(last="{'joy': nan}"),
        answer(last="{label: 1 for label in ['joy']}"),
        # Plain literals only, although Python reads most of these.
        answer(reply="'Well ' 'done!'"),
        answer(reply="'''Well done!'''"),
        answer(reply='""" "" """'),
        *(answer(reply=f"{prefix}'Well done!'") for prefix in ("r", "u", "f", "R", "fr")),
        answer(last="{'jo' 'y': 1}"),
        answer(last="{r'joy': 1}"),
        answer(last="{'joy': (1 + 0)}"),
        answer(last="{'joy': 1 # sure\n}"),
        answer(last="{ # who knows\n'joy': 1}"),
        after_think(GOOD.replace("my_output': ", "my_output':  # the reply\n")),
        after_think(GOOD.replace("my_output': ", "my_output': \\\n")),
        answer(reply="'Well\\\ndone!'"),
        answer(reply="'Well\ndone!'"),
        answer(reply="'Well\0done!'"),
        answer(reply=r"'Well \x4 done'"),
        answer(reply=r"'Well \N{NO SUCH SIGN}'"),
        answer(reply=r"'Well \N{KEYCAP DIGIT ONE}'"),  # the name of two characters
        answer(reply=r"'Well \N{\ud83d}'"),
        answer(reply=r"'Well \U00110000'"),
        answer(reply=r'"a\u12 b"'),
        answer(reply="'Well \ud83d'"),
        answer(last="{'joy': 1,,}"),
        answer(last="{,}"),
        after_think(JSON[:-1] + ",,}"),
        after_think(GOOD.replace("'", "`")),
        after_think(GOOD.replace("'", "\u2019")),
    ],
    "trailing_text": [
        after_think(GOOD + behind)
        for behind in (
            *(".", "\nI hope that helps.", ",", "\n```", GOOD, "\u200b", "\0", "<|im_end|>", "}", ";"),
            " # A comment is no part of a syntax tree :-}",
        )
    ],
    "bad_key": [
        after_think("{}"),
        after_think("{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 1.0}}"),
        after_think(GOOD[:-1] + ", 'note': ''}"),
        after_think(GOOD[:-1] + ", 'my_output': 'again'}"),
        after_think(GOOD.replace("my_output", "My_output")),
        after_think(GOOD.replace("'my_output'", "3")),
        after_think(GOOD.replace("'my_output'", "[1]")),
        after_think(GOOD.replace("my_output", "my\u200b_output")),
        after_think(GOOD.replace("my_output", r"my\u200b_output")),
        after_think(GOOD.replace("my_output", "m\uff59_output")),
        after_think(GOOD.replace("last", "la\u017ft")),
        after_think(GOOD.replace("my_output", "my_output ")),
        after_think(GOOD.replace("my_output", r"\x3cthink\x3e")),
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
        answer(last="({'joy': 1})"),
        answer(mine="1.0"),
        answer(mine="[('joy', 1.0)]"),
    ],
    "no_emotion": [answer(last="{}"), answer(mine="{}"), answer(mine="{ \n}")],
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
        answer(last="{'joy': 0.5, 'curiosity': 0.5}"),
        # Look-alikes that one comparison or another takes for the label.
        answer(last="{'\u017fadness': 1.0}"),  # casefold makes an s of the long s
        answer(mine="{'\u017fadness': 1.0}"),
        answer(last="{'di\u017fgu\u017ft': 1.0}"),
        answer(last="{'\uff4a\uff4f\uff59': 1.0}"),  # full width
        answer(mine="{'\uff4a\uff4f\uff59': 1.0}"),
        answer(last="{'jo\u200by': 1.0}"),
        answer(last=r"{'jo\u200by': 1.0}"),
        answer(mine="{'jo\u200by': 1.0}"),
        answer(last="{'\ufeffjoy': 1.0}"),
        answer(last="{'joy\u0301': 1.0}"),
        answer(last="{'j\u043ey': 1.0}"),  # a Cyrillic o
        answer(last=r"{'joy\n': 1.0}"),
        # Labels of one's own that are no plain short text.
        *(
            answer(mine=f"{{'{label}': 1.0}}")
            for label in (
                *("", " curiosity", "x" * 65, "\u3164", "curi\u2800osity", "\u0301", "\u200b", "a\u202eb"),
                *(r"\n" * 5_000, r"a\nb", r"\ud83d", r"\x3cthink\x3e", "<|im_end|>"),
            )
        ),
    ],
    "duplicate_label": [
        answer(last="{'joy': 0.5, 'joy': 0.5}"),
        answer(last="{'joy': 0.5, 'JOY': 0.5}"),
        answer(last=r"{'joy': 0.5, '\x6aoy': 0.5}"),
        answer(mine="{'joy': 0.2, 'fear': 0.2, 'Joy': 0.2}"),
        answer(mine="{'curiosity': 0.5, 'Curiosity': 0.5}"),
        answer(mine="{'curiosity': 0.5, 'curio\u017fity': 0.5}"),
        answer(mine="{'\u212b': 0.5, '\u00e5': 0.5}"),  # the sign of a unit, and the letter
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
        # Too small to say anything; and numbers that Python reads, but that are not plain.
        *(answer(last=f"{{'joy': {weight}}}") for weight in ("9.99e-7", "1e-9", "1e-300", "0.0000009")),
        answer(last="{'joy': 1, 'anger': 1e-9, 'fear': 1e-9}"),
        answer(mine="{'joy': 1, 'anger': 1e-9}"),
        *(
            answer(mine=f"{{'joy': {weight}}}")
            for weight in (
                *(
                    "0x1",
                    "0X1",
                    "0o1",
                    "0b1",
                    "1_0e-1",
                    "0.0_1",
                    "+1",
                    "+0.5",
                    "--0.5",
                    "-+-1",
                    "1.0j",
                    "00.5",
                ),
                *("01", "1e-1j", "0.5+0j", "1e1_0", "(1)", "(1,)", "[0.5]", "{'a': 1}", "b'1'", "1\u0661"),
            )
        ),
        answer(last="{'joy': 1e999}"),
        answer(last="{'joy': -1e999}"),
        answer(last="{'joy': 1e-999}"),
        answer(last="{'joy': " + "9" * 4000 + "}"),
        answer(last="{'joy': " + "9" * 6000 + "}"),  # Python makes no integer of so many digits
        *(
            after_think(
                f'{{"last_emotions": {{"joy": {weight}}}, "my_emotions": {{"joy": 1}}, "my_output": "x"}}'
            )
            for weight in ("NaN", "Infinity", "-Infinity", "1e999", "true", "null", '"1"', "0", "-1", "{}")
        ),
    ],
    "empty_reply": [
        answer(reply="''"),
        answer(reply=r"' \n\t\u00a0'"),
        answer(reply="None"),
        answer(reply="1"),
        answer(reply="['hello']"),
        answer(reply="b'hello'"),
        answer(reply="{'hello': 1}"),
        # Control and format characters, white space of all kinds, marks without a letter, blank letters.
        *(
            answer(reply=f"'{char * 3}'")
            for char in "\u200b\u200d\u2060\ufeff\u00ad\u202e\u061c\U000e0020\u2028\u3000\u2003\u1680\x7f\x85"
            "\u0301\ufe0f\u20dd\u034f\u2800\u3164\u115f\u1160\uffa0\ue000\U0010ffff"
        ),
        answer(reply=r"'\u200b'"),
        answer(reply=r"'\0\x1b\x07'"),
        answer(reply="' \u200b \u2800\t'"),
        answer(reply="'" + "\u200b" * 2001 + "'"),
        after_think(JSON.replace("Well done!", r"\u200b\u2800")),
    ],
    "long_reply": [
        answer(reply=repr("x" * 2001)),
        answer(reply="'x" + r"\n" * 5_000 + "'"),
        answer(reply="'x" + r"\\" * 2_001 + "'"),
        after_think(JSON.replace("Well done!", "x" + r"\ud83d\ude00" * 2000)),
    ],
}


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


# ---- properties ----

BLANK = set("\u115f\u1160\u2800\u3164\uffa0\ufffc\U0001d159")
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


# ---- labels of one's own ----


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


# ---- what goes into a dialogue ----

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


# ---- whatever comes ----


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
