"""Intervals and tests against closed forms, brute force and published worked examples."""

from __future__ import annotations

import itertools
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.evaluation.measures import INVALID, MEASURES, summarise
from recipe.evaluation.statistics import (
    across_runs,
    bootstrap_intervals,
    compare,
    holm,
    mcnemar,
    paired_permutation,
)
from rewards.labels import LABELS


def records(
    rng: random.Random, corpus: str = "meld", dialogues: int = 6, accuracy: float = 0.6
) -> list[dict]:
    found = []
    for d in range(dialogues):
        for u in range(rng.randint(1, 5)):
            gold = rng.choice(LABELS[corpus])
            pred = gold if rng.random() < accuracy else rng.choice([*LABELS[corpus], INVALID])
            valid = pred != INVALID
            iou = rng.random() * valid
            found.append(
                {
                    "row_id": f"{corpus}:{d}:{u}", "corpus": corpus, "dialogue_id": str(d), "gold": gold,
                    "pred": pred, "acc": float(gold == pred), "valid": float(valid), "iou": iou,
                    "score": (iou + 0.1) * valid, "reason": "" if valid else "no_dict",
                    "parsed": json.dumps({"last_emotions": {pred: 1.0} if valid else {}}),
                }
            )  # fmt: skip
    return found


def test_every_resample_is_scored_as_summarise_scores_it():
    """One dialogue a corpus: each resample is the data itself, so the interval is the measure."""
    rows = records(random.Random(3), "meld", 1) + records(random.Random(4), "emorynlp", 1)
    table, intervals = summarise(rows), bootstrap_intervals(rows, resamples=5)
    for corpus in ("meld", "emorynlp", "avg"):
        for measure in MEASURES:
            assert intervals[corpus][measure] == pytest.approx((table[corpus][measure],) * 2)


def test_intervals_against_a_bootstrap_that_copies_rows():
    rows = records(random.Random(5), dialogues=8)
    by_dialogue = {d: [r for r in rows if r["dialogue_id"] == d] for d in {r["dialogue_id"] for r in rows}}
    names, rng = sorted(by_dialogue), random.Random(0)
    drawn = [
        summarise([r for name in rng.choices(names, k=len(names)) for r in by_dialogue[name]])["meld"]
        for _ in range(3000)
    ]
    found = bootstrap_intervals(rows, resamples=3000)["meld"]
    for measure in MEASURES:
        expected = np.quantile([d[measure] for d in drawn], (0.025, 0.975))
        assert found[measure] == pytest.approx(expected, abs=0.03)


def test_dialogues_are_resampled_and_not_utterances():
    """Ten dialogues whose rows all agree: as uncertain as ten rows, not as a thousand."""
    rows = []
    for d in range(10):
        for u in range(100):
            rows.append(
                {**records(random.Random(1), dialogues=1)[0], "row_id": f"{d}:{u}", "dialogue_id": str(d)}
            )
            rows[-1] |= {"acc": float(d < 5)}
    low, high = bootstrap_intervals(rows)["meld"]["accuracy"]
    assert high - low > 0.5  # ten fair coins; a thousand would give 0.06


@pytest.mark.parametrize("only_first, only_second", [(0, 0), (1, 0), (0, 6), (3, 9), (12, 12)])
def test_mcnemar_is_the_binomial_tail(only_first, only_second):
    first = [True] * only_first + [False] * only_second + [True] * 7 + [False] * 4
    second = [False] * only_first + [True] * only_second + [True] * 7 + [False] * 4
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=1, max_size=12))
def test_the_permutation_test_tries_all_swaps_of_dialogues(rows):
    """Few dialogues: the p-value is exactly the share of sign patterns as extreme as the data."""
    dialogues = [str(d) for d, _ in rows]
    p = paired_permutation([v for _, v in rows], [0] * len(rows), dialogues)
    sums = [sum(v for e, v in rows if str(e) == d) for d in sorted(set(dialogues))]
    if not any(sums) or len(sums) == 1:
        assert p == 1.0
        return
    patterns = [
        sum(s * x for s, x in zip(sign, sums, strict=True))
        for sign in itertools.product((1, -1), repeat=len(sums))
    ]
    low = sum(x <= sum(sums) for x in patterns) / len(patterns)
    high = sum(x >= sum(sums) for x in patterns) / len(patterns)
    assert p == pytest.approx(min(1.0, 2 * min(low, high)))


def test_holms_own_example():
    # Holm's procedure on p = .01, .04, .03, .005: .02*... ordered .005*4, .01*3, .03*2, .04*1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_comparing_checkpoints():
    rng = random.Random(9)
    worse = records(rng, dialogues=30, accuracy=0.2)
    better = [{**r, "acc": 1.0, "score": 1.1} for r in worse]
    rows = {"cold": worse, "rl": better, "same": [dict(r) for r in worse]}
    first, second = compare(rows, [("cold", "rl"), ("cold", "same")])
    assert first["reward_difference"] == pytest.approx(1.1 - np.mean([r["score"] for r in worse]))
    assert first["accuracy_p"] < 1e-3 and first["reward_p"] < 1e-3
    assert (second["accuracy_p"], second["reward_p"], second["accuracy_difference"]) == (1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="cold and rl answered different rows"):
        compare({"cold": worse[1:], "rl": better}, [("cold", "rl")])


def test_mean_and_standard_deviation_over_seeds():
    runs = [{"avg": dict.fromkeys(MEASURES, value)} for value in (0.1, 0.2, 0.6)]
    mean, deviation = across_runs(runs)["avg"]["reward"]
    assert mean == pytest.approx(0.3) and deviation == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert math.isnan(across_runs(runs[:1])["avg"]["reward"][1])
