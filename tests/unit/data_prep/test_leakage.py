"""Exact and near duplicates between splits, against a comparison of every pair."""

from __future__ import annotations

import random

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.leakage import leaking_dialogues, normalised, overlaps, render

WORDS = [
    *("we", "took", "the", "old", "boat", "out", "on", "the", "lake"),
    *("and", "my", "brother", "fell", "in", "twice", "before", "lunch", "today"),
]


def dialogue(corpus: str, split: str, name: str, *texts: str) -> Dialogue:
    return Dialogue(corpus, split, name, tuple(Utterance(str(i), "A", t, "joy") for i, t in enumerate(texts)))


def by(found, test, train, unit="utterance"):
    return next(o for o in found if (o.test, o.train, o.unit) == (test, train, unit))


def test_typography_and_case_do_not_hide_a_copy():
    assert normalised("I\u2019m  HERE, aren't_I?") == normalised("i'm here -- aren't I")
    found = overlaps(
        [
            dialogue("meld", "train", "1", "We took the old boat out on the lake.", "Short one."),
            dialogue("emorynlp", "test", "9", "we took the OLD boat, out on the lake!", "Short one."),
            dialogue("emorynlp", "test", "8", "Nothing of this stands anywhere else at all."),
        ]
    )
    leak = by(found, "emorynlp", "meld")
    assert (leak.total, leak.exact, leak.near, leak.ids) == (2, 1, 1, ("emorynlp:9:0",))
    whole = by(found, "emorynlp", "meld", "dialogue")
    assert (whole.total, whole.exact, whole.ids) == (2, 1, ("emorynlp:9",))
    assert "emorynlp" in render(found) and "50.0%" in render(found)


def test_dev_text_leaks_nothing_and_a_short_line_tells_nothing():
    found = overlaps(
        [
            dialogue("meld", "dev", "1", "We took the old boat out on the lake."),
            dialogue("meld", "train", "2", "I do not know."),
            dialogue("meld", "test", "3", "We took the old boat out on the lake.", "I do not know."),
        ]
    )
    assert (by(found, "meld", "meld").total, by(found, "meld", "meld").near) == (1, 0)


def test_near_duplicates_are_those_of_a_comparison_of_all_pairs():
    rng = random.Random(2)

    def sentence() -> str:
        words = list(WORDS)
        for _ in range(rng.randint(0, 5)):
            words[rng.randrange(len(words))] = rng.choice(["red", "two", "never"])
        return " ".join(words)

    train, test = [sentence() for _ in range(25)], [sentence() for _ in range(40)]
    rows = [dialogue("meld", "train", f"t{i}", t) for i, t in enumerate(train)]
    rows += [dialogue("meld", "test", str(i), t) for i, t in enumerate(test)]

    def pairs(text):
        words = text.split()
        return {(a, b) for a, b in zip(words, words[1:], strict=False)}

    def alike(a, b):
        return len(pairs(a) & pairs(b)) / len(pairs(a) | pairs(b))

    expected = {f"meld:{i}:0" for i, t in enumerate(test) if max(alike(t, o) for o in train) >= 0.8}
    clear = {f"meld:{i}:0" for i, t in enumerate(test) if max(alike(t, o) for o in train) >= 0.9}
    found = set(by(overlaps(rows), "meld", "meld").ids)
    assert 3 < len(expected) < 40
    assert clear <= found <= expected  # MinHash may miss a pair just above the threshold, never invent one


def test_training_dialogues_to_drop():
    rows = [
        dialogue("meld", "train", "1", "Hello.", "We took the old boat out on the lake."),
        dialogue("emorynlp", "train", "2", "Short one.", "Another text that nobody else has said."),
        dialogue("emorynlp", "test", "3", "We took the old boat out on the lake!", "Short one."),
        dialogue("meld", "dev", "4", "We took the old boat out on the lake!"),
    ]
    assert leaking_dialogues(rows) == {("meld", "1")}
