"""Eq. 11-13: by hand, against a second implementation in exact fractions, and what must never change."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advantage.self_grpo import core_distribution, progress, secondary_rewards, self_grpo_advantages
from rewards.labels import LABELS

MELD = LABELS["meld"]  # neutral, surprise, fear, sadness, joy, disgust, anger
THIRD = 1 / 3


# ---- Eq. 11 and 12 by hand ----


def test_a_group_by_hand():
    # Sums: joy 1 + 0.5, neutral 0.5, sadness 1; the fourth rollout broke the rule. Total 3.
    group = [{"joy": 1.0}, {"joy": 0.5, "neutral": 0.5}, {"sadness": 0.7}, {}]
    core = core_distribution(group, MELD)
    assert list(core) == ["joy", "sadness", "neutral"]
    assert core == pytest.approx({"joy": 1 / 2, "sadness": 1 / 3, "neutral": 1 / 6})
    assert secondary_rewards(group, MELD) == pytest.approx([1 / 3, 2 / 3, 1 / 3, 0])


def test_each_rollout_has_the_same_voice():
    # Unnormalised, anger (0.1) would come last; normalised it has as much as a whole rollout.
    group = [{"anger": 0.1}, {"joy": 0.8, "fear": 0.8}, {"fear": 0.9, "neutral": 0.1}]
    core = core_distribution(group, MELD)  # fear 0.5 + 0.9, anger 1, joy 0.5, neutral 0.1; total 3
    assert core == pytest.approx({"fear": 1.4 / 2.9, "anger": 1 / 2.9, "joy": 0.5 / 2.9})
    assert list(core) == ["fear", "anger", "joy"]
    assert secondary_rewards(group, MELD) == pytest.approx([1 / 3, 2 / 3, 1 / 3])


def test_a_label_with_a_small_weight_counts_as_named():
    group = [{"joy": 1.0, "fear": 0.001}, {"fear": 1.0}, {"joy": 0.001}]
    assert secondary_rewards(group, MELD) == pytest.approx([2 / 3, 1 / 3, 1 / 3])


def test_a_label_counts_as_named_from_a_weight_on():
    # Two labels more at 1e-6 cost R nothing that it could notice, and would earn all of r2.
    group = [
        {"joy": 1.0, "fear": 1e-6, "anger": 1e-6},
        {"fear": 0.5, "anger": 0.5},
        {"joy": 0.9, "fear": 0.1},
    ]
    assert secondary_rewards(group, MELD) == [1, 2 / 3, 2 / 3]
    assert secondary_rewards(group, MELD, 0.05) == [1 / 3, 2 / 3, 2 / 3]
    assert secondary_rewards(group, MELD, min_named_weight=0.2) == [1 / 3, 2 / 3, 1 / 3]
    assert secondary_rewards(group, MELD, 1.0) == [0, 0, 0]
    # It is the share that counts, not the weight as given; at the threshold a label counts.
    assert secondary_rewards([{"joy": 0.019, "fear": 0.001}], MELD, 0.05) == [2 / 3]
    assert secondary_rewards([{"joy": 0.95, "fear": 0.05, "anger": 0.0499}], MELD, 0.05) == [1 / 3]
    # 0.02 of 0.4, which floating point makes a bit less than 0.05.
    assert secondary_rewards([{"joy": 0.01, "fear": 0.37, "anger": 0.02}], MELD, 0.05) == [2 / 3]
    thirds = {"joy": 0.1, "fear": 0.1, "anger": 0.1}
    assert secondary_rewards([thirds, {}, None], MELD, 1 / 3) == [1, 0, 0]


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_threshold_that_is_no_share_is_an_error(threshold):
    with pytest.raises(ValueError, match="min_named_weight"):
        secondary_rewards([{"joy": 1.0}], MELD, threshold)


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        # All equal: the corpus's order decides.
        ([{"anger": 1}, {"disgust": 1}, {"joy": 1}, {"sadness": 1}], ["sadness", "joy", "disgust"]),
        # Two ahead, two tied for the third place.
        (
            [{"anger": 1}, {"anger": 1}, {"joy": 1}, {"joy": 1}, {"fear": 1}, {"surprise": 1}],
            ["joy", "anger", "surprise"],
        ),
        # 0.1 + 0.2 and 0.3 differ in the last bit, in either order; that is a tie, too.
        ([{"joy": 0.1, "anger": 0.3, "fear": 0.6}, {"joy": 0.2, "sadness": 0.8}], ["sadness", "fear", "joy"]),
        (
            [{"anger": 0.1, "joy": 0.3, "fear": 0.6}, {"anger": 0.2, "sadness": 0.8}],
            ["sadness", "fear", "joy"],
        ),
    ],
)
def test_ties_follow_the_corpus_order(group, wanted):
    assert list(core_distribution(group, MELD)) == wanted
    assert list(core_distribution(group[::-1], MELD)) == wanted


def test_the_given_order_decides_not_the_alphabet():
    group = [{"anger": 1}, {"disgust": 1}, {"joy": 1}, {"sadness": 1}]
    assert list(core_distribution(group, MELD[::-1])) == ["anger", "disgust", "joy"]


def test_the_three_stays_three_when_fewer_labels_occur():
    assert secondary_rewards([{"joy": 1.0}, {"joy": 0.2}], MELD) == [THIRD, THIRD]
    assert secondary_rewards([{"joy": 1.0}, {"joy": 0.2, "fear": 0.2}], MELD) == pytest.approx([1 / 3, 2 / 3])
    assert core_distribution([{"joy": 1.0}, {"joy": 0.2}], MELD) == {"joy": 1.0}


@pytest.mark.parametrize("failed", [{}, None])
def test_failed_rollouts_say_nothing(failed):
    assert core_distribution([failed] * 3, MELD) == {}
    assert secondary_rewards([failed] * 3, MELD) == [0, 0, 0]
    assert core_distribution([], MELD) == {} and secondary_rewards([], MELD) == []
    with_failed = core_distribution([{"joy": 0.5, "fear": 0.5}, failed, {"joy": 1.0}, failed], MELD)
    assert with_failed == core_distribution([{"joy": 0.5, "fear": 0.5}, {"joy": 1.0}], MELD)


def test_a_foreign_label_is_an_error():
    with pytest.raises(ValueError, match="happy"):
        core_distribution([{"happy": 1.0}], MELD)
    with pytest.raises(ValueError, match="happy"):
        secondary_rewards([{"joy": 1.0}, {"happy": 1.0}], MELD)


# ---- Eq. 13 by hand ----


def test_advantages_by_hand():
    # mean r = 0.45, deviations 0.65, 0.15, -0.35, -0.45, squares sum to 0.77, unbiased: / 3.
    # mean r2 = 1/3, deviations 0, 1/3, 0, -1/3, squares sum to 2/9.
    spread, spread2 = math.sqrt(0.77 / 3) + 1e-6, math.sqrt(2 / 27) + 1e-6
    wanted = [
        0.65 / spread,
        0.15 / spread + 0.5 * THIRD / spread2,
        -0.35 / spread,
        -0.45 / spread - 0.5 * THIRD / spread2,
    ]
    assert wanted[1] == pytest.approx(0.9084, abs=1e-3)
    got = self_grpo_advantages(np.array([1.1, 0.6, 0.1, 0.0]), [THIRD, 2 / 3, THIRD, 0], ["x"] * 4, 0.5)
    assert got == pytest.approx(wanted, rel=1e-12)


def test_two_rollouts_by_hand():
    # Of two values each lies sqrt(1/2) unbiased deviations from the mean, whatever they are.
    got = self_grpo_advantages(np.array([0.9, 0.1]), np.array([0, THIRD]), [7, 7], 1.0, eps=0.0)
    assert got == pytest.approx([0, 0], abs=1e-12)  # the two terms cancel
    got = self_grpo_advantages(np.array([0.9, 0.1]), np.array([THIRD, 0]), [7, 7], 0.25, eps=0.0)
    assert got == pytest.approx([1.25 * math.sqrt(0.5), -1.25 * math.sqrt(0.5)])


def test_a_group_of_one_keeps_its_reward_and_gets_no_second_term():
    got = self_grpo_advantages(np.array([0.7, 0.1, 0.5]), np.array([1.0, 1.0, 0.0]), ["a", "b", "b"], 1.0)
    assert got[0] == pytest.approx(0.7 / (1 + 1e-6), rel=1e-12)
    assert abs(got[0]) < 0.7  # eps is there, as in veRL


def test_identical_rewards_leave_the_consensus_alone():
    got = self_grpo_advantages(np.full(4, 0.43), np.array([1, 0, 0, 0]), ["a"] * 4, 0.5)
    assert got == pytest.approx(0.5 * np.array([0.75, -0.25, -0.25, -0.25]) / (0.5 + 1e-6), rel=1e-9)
    got = self_grpo_advantages(np.full(4, 0.43), np.full(4, THIRD), ["a"] * 4, 1.0)
    assert got == pytest.approx(np.zeros(4), abs=1e-6)


def test_groups_need_not_be_adjacent_and_do_not_mix():
    r, r2 = np.array([1.0, 10.0, 0.0, 30.0]), np.array([1.0, 0.0, 0.0, 1.0])
    got = self_grpo_advantages(r, r2, ["a", "b", "a", "b"], 0.5)
    first = self_grpo_advantages(r[[0, 2]], r2[[0, 2]], ["a", "a"], 0.5)
    second = self_grpo_advantages(r[[1, 3]], r2[[1, 3]], ["b", "b"], 0.5)
    assert got == pytest.approx([first[0], second[0], first[1], second[1]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_gives_a_tensor_of_its_precision(dtype):
    rewards = torch.tensor([1.1, 0.1, 0.4], dtype=dtype, requires_grad=True)
    before = rewards.detach().clone()
    got = self_grpo_advantages(rewards, [THIRD, 0, 0], ["a", "a", "a"], 0.5)
    assert isinstance(got, torch.Tensor) and got.dtype == dtype and got.shape == (3,)
    assert not got.requires_grad
    assert torch.equal(rewards.detach(), before)


def test_an_array_gives_an_array_and_is_left_alone():
    rewards, secondary = np.array([1.0, 0.0]), np.array([THIRD, 0.0])
    got = self_grpo_advantages(rewards, secondary, ("a", "a"), 1.0)
    assert isinstance(got, np.ndarray) and got.dtype == np.float64
    assert rewards.tolist() == [1.0, 0.0] and secondary.tolist() == [THIRD, 0.0]
    assert isinstance(self_grpo_advantages([1, 0], [0, 0], ["a", "a"], 0.0), np.ndarray)
    assert self_grpo_advantages(np.array([]), np.array([]), [], 0.5).shape == (0,)


@pytest.mark.parametrize(
    ("rewards", "secondary", "groups", "lam"),
    [
        ([1.0, 0.0], [0.0], ["a", "a"], 0.5),
        ([1.0], [0.0, 0.0], ["a", "a"], 0.5),
        ([1.0, 0.0], [0.0, 0.0], ["a"], 0.5),
        ([[1.0, 0.0]], [[0.0, 0.0]], ["a"], 0.5),
        ([[1.0], [0.0]], [0.0, 0.0], ["a", "a"], 0.5),
        ([1.0, 0.0], [0.0, 0.0], ["a", "a"], -0.01),
        ([1.0, 0.0], [0.0, 0.0], ["a", "a"], 1.01),
        ([1.0, 0.0], [0.0, 0.0], ["a", "a"], float("nan")),
        ([1.0, 0.0], [0.0, 0.0], ["a", "a"], None),
        ([1.0, 0.0], [0.0, 0.0], ["a", "a"], "0.5"),
    ],
)
def test_misalignment_and_bad_lambda_raise(rewards, secondary, groups, lam):
    with pytest.raises(ValueError):
        self_grpo_advantages(np.array(rewards), np.array(secondary), groups, lam)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("as_tensor", [True, False])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_a_reward_that_is_no_number_names_its_row(bad, as_tensor, lam):
    # Unnoticed it would make NaN of the whole group's advantages, and of the weights after one step.
    make = torch.tensor if as_tensor else np.array
    good, groups = make([1.0, 0.0, 0.5]), ["x", "y", "x"]
    with pytest.raises(ValueError, match=rf"the reward of row 1 \(group 'y'\) is {bad}"):
        self_grpo_advantages(make([1.0, bad, 0.5]), good, groups, lam)
    with pytest.raises(ValueError, match="the reward of row 0 .*, and 1 more row"):
        self_grpo_advantages(make([bad, 0.5, bad]), good, groups, lam)
    with pytest.raises(ValueError, match=rf"the secondary reward of row 2 \(group 'x'\) is {bad}"):
        self_grpo_advantages(good, make([0.0, 1.0, bad]), groups, lam)
    assert np.isfinite(np.asarray(self_grpo_advantages(good, good, groups, lam))).all()


def test_what_is_no_number_at_all():
    with pytest.raises(ValueError, match=r"reward of row 1 \(group 'a'\) is nan"):
        self_grpo_advantages([1.0, None], [0, 0], ["a", "a"], 0.5)
    for rewards in (["1", "2"], [{}, 1.0]):
        with pytest.raises(ValueError, match="rewards must be numbers"):
            self_grpo_advantages(rewards, [0, 0], ["a", "a"], 0.5)
    for eps in (float("nan"), float("inf"), -1e-6, None, "small"):
        with pytest.raises(ValueError, match="eps must be"):
            self_grpo_advantages([1.0, 0.0], [0, 0], ["a", "a"], 0.5, eps=eps)
    for step, total in ((float("nan"), 5), (None, 5), (1, None), ("1", 5), (1, float("inf"))):
        with pytest.raises(ValueError, match="lambda = t/T"):
            progress(step, total)
    for least in (None, "0.1"):
        with pytest.raises(ValueError, match="min_named_weight"):
            secondary_rewards([{"joy": 1.0}], MELD, min_named_weight=least)


def test_groups_may_be_numbers_in_an_array_or_a_tensor():
    r, r2, groups = np.array([1.0, 0.0, 0.5, 0.1]), np.array([0.0, THIRD, 0.0, 1.0]), [7, 7, 3, 3]
    wanted = self_grpo_advantages(r, r2, groups, 0.5)
    for given_groups in (np.array(groups), torch.tensor(groups)):
        assert np.array_equal(self_grpo_advantages(r, r2, given_groups, 0.5), wanted)


def test_lambda_is_linear_in_the_step():
    assert [progress(t, 4) for t in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    for step, total in ((1, 0), (1, -1), (-1, 4)):
        with pytest.raises(ValueError):
            progress(step, total)


# ---- a second implementation, in exact fractions ----


def exact_core(group, order) -> list[str]:
    mass = dict.fromkeys(order, Fraction(0))
    for prediction in group:
        total = sum(map(Fraction, prediction.values()), Fraction(0))
        for label, weight in prediction.items():
            mass[label] += Fraction(weight) / total
    ranked = sorted(range(len(order)), key=lambda i: (-mass[order[i]], i))
    return [order[i] for i in ranked if mass[order[i]] > 0][:3]


def exact_advantages(rewards, secondary, groups, lam) -> list[float]:
    def standardised(values: list[Fraction], value: Fraction) -> float:
        n = len(values)
        mean = sum(values, Fraction(0)) / n
        variance = sum(((v - mean) ** 2 for v in values), Fraction(0)) / (n - 1)
        return float(value - mean) / (math.sqrt(variance) + 1e-6)

    result = []
    for r, r2, group in zip(rewards, secondary, groups, strict=True):
        mine = [i for i, other in enumerate(groups) if other == group]
        if len(mine) == 1:
            result.append(float(r) / (1 + 1e-6))
        else:
            first = standardised([rewards[i] for i in mine], r)
            result.append(first + lam * standardised([secondary[i] for i in mine], r2))
    return result


# Quarters: no two different consensus shares are so close that the tolerance for ties could join them.
prediction = st.dictionaries(
    st.sampled_from(MELD), st.sampled_from([0.25, 0.5, 0.75, 1.0]), min_size=0, max_size=3
)
group_of_predictions = st.integers(1, 64).flatmap(lambda n: st.lists(prediction, min_size=1, max_size=n))
few_labels = st.lists(
    st.dictionaries(st.sampled_from(MELD[:2]), st.sampled_from([0.5, 1.0]), max_size=2),
    min_size=1,
    max_size=64,
)


@given(group_of_predictions | few_labels, st.permutations(MELD))
def test_consensus_against_fractions(group, order):
    core = core_distribution(group, order)
    wanted = exact_core(group, order)
    assert list(core) == wanted
    assert sum(core.values()) == pytest.approx(1.0 if core else 0.0)
    assert secondary_rewards(group, order) == [len(set(wanted) & set(p)) / 3 for p in group]


@given(group_of_predictions, st.randoms(use_true_random=False))
def test_consensus_does_not_depend_on_the_rollouts_order(group, random):
    places = list(range(len(group)))
    random.shuffle(places)
    shuffled = [group[i] for i in places]
    assert list(core_distribution(shuffled, MELD)) == list(core_distribution(group, MELD))
    r2 = secondary_rewards(group, MELD)
    assert secondary_rewards(shuffled, MELD) == [r2[i] for i in places]


rows = st.lists(
    st.tuples(
        st.integers(0, 22).map(lambda k: Fraction(k, 20)),  # rewards, many of them equal
        st.integers(0, 3).map(lambda k: Fraction(k, 3)),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=64,
)


@given(rows, st.sampled_from([0.0, 0.125, 0.5, 1.0]), st.sampled_from([np.float64, np.float32]))
def test_advantages_against_fractions(batch, lam, dtype):
    rewards, secondary, groups = map(list, zip(*batch, strict=True))
    got = self_grpo_advantages(
        np.array(rewards, dtype=dtype), np.array(secondary, dtype=np.float64), groups, lam
    )
    assert got.dtype == dtype
    if dtype == np.float64:
        assert got == pytest.approx(exact_advantages(rewards, secondary, groups, lam), rel=1e-7, abs=1e-7)
    else:  # the noise of identical float32 rewards is up to 1e-7 / 1e-6, as in veRL
        assert got == pytest.approx(exact_advantages(rewards, secondary, groups, lam), rel=1e-3, abs=0.2)


@given(rows, st.floats(0, 1))
def test_a_group_sums_to_zero(batch, lam):
    rewards, secondary, groups = map(list, zip(*batch, strict=True))
    got = self_grpo_advantages(np.array(rewards, dtype=float), np.array(secondary, dtype=float), groups, lam)
    for group in set(groups):
        members = [i for i, g in enumerate(groups) if g == group]
        if len(members) > 1:
            assert got[members].sum() == pytest.approx(0, abs=1e-7)


@given(rows, st.floats(0, 1), st.randoms(use_true_random=False))
def test_advantages_move_with_their_rows(batch, lam, random):
    def advantages(some):
        r, r2, groups = zip(*some, strict=True)
        return self_grpo_advantages(np.array(r, dtype=float), np.array(r2, dtype=float), list(groups), lam)

    places = list(range(len(batch)))
    random.shuffle(places)
    moved = advantages([batch[i] for i in places])
    assert moved == pytest.approx(advantages(batch)[places], rel=1e-9, abs=1e-9)
    renamed = advantages([(r, r2, f"prompt {g}") for r, r2, g in batch])
    assert renamed == pytest.approx(advantages(batch), rel=1e-12)


def test_equal_rewards_without_eps_give_no_advantage_and_no_nan():
    found = self_grpo_advantages([0.5, 0.5, 1.0, 0.0], [0.0, 0.0, 0.2, 0.2], ["a", "a", "b", "b"], 1.0, eps=0)
    assert list(found) == pytest.approx([0.0, 0.0, 0.5**0.5, -(0.5**0.5)])
