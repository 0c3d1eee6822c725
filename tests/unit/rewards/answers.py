"""Answers that keep the rule and such that break it, by the reason."""

from __future__ import annotations

from rewards.labels import LABELS
from rewards.parse import parse_output

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
        # Marks that nobody sees: selectors of a variation, a joiner of graphemes.
        *(answer(mine=f"{{'jo{mark}y': 1.0}}") for mark in "\ufe0f\ufe00\u034f\u180b\U000e0100"),
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
            "\u0301\ufe0f\u20dd\u034f\u2800\u3164\u115f\u1160\uffa0\ue000\U0010ffff\ufffd"
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
