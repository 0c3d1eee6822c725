"""Fuzzed answers against a slow second implementation of the rule and of the reward (Eq. 8-10).

    RULE_FUZZ=1000000 python -m pytest tests/unit/rewards/test_rule_fuzz.py

The second one shares no code with `rewards`: Python's and JSON's own readers read the dictionary, Python's
tokenizer says whether it is plain, and the rest is the rule of METHOD written out. Beyond the unit tests'
few thousand it also watches that nothing is compiled, opened or imported.
"""

from __future__ import annotations

import ast
import io
import json
import os
import random
import re
import sys
import tokenize
import unicodedata
import warnings
from fractions import Fraction

import pytest

from rewards.iou import compute_score
from rewards.labels import LABELS
from rewards.parse import REASONS, parse_output, spoken

COUNT = int(os.environ.get("RULE_FUZZ", "4000"))
KEYS = ["last_emotions", "my_emotions", "my_output"]
BLANK = set("\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd\U00013441\U00013442\U0001d159")
NUMBER = re.compile(r"((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


# ---- the second implementation ----


class Refused(Exception):
    pass


def need(condition) -> None:
    if not condition:
        raise Refused


def read_json(text: str):
    def plain(number: str) -> float:
        need(not number.startswith("-"))
        return float(number)

    def constant(_):
        raise Refused

    return json.loads(
        text,
        object_pairs_hook=lambda pairs: ("dict", pairs),
        parse_float=plain,
        parse_int=plain,
        parse_constant=constant,
    )


def read_python(text: str):
    need("\\\n" not in text and "\\\r" not in text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text, mode="eval").body
    lines = io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"))
    before = None
    for token in tokenize.generate_tokens(lines.readline):
        if token.type == tokenize.OP:
            need(token.string in "{}:,")
        elif token.type == tokenize.NUMBER:
            need(NUMBER.fullmatch(token.string))
        elif token.type == tokenize.STRING:
            need(token.string[0] in "'\"" and token.string[:3] not in ("'''", '"""'))
            need(before != tokenize.STRING)
        else:
            need(token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER))
        if token.type != tokenize.NL:
            before = token.type

    def value(node):
        if isinstance(node, ast.Dict):
            return "dict", [(value(k), value(v)) for k, v in zip(node.keys, node.values, strict=True)]
        need(isinstance(node, ast.Constant))
        return float(node.value) if type(node.value) is int else node.value

    return value(tree)


def fold(label: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in label)


def skeleton(label: str) -> str:
    unseen = ("VARIATION SELECTOR", "GRAPHEME JOINER", "VOWEL INHERENT")
    normal = unicodedata.normalize("NFKC", label)
    return "".join(c for c in normal if not any(u in unicodedata.name(c, "") for u in unseen)).casefold()


def feelings(value, labels, only_listed: bool) -> dict[str, float]:
    need(isinstance(value, tuple))
    pairs = value[1]
    need(1 <= len(pairs) <= 3)
    found = []
    for label, weight in pairs:
        need(isinstance(label, str) and type(weight) is float and Fraction(1e-6) <= weight <= 1)
        same = [known for known in labels if fold(known) == fold(label)]
        if not same:
            need(not only_listed and 1 <= len(label) <= 64 and label.strip() == label)
            need(all(unicodedata.category(c)[0] in "LMNPS" or c == " " for c in label))
            need(any(unicodedata.category(c)[0] in "LNPS" for c in label))
            need(not BLANK & set(label) and not {"<", ">"} & set(label))
            need(skeleton(label) not in [skeleton(known) for known in labels])
        found.append((same[0] if same else label, weight))
    need(len({skeleton(label) for label, _ in found}) == len(found))
    return dict(found)


