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
from scipy import stats

from recipe.evaluation.checkpoint_tests import changes, compare
from recipe.evaluation.intervals import bootstrap_intervals, clustered_mean, describe_interval
from recipe.evaluation.measures import INVALID, MEASURES, summarise
from recipe.evaluation.permutation_tests import holm, paired_permutation, unpaired_permutation
from recipe.evaluation.seeds import across_runs
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
                    "score": (iou + 0.1) * valid, "reason": "" if valid else "no_dict", "answer": "",
                    "parsed": json.dumps({"last_emotions": {pred: 1.0} if valid else {}}),
                }
            )  # fmt: skip
    return found


def test_every_resample_is_scored_as_summarise_scores_it():
    """A dialogue that is there three times: each resample is the data, so the interval is the measure."""
    once = records(random.Random(3), "meld", 1) + records(random.Random(4), "emorynlp", 1)
    rows = [r | {"row_id": f"{r['row_id']}:{i}", "dialogue_id": str(i)} for r in once for i in range(3)]
    table, intervals = summarise(rows), bootstrap_intervals(rows, resamples=5)
    for corpus in ("meld", "emorynlp", "avg"):
        for measure in MEASURES:
            low, high = intervals[corpus][measure]
            assert low == high == pytest.approx(table[corpus][measure])
            assert describe_interval((low, high)) == f"{low:.2f} in all resamples"


def test_one_dialogue_has_no_interval():
    """It says nothing of other dialogues; nor does an average over corpora in which it takes part."""
    rows = records(random.Random(3), "meld", 1) + records(random.Random(4), "emorynlp", 6)
    intervals = bootstrap_intervals(rows, resamples=50)
    assert set(intervals["meld"].values()) == {None} == set(intervals["avg"].values())
    low, high = intervals["emorynlp"]["accuracy"]
    assert low < high and describe_interval((low, high)) == f"{low:.2f} to {high:.2f}"
    assert describe_interval(None) == "–"
    with pytest.raises(ValueError, match="no records"):
        bootstrap_intervals([])


