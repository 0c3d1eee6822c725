"""distinct-n and self-BLEU by hand and against a slow reading of their definitions."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluation.diversity import distinct, self_bleu, words


def test_words_and_marks():
    assert words("Don't you DARE, Zoë!") == ["don", "'", "t", "you", "dare", ",", "zoë", "!"]


def test_distinct_by_hand():
    replies = ["I am so sorry", "i am here"]
    assert distinct(replies, 1) == 5 / 7  # i, am, so, sorry, here
    assert distinct(replies, 2) == 4 / 5  # (i am) twice
    assert distinct(["a"], 2) is None and distinct([], 1) is None


def test_self_bleu_by_hand():
    # 4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; equal lengths, so no penalty.
    assert self_bleu(["a b c d e", "a b c d f"]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # "a b" in "a b c": 2/2, 1/1, penalty exp(1 - 3/2); "a b c" in "a b": 2/3, 1/2, floor 0.1/1.
    expected = (math.exp(-0.5) + (2 / 3 * 1 / 2 * 0.1) ** (1 / 3)) / 2
    assert self_bleu(["a b", "a b c"]) == pytest.approx(expected)
    # Counts are clipped: "a a a" holds "a" three times, its reference twice.
    expected = ((2 / 3 * 1 / 2 * 0.1) ** (1 / 3) + math.exp(-0.5)) / 2
    assert self_bleu(["a a a", "a a"]) == pytest.approx(expected)


def test_ends_of_the_scale():
    assert self_bleu(["so sorry", "So sorry"]) == pytest.approx(1.0)
    assert self_bleu(["a b c", "d e f", "g h"]) == 0.0
    assert self_bleu(["one"]) is None and self_bleu(["one", "  "]) is None and self_bleu([]) is None


def slow_self_bleu(replies: list[str]) -> float:
    def grams(tokens, n):
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    tokens, total = [reply.split() for reply in replies], 0.0
    for i, own in enumerate(tokens):
        others = tokens[:i] + tokens[i + 1 :]
        score = 1.0
        orders = range(1, min(4, len(own)) + 1)
        for n in orders:
            matched = sum(
                min(count, max(grams(other, n)[gram] for other in others))
                for gram, count in grams(own, n).items()
            )
            if n == 1 and not matched:
                score = 0.0
            score *= ((matched or 0.1) / (len(own) - n + 1)) ** (1 / len(orders))
        closest = min((len(o) for o in others), key=lambda length: (abs(length - len(own)), length))
        total += score * (math.exp(1 - closest / len(own)) if len(own) < closest else 1.0)
    return total / len(tokens)


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=7).map(" ".join), min_size=2, max_size=5)
)
def test_self_bleu_against_its_definition(replies):
    assert self_bleu(replies) == pytest.approx(slow_self_bleu(replies))