def second(text: str, labels):
    """(last, mine, reply) of an answer that keeps the rule, else None."""
    try:
        parts = re.split("(</?think>)", text)
        need(len(parts) == 5 and parts[1] == "<think>" and parts[3] == "</think>" and not parts[0].strip())
        body = parts[4].strip()
        need(body.startswith("{"))
        try:
            value = read_json(body)
        except (ValueError, RecursionError):
            value = read_python(body)
        need(isinstance(value, tuple) and sorted(map(str, (k for k, _ in value[1]))) == KEYS)
        fields = dict(value[1])
        last = feelings(fields["last_emotions"], labels, True)
        mine = feelings(fields["my_emotions"], labels, False)
        reply = fields["my_output"]
        need(isinstance(reply, str))
        reply = reply.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        need(len(reply) <= 2000)
        need(any(unicodedata.category(c)[0] in "LNPS" and c not in BLANK for c in reply))
        bare = "".join(c for c in reply if unicodedata.category(c) not in ("Cc", "Cf"))
        need(not any(tag in form for tag in ("<think>", "</think>") for form in (reply, bare)))
        return last, mine, reply
    except (Refused, ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
        return None


def second_reward(last, gold) -> Fraction:
    """Eq. 8-10 of an answer that keeps the rule, exactly."""
    p, q = ({e: Fraction(w) / sum(map(Fraction, ws.values())) for e, w in ws.items()} for ws in (last, gold))
    smaller = sum(min(p.get(e, 0), q.get(e, 0)) for e in {*p, *q})
    larger = sum(max(p.get(e, 0), q.get(e, 0)) for e in {*p, *q})
    return smaller / larger + Fraction(1, 10)


# ---- answers, most of them nearly right ----

WEIGHTS = [
    *(
        "1",
        "1.0",
        "0.5",
        "0.25",
        ".5",
        "1.",
        "1e-3",
        "5E-1",
        "0.000001",
        "1e-6",
        "1e-7",
        "9.99e-7",
        "0",
        "0.0",
    ),
    *("1.5", "-0.5", "+1", "--0.5", "- 1", "0x1", "0b1", "1_0", "01", "00.5", "1j", "1e999", "True", "None"),
    *(
        "NaN",
        "Infinity",
        "nan",
        "null",
        "'1'",
        "[1]",
        "(1)",
        "{}",
        "1 # a",
        "1/2",
        "0.1e",
        "1\u0661",
        "0" * 90,
    ),
]
OWN = [
    "curiosity",
    "Curiosity",
    "mixed feelings",
    "\u597d\u5947",
    "awe",
    "a" * 64,
    "a" * 65,
    "",
    " awe",
    "<b>",
]
ODD = [
    *("\u017fadness", "\uff4aoy", "jo\u200by", "joy ", "j\u043ey", "joy\u0301", "\u212a", "\u3164", "\ufeff"),
    *(
        r"\x6aoy",
        r"\u006aoy",
        r"jo\u0079",
        r"joy\n",
        r"\N{LATIN SMALL LETTER J}oy",
        r"\152oy",
        "jo' 'y",
        r"\ud83d",
    ),
]
REPLIES = [
    *("Well done!", "It is fine.", "caf\u00e9", "\U0001f600", "a {b} 'c", 'a "b" c', "x" * 2000, "x" * 2001),
    *(
        "",
        " ",
        "\u200b",
        "\u2800",
        "\u3164 ",
        "\u0301",
        "\u00a0",
        "\x00",
        "\t",
        "\n",
        "\ud83d",
        "\ud83d\ude00",
    ),
    *(
        r"\n",
        r"\'",
        r"\"",
        r"\\",
        r"\/",
        r"\d",
        r"\x41",
        r"\x4",
        r"\u0041",
        r"\ud83d\ude00",
        r"\ud83d",
        r"\0",
    ),
    *(r"\x3cthink\x3e", r"<\u0074hink>", r"\N{LESS-THAN SIGN}/think>", r"\74think>", "<thi\u200bnk>", "<b>"),
    *(
        "<think>",
        "</think>",
        "a' 'b",
        "a' + 'b",
        "{'a': 1}",
        "__import__('os')",
        "#",
        "\\\n",
        r"\U0001F600",
        r"\777",
    ),
]
PIECES = [
    *"{}[]()'\":,.#\\\n\r\t\f\0 -+*0123456789eEjJ_rbfu\u200b\ufeff\u00a0\u2028\u00e9\ud800",
    *(
        "<think>",
        "</think>",
        "<",
        ">",
        "joy",
        "True",
        "nan",
        "1e999",
        "'joy': 1",
        "**",
        "'''",
        "```",
        "\r\n",
        ",}",
    ),
    *(
        "'last_emotions'",
        "my_output",
        "{'joy': 1}",
        "lambda: 0",
        "# no",
        "\\x27",
        "\\\n",
        " ",
        "  ",
        "(",
        ")",
    ),
]


def make(draw: random.Random, labels) -> str:
    quote = draw.choice("'\"")
    odd = draw.random() < 0.3  # else every part is a likely one

    def text(of: str) -> str:
        return (
            draw.choice(["", "", "", "", "b", "f", "r", "u"]) * odd * (draw.random() < 0.1)
            + quote
            + of
            + quote
        )

    def label(others: bool) -> str:
        pool = draw.random()
        if odd and pool < 0.15:
            return text(draw.choice(ODD))
        if pool < (0.3 if others else 0.02):
            return text(draw.choice(OWN[:5] if not odd else OWN))
        return text(draw.choice([str, str.upper, str.lower, str.title])(draw.choice(labels)))

    def feelings_of(others: bool) -> str:
        many = draw.choice([1, 1, 2, 2, 3, 3, *([0, 4] if odd else [])])
        weights = WEIGHTS if odd and draw.random() < 0.5 else WEIGHTS[:10]
        return "{" + ", ".join(f"{label(others)}: {draw.choice(weights)}" for _ in range(many)) + "}"

    reply = draw.choice(REPLIES if odd else REPLIES[:6]) + draw.choice(["", "", draw.choice(REPLIES[:40])])
    entries = [
        f"{text(KEYS[0])}: {feelings_of(False)}",
        f"{text(KEYS[1])}: {feelings_of(True)}",
        f"{text(KEYS[2])}: {text(reply.replace(quote, chr(92) + quote) if draw.random() < 0.9 else reply)}",
    ]
    draw.shuffle(entries)
    if odd and draw.random() < 0.1:
        entries.append(draw.choice([*entries, "'note': ''", ""]))
    between = draw.choice([", ", ",", ",\n ", " , "])
    body = "{" + between.join(entries) + draw.choice(["", "", "", ",", " "]) + "}"
    answer = f"{draw.choice(['', ' ', chr(10)])}<think>{draw.choice(['', 'so', '{', chr(39)])}</think>"
    answer += draw.choice(["", "\n", "\u00a0", "\n\n"]) + body + draw.choice(["", "", "\n", " ", "\u3000"])
    for _ in range(draw.choice([0, 0, 0, 0, 0, 0, 1, 1, 2, 3])):
        place, length = draw.randrange(len(answer) + 1), draw.choice([0, 0, 1, 1, 2, 7])
        copied = answer[draw.randrange(len(answer) + 1) :][: draw.choice([0, 0, 3, 12])]
        inserted = draw.choice(PIECES) if draw.random() < 0.6 else copied
        answer = answer[:place] + inserted + answer[place + length :]
    return answer


def test_fuzzed_answers_are_read_and_scored_as_a_second_implementation_does():
    happened: list[str] = []
    watched = COUNT > 100_000
    if watched:  # a hook stays until the process ends, so not in every run of the unit tests
        sys.addaudithook(lambda event, _: happened.append(event))
    draw = random.Random(COUNT)
    valid = 0
    reasons = dict.fromkeys(REASONS, 0)
    for i in range(COUNT):
        corpus = draw.choice(sorted(LABELS))
        labels = LABELS[corpus]
        text = make(draw, labels)
        gold = {e: draw.choice([1.0, 0.5, 0.85]) for e in draw.sample(labels, draw.choice([1, 1, 2, 3]))}
        wanted = second(text, labels)
        happened.clear()
        output, scored = parse_output(text, labels), compute_score(corpus, text, gold)
        assert not happened, (happened, text)
        found = (output.last_emotions, output.my_emotions, output.my_output) if output.valid else None
        assert found == wanted, (i, corpus, text, output.reason)
        if wanted is None:
            reasons[output.reason] += 1
            assert scored["score"] == scored["twin"] == 0.0 and scored["reason"] == output.reason
        else:
            valid += 1
            reward = second_reward(wanted[0], gold)
            assert scored["score"] == pytest.approx(float(reward), abs=1e-12), text
            ranked = sorted(wanted[0], key=lambda e: (-wanted[0][e], labels.index(e)))
            twin = second_reward(
                dict(zip([*ranked, "no label", "nor here"], (0.7, 0.2, 0.1), strict=False)), gold
            )
            assert scored["twin"] == pytest.approx(float(twin), abs=1e-12), text
            assert scored["parsed"] == json.dumps(dict(zip(KEYS, wanted, strict=True)), ensure_ascii=False)
            line = spoken(output.my_output)
            assert line and "<think>" not in line and "</think>" not in line
    assert 0.2 < valid / COUNT < 0.8  # both sides are tried
    assert not [reason for reason, count in reasons.items() if not count], reasons
    print(f"{COUNT:,} answers, {valid:,} valid; refused: {reasons}")