def test_a_clustered_mean_against_a_bootstrap_that_copies_clusters():
    draw = np.random.default_rng(4)
    parts = [list(draw.normal(draw.normal(), 0.1, size=n)) for n in (1, 5, 2, 3, 1, 4, 2, 6, 3)]
    values = [v for part in parts for v in part]
    names = [i for i, part in enumerate(parts) for _ in part]
    means = []
    for _ in range(4000):
        again = [v for i in draw.integers(0, 9, size=9) for v in parts[i]]
        means.append(np.mean(again))
    found = clustered_mean(values, names, resamples=4000)
    assert found.mean == pytest.approx(np.mean(values)) and (found.n, found.clusters) == (27, 9)
    assert found.interval == pytest.approx(np.quantile(means, (0.025, 0.975)), abs=0.08)
    assert clustered_mean([1.0, 2.0], ["a", "a"]) == (1.5, None, 2, 1)
    assert clustered_mean([], []) is None
    with pytest.raises(ValueError):
        clustered_mean([1.0], [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_no_estimate_and_no_p(bad):
    names = ["a", "b", "c"]
    for estimate in (
        lambda: clustered_mean([1.0, bad, 2.0], names),
        lambda: paired_permutation([1.0, bad, 2.0], [0.0, 1.0, 1.0], names),
        lambda: unpaired_permutation([1.0, bad, 2.0], names, [0.0, 1.0, 1.0], names),
    ):
        with pytest.raises(ValueError, match="'b'"):
            estimate()


def test_intervals_against_a_bootstrap_that_copies_rows():
    rows = records(random.Random(5), dialogues=8)
    by_dialogue = {d: [r for r in rows if r["dialogue_id"] == d] for d in {r["dialogue_id"] for r in rows}}
    names, rng = sorted(by_dialogue), random.Random(0)
    drawn = [
        summarise([r for name in rng.choices(names, k=len(names)) for r in by_dialogue[name]])["meld"]
        for _ in range(1200)
    ]
    found = bootstrap_intervals(rows, resamples=3000)["meld"]
    for measure in MEASURES:
        expected = np.quantile([d[measure] for d in drawn], (0.025, 0.975))
        assert found[measure] == pytest.approx(expected, abs=0.04)


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


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact test on utterances, which takes them for independent."""
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second).pvalue)


def test_the_level_holds_where_utterances_of_a_dialogue_go_together():
    """Two models equally good on average, each good at other dialogues: nothing is to be found.

    At a nominal 5 % the permutation of dialogues rejects about so often; McNemar's test on utterances several
    times as often.
    """
    draw = np.random.default_rng(8)
    dialogues, each, times = 30, 12, 300
    names = np.repeat(np.arange(dialogues), each).tolist()
    rejected = {"mcnemar": 0, "permutation": 0}
    for seed in range(times):
        levels = draw.beta(2, 2, size=(2, dialogues, 1))  # exchangeable: no model is the better one
        first, second = ((draw.random((dialogues, each)) < level).ravel() for level in levels)
        rejected["mcnemar"] += mcnemar(first, second) <= 0.05
        p = paired_permutation(first, second, names, resamples=499, seed=seed)
        rejected["permutation"] += p <= 0.05
    shares = {name: count / times for name, count in rejected.items()}
    assert 0.02 <= shares["permutation"] <= 0.08  # 0.05 plus or minus 2.4 standard errors
    assert shares["mcnemar"] > 0.2


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("dialogues", [9, 40])  # all swaps, and random ones
def test_the_permutation_test_is_scipys(dialogues, alternative):
    draw = np.random.default_rng(dialogues)
    names = [i for i in range(dialogues) for _ in range(3)]
    first, second = draw.normal(0.2, 1, size=len(names)), draw.normal(size=len(names))
    sums = (first - second).reshape(dialogues, 3).sum(axis=1)
    expected = stats.permutation_test(
        (sums,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", n_resamples=20_000,
        vectorized=True, alternative=alternative, rng=draw,
    ).pvalue  # fmt: skip
    found = paired_permutation(first, second, names, resamples=20_000, alternative=alternative)
    assert found == pytest.approx(expected, abs=1e-9 if dialogues == 9 else 0.015)


def test_a_p_value_of_random_swaps_is_never_zero():
    n = 40
    assert paired_permutation([1] * n, [0] * n, list(range(n)), resamples=99, alternative="greater") == 0.01
    with pytest.raises(ValueError, match="no alternative 'more'"):
        paired_permutation([1], [0], ["a"], alternative="more")


def test_a_real_difference_is_found_in_clustered_data():
    draw = np.random.default_rng(3)
    level = draw.beta(2, 2, size=(40, 1))
    first, second = ((draw.random((40, 8)) < x).ravel() for x in (0.6 * level, level))
    assert paired_permutation(first, second, np.repeat(np.arange(40), 8).tolist()) < 0.01


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_one_sided_swaps(alternative):
    """Differences 3, 1, -1 in three dialogues: of 8 sums, 3 are at least 3 and 7 at most 3."""
    p = paired_permutation([3, 1, 0], [0, 0, 1], ["a", "b", "c"], alternative=alternative)
    assert p == pytest.approx({"greater": 3 / 8, "less": 7 / 8}[alternative])


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


def test_dealing_out_dialogues_of_other_rows_against_all_arrangements():
    """Five dialogues on either side, two of them on both: 4 swaps times 20 ways to deal the six others."""
    a = {"x": 0.9, "y": 0.6, "p": 0.8, "q": 0.7, "r": 0.9}
    b = {"x": 0.4, "y": 0.5, "s": 0.3, "t": 0.6, "u": 0.8}
    falls = []
    for swap in itertools.product((0, 1), repeat=2):
        for chosen in itertools.combinations([a[k] for k in "pqr"] + [b[k] for k in "stu"], 3):
            pool = sum(a[k] for k in "pqr") + sum(b[k] for k in "stu")
            above = sum((a, b)[s][k] for s, k in zip(swap, "xy", strict=True)) + sum(chosen)
            below = sum((b, a)[s][k] for s, k in zip(swap, "xy", strict=True)) + pool - sum(chosen)
            falls.append(above / 5 - below / 5)
    observed = sum(a.values()) / 5 - sum(b.values()) / 5
    expected = np.mean([fall >= observed - 1e-9 for fall in falls])
    # A dialogue of two rows weighs by its mean: .9 is (1 + .8) / 2.
    p = unpaired_permutation(
        [1.0, 0.8, 0.6, 0.8, 0.7, 0.9], ["x", "x", "y", "p", "q", "r"], list(b.values()), list(b)
    )
    assert p == pytest.approx(expected, abs=0.01)
    assert unpaired_permutation([1.0, 1.0], ["a", "b"], [0.0, 0.0], ["c", "d"]) is None  # 6 arrangements


def test_dealing_out_dialogues_holds_its_level():
    draw, rejected = np.random.default_rng(1), 0
    for seed in range(200):
        levels = draw.beta(1, 1, size=20)
        values = (draw.random((20, 6)) < levels[:, None]).astype(float)
        names = np.repeat(np.arange(20), 6)
        first, second = slice(0, 12 * 6), slice(8 * 6, 20 * 6)  # four dialogues are on both sides
        flat = values.ravel()
        other = (draw.random((20, 6)) < levels[:, None]).astype(float).ravel()
        p = unpaired_permutation(flat[first], names[first], other[second], names[second], 299, seed)
        rejected += p <= 0.05
    assert rejected / 200 <= 0.09


def test_changes_of_measures_against_all_swaps():
    """Macro-F1 is no sum: every swap of dialogues is scored anew by `summarise`."""
    rng = random.Random(6)
    before = records(rng, dialogues=7, accuracy=0.9)
    after = [dict(r) for r in before]
    for r in after:
        if r["dialogue_id"] in "0134":
            r |= {"pred": "neutral", "acc": float(r["gold"] == "neutral"), "valid": 1.0, "score": 0.9}
            r["parsed"] = json.dumps({"last_emotions": {"neutral": 1.0}})
    found = changes(before, after, resamples=4000)
    tables = [summarise(part)["meld"] for part in (before, after)]
    for name in ("reward", "macro_f1", "majority_share"):
        assert (found[name].before, found[name].after) == pytest.approx([t[name] for t in tables])
    falls = []
    for swap in itertools.product((0, 1), repeat=7):
        sides = [
            summarise([(x, y)[swap[int(x["dialogue_id"])]] for x, y in zip(one, other, strict=True)])["meld"]
            for one, other in ((before, after), (after, before))
        ]
        falls.append(sides[1]["macro_f1"] - sides[0]["macro_f1"])
    observed = tables[1]["macro_f1"] - tables[0]["macro_f1"]
    assert found["macro_f1"].p_fall == pytest.approx(np.mean([f <= observed + 1e-9 for f in falls]), abs=0.03)
    assert found["macro_f1"].p_rise == pytest.approx(np.mean([f >= observed - 1e-9 for f in falls]), abs=0.03)
    same = changes(before, before, resamples=50)["accuracy"]
    assert same.before == same.after and same.p_rise == same.p_fall == 1.0
    with pytest.raises(ValueError, match="different rows"):
        changes(before, after[1:])


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
    # The same answers, so the same twin, whatever score is written beside them.
    assert (first["twin_difference"], first["twin_p"]) == (0.0, 1.0)
    rows_of = sorted(worse, key=lambda r: r["row_id"])
    dialogues = [f"{r['corpus']}/{r['dialogue_id']}" for r in rows_of]
    p = paired_permutation([r["acc"] for r in rows_of], [1.0] * len(rows_of), dialogues)
    assert first["accuracy_p"] == pytest.approx(2 * p)  # Holm's factor of two comparisons
    assert (second["accuracy_p"], second["reward_p"], second["accuracy_difference"]) == (1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="cold and rl answered different rows"):
        compare({"cold": worse[1:], "rl": better}, [("cold", "rl")])


def test_mean_and_standard_deviation_over_seeds():
    runs = [{"avg": dict.fromkeys(MEASURES, value)} for value in (0.1, 0.2, 0.6)]
    mean, deviation = across_runs(runs)["avg"]["reward"]
    assert mean == pytest.approx(0.3) and deviation == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert math.isnan(across_runs(runs[:1])["avg"]["reward"][1])
