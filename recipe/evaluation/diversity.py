"""How much replies differ from each other: distinct-n and self-BLEU."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_ORDERS = (1, 2, 3, 4)
#: Stands for the matches of an order that has none, as in smoothing method 1 of Chen and Cherry (2014).
_FLOOR = 0.1


def words(text: str) -> list[str]:
    """Words and punctuation marks, case folded."""
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def distinct(replies: Sequence[str], n: int) -> float | None:
    """Share of the n-grams of all replies that are different ones (Li et al. 2016, arXiv:1510.03055).

    Falls with the number of replies, so compare equally many. None if there is no n-gram.
    """
    grams = [gram for reply in replies for gram in _grams(words(reply), n)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(replies: Sequence[str]) -> float | None:
    """Mean BLEU-4 of every reply with all others as its references (Zhu et al. 2018, arXiv:1802.01886).

    1.0: every reply is there twice; near 0: nothing is shared. With brevity penalty (closest reference,
    the shorter of two), the orders that a reply is long enough for, and a floor of 0.1 matches.

    Returns:
        A number in [0, 1]; None for less than two replies with a word.
    """
    tokens = [found for reply in replies if (found := words(reply))]
    if len(tokens) < 2:
        return None
    counts = [{n: Counter(_grams(found, n)) for n in _ORDERS} for found in tokens]
    # Of every n-gram the two largest counts: the most that the *other* replies hold is one of them.
    largest: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0])
    for orders in counts:
        for grams in orders.values():
            for gram, count in grams.items():
                largest[gram] = sorted([*largest[gram], count])[-2:]
    lengths = Counter(map(len, tokens))
    scores = []
    for found, orders in zip(tokens, counts, strict=True):
        others = [x for x in lengths if x != len(found) or lengths[x] > 1]
        closest = min(others, key=lambda x: (abs(x - len(found)), x))
        scores.append(_bleu(orders, largest, len(found), closest))
    return math.fsum(scores) / len(scores)


def _bleu(
    orders: dict[int, Counter], largest: dict[tuple[str, ...], list[int]], length: int, closest: int
) -> float:
    logs = []
    for n, grams in orders.items():
        # A reply's own count is one of the two largest exactly if it is at least the second.
        matches = sum(
            min(count, largest[gram][0] if count == largest[gram][1] else largest[gram][1])
            for gram, count in grams.items()
        )
        if n == 1 and not matches:
            return 0.0
        if grams:
            logs.append(math.log((matches or _FLOOR) / grams.total()))
    penalty = min(0.0, 1 - closest / length)
    return math.exp(penalty + math.fsum(logs) / len(logs))


def _grams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
