"""What the page says of the two tasks that no reward looks at."""

from __future__ import annotations

from recipe.evaluation.intervals import Estimate
from recipe.pages.gains_section import own_in_words


def found(gains, agreements):
    """Measures of three corpora: intervals of the gain, and of the agreement with 0.4 for a constant."""
    corpora = ("emorynlp", "iemocap", "meld")
    return {
        "understanding": {
            c: {"gain": Estimate(0.0, interval, 30, 9)} for c, interval in zip(corpora, gains, strict=True)
        },
        "expression": {
            c: {"agreement": Estimate(0.5, interval, 30, 9), "majority": 0.4}
            for c, interval in zip(corpora, agreements, strict=True)
        },
    }


def test_the_last_checkpoint_is_told_in_words():
    before = found([(0.1, 0.2)] * 3, [(0.41, 0.5)] * 3)
    after = found([(0.01, 0.2), (0.0, 0.2), None], [(0.3, 0.5), (0.2, 0.3), (0.4, 0.6)])
    assert own_in_words({"cold": after, "rl": before})[0].endswith(
        "in 3 of 3 corpora (emorynlp, iemocap, meld)."
    )
    understanding, expression = own_in_words({"cold": before, "rl": after})
    assert understanding.startswith("What the persona really feels next is named clearly better")
    assert understanding.endswith("in 1 of 3 corpora (emorynlp).")
    assert expression.endswith("in none of 3 corpora.")


def test_nothing_is_said_of_what_was_not_measured():
    assert own_in_words({}) == []
    assert own_in_words({"cold": {"understanding": {}, "expression": {}}}) == []
