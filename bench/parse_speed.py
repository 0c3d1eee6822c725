"""How fast answers are scored, beside a simple reading, and what the worst texts cost.

    python -m bench.parse_speed [--seconds 0.3]

The simple reading is a regular expression and `ast.literal_eval`, which checks nothing of the rule and
computes no reward. Every figure is the best of five, in CPU time of this process; both are measured in turn,
so that other load on the machine meets both.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import time
from collections.abc import Callable
from functools import partial

from rewards.iou import compute_score
from rewards.labels import LABELS
from rewards.parse import parse_output

SIZES = {"200 B": 200, "2 KB": 2_048, "64 KB": 65_536, "1 MB": 1_048_576}
_SIMPLE = re.compile(r"\s*<think>.*?</think>\s*(\{.*\})\s*", re.DOTALL)
_GOOD = "{'last_emotions': {'joy': 1.0}, 'my_emotions': {'anger': 0.5}, 'my_output': 'Well done!'}"


def simple(text: str) -> dict:
    """An answer's dictionary, as one would read it in two lines."""
    found = _SIMPLE.fullmatch(text)
    return ast.literal_eval(found[1]) if found else {}


def make_answer(size: int, dump: Callable[[dict], str]) -> str:
    """A valid answer of so many characters: a reply of up to 1,900, and a thought for the rest."""

    def answer(thought: str, reply: str) -> str:
        value = {
            "last_emotions": {"joy": 0.6, "surprise": 0.3, "neutral": 0.1},
            "my_emotions": {"joy": 0.7, "surprise": 0.2},
            "my_output": reply,
        }
        return f"<think>{thought}</think>\n{dump(value)}"

    start, prose = "It's fine. ", "I think that she means well. " * (size // 29 + 1)
    rest = max(size - len(answer("", start)), 0)
    return answer(prose[: max(rest - 1_900, 0)], start + prose[: min(rest, 1_900)])


def worst_texts(size: int) -> dict[str, str]:
    """Texts of so many characters that cost some reader more than their length."""

    def fill(before: str, piece: str, behind: str) -> str:
        return before + piece * ((size - len(before) - len(behind)) // len(piece)) + behind

    think, map_, reply = "<think>a</think>", _GOOD.index("{'joy"), _GOOD.index("'Well")
    in_map, in_reply = think + _GOOD[:map_], think + _GOOD[:reply]
    pieces = {
        "open braces": fill(think, "{", "}"),
        "starts of the dictionary": fill(think + "x", "{'my_output': ", "}"),
        "starts with spaces": fill(think + "x", "{ ", "}"),
        "one start, many spaces": fill(think + "x{", " ", "}"),
        "closing braces": fill(think + _GOOD, "}", ""),
        "open quotes": fill(think, "{'", "}"),
        "backslashes": fill(in_reply + "'", "\\", "'}"),
        "escapes": fill(in_reply + "'", "\\n", "'}"),
        "escapes in JSON": fill(in_reply.replace("'", '"') + '"', "\\u0041", '"}'),
        "escapes in a label": fill(in_map + "{'", "\\x41", "': 1}}"),
        "4,000 backslashes": fill(in_reply + "'" + "\\\\" * 1_999, " ", "'}"),
        "open names": fill(in_reply + "'", "\\N{", "'}"),
        "invisible": fill(in_reply + "'", "\u200b", "'}"),
        "blank": fill(in_reply + "'", " ", "'}"),
        "brackets": fill(in_reply, "[", "}"),
        "closed brackets": fill(in_reply, "[]", "}"),
        "list of numbers": fill(in_reply + "[", "1,", "]}"),
        "list of lists": fill(in_reply + "[", "[1],", "]}"),
        "list in a map": fill(in_map + "{'joy': [", "'a',", "]}}"),
        "digits": fill(in_map + "{'joy': 0.", "3", "}}"),
        "digits before the point": fill(in_map + "{'joy': ", "9", "}}"),
        "exponent": fill(in_map + "{'joy': 1e-", "9", "}}"),
        "signs": fill(in_map + "{'joy': ", "-", "1}}"),
        "long label": fill(in_map + "{'", "x", "': 1}}"),
        "entries": fill(in_map + "{", "'joy': 1, ", "}}"),
        "opening tags": fill("", "<think>", ""),
        "halves of tags": fill("<think>", "<", "</think>" + _GOOD),
        "nearly tags": fill("<think>", "</think", "</think>" + _GOOD),
        "nearly tags in a reply": fill(in_reply + "'", "<\u200b", "'}"),
        "spaces": fill(think, " ", _GOOD),
        "spaces within": fill(think + "{", " ", _GOOD[1:]),
        "one think block": fill("<think>", "so ", "</think>" + _GOOD),
    }
    return {name: text for name, text in pieces.items()}


def cpu_seconds(call: Callable[[], object], seconds: float) -> float:
    """CPU time of one call, the mean over about so many seconds."""
    calls, started = 0, time.process_time()
    while (spent := time.process_time() - started) < seconds or not calls:
        call()
        calls += 1
    return spent / calls


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU time of a measurement")
    seconds = parser.parse_args().seconds
    labels, gold = LABELS["meld"], {"joy": 1.0}
    print(f"{'answers/s':<18}{'compute_score':>14}{'parse_output':>14}{'simple':>10}{'score/simple':>14}")
    for form, dump in (("Python", repr), ("JSON", json.dumps)):
        for name, size in SIZES.items():
            text = make_answer(size, dump)
            if not parse_output(text, labels).valid:
                raise SystemExit(f"the answer of {name} breaks the rule")
            calls: list[Callable[[], object]] = [
                partial(compute_score, "meld", text, gold),
                partial(parse_output, text, labels),
                partial(simple, text),
            ]
            turns = [[cpu_seconds(call, seconds / 5) for call in calls] for _ in range(5)]
            score, parse, plain = (1 / min(column) for column in zip(*turns, strict=True))
            print(
                f"{form + ', ' + name:<18}{score:>14,.0f}{parse:>14,.0f}{plain:>10,.0f}{score / plain:>14.2f}"
            )
    print(f"\n{'worst texts, CPU ms':<28}{'64 KB':>8}{'1 MB':>9}  reason")
    small, large = worst_texts(SIZES["64 KB"]), worst_texts(SIZES["1 MB"])
    for name in small:
        spent = [
            min(cpu_seconds(partial(compute_score, "meld", t[name], gold), 0) for _ in range(5))
            for t in (small, large)
        ]
        reason = parse_output(small[name], labels).reason or "valid"
        print(f"{name:<28}{spent[0] * 1e3:>8.2f}{spent[1] * 1e3:>9.2f}  {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
