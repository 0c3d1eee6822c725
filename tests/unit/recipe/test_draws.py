"""Seeded draws: shares kept, no label and no phrase too often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.rows import ground_truth
from recipe.draws import at_most_alike, draw_like, draw_mix, draw_stratified, in_rounds
from rewards.labels import LABELS


def labelled(counts: dict[tuple[str, str], int]) -> list[dict]:
    return [
        {
            "data_source": corpus,
            "reward_model": {"ground_truth": {label: 1.0, "other": None}},
            "extra_info": {"labels": LABELS[corpus]},
        }
        for (corpus, label), count in counts.items()
        for _ in range(count)
    ]


def strata(rows, places) -> Counter:
    return Counter((rows[i]["data_source"], next(iter(ground_truth(rows[i])))) for i in places)


def test_shares_are_kept():
    counts = {("meld", "joy"): 60, ("meld", "fear"): 30, ("iemocap", "sad"): 10}
    rows = labelled(counts)
    assert strata(rows, draw_stratified(rows, 10, 1)) == {
        ("meld", "joy"): 6, ("meld", "fear"): 3, ("iemocap", "sad"): 1,
    }  # fmt: skip


def test_largest_remainders_fill_up():
    rows = labelled({("meld", "joy"): 5, ("meld", "fear"): 3, ("meld", "anger"): 2})
    # Quotas of 4 rows: 2.0, 1.2, 0.8.
    assert strata(rows, draw_stratified(rows, 4, 1)) == {
        ("meld", "joy"): 2,
        ("meld", "fear"): 1,
        ("meld", "anger"): 1,
    }


def test_the_same_label_of_two_corpora_is_two_strata():
    rows = labelled({("meld", "neutral"): 10, ("iemocap", "neutral"): 10})
    for seed in range(5):
        drawn = strata(rows, draw_stratified(rows, 10, seed))
        assert drawn == {("meld", "neutral"): 5, ("iemocap", "neutral"): 5}


@given(
    st.dictionaries(
        st.sampled_from([(c, label) for c in LABELS for label in LABELS[c]]), st.integers(1, 30), min_size=1
    ),
    st.integers(0, 80),
    st.integers(0, 9),
)
def test_draws_are_exact_seeded_and_near_the_quota(counts, most, seed):
    rows = labelled(counts)
    drawn = draw_stratified(rows, most, seed)
    assert drawn == sorted(set(drawn)) and len(drawn) == min(most, len(rows))
    assert set(drawn) <= set(range(len(rows)))
    assert draw_stratified(rows, most, seed) == drawn
    for key, share in strata(rows, drawn).items():
        assert abs(share - min(most, len(rows)) * counts[key] / len(rows)) < 1 + 1e-9


def test_draws_without_a_limit():
    rows = labelled({("meld", "joy"): 3})
    assert draw_stratified(rows, None, 1) == draw_stratified(rows, 3, 1) == [0, 1, 2]
    many = labelled({("meld", "joy"): 50})
    assert len({tuple(draw_stratified(many, 5, seed)) for seed in range(10)}) > 1


def test_draw_mix_of_nothing():
    assert draw_mix([], {"original": 100, "self_play": 100}, 1) == []


# ---- self-play rows in the shares of the original ones ----


def test_a_label_that_the_policy_prefers_does_not_fill_b():
    original = labelled({("meld", "neutral"): 50, ("meld", "joy"): 30, ("meld", "anger"): 20})
    played = labelled({("meld", "neutral"): 90, ("meld", "joy"): 9, ("meld", "fear"): 1})
    drawn = strata(played, draw_like(played, original, None, 1))
    # Quotas of 100 rows: 50, 30, 20 and none for fear, of which one row stays.
    assert drawn == {("meld", "neutral"): 50, ("meld", "joy"): 9, ("meld", "fear"): 1}
    few = draw_like(played, original, 20, 1)
    # Quotas of 20 rows: 10, 6 and 4; what one label lacks is not made up for by another.
    assert strata(played, few) == {("meld", "neutral"): 10, ("meld", "joy"): 6, ("meld", "fear"): 1}
    assert draw_like(played, original, 20, 1) == few != draw_like(played, original, 20, 2)
    assert draw_like(played, [], 100, 1) == list(range(100))


# ---- no phrase too often ----


def ending(*replies: str) -> list[dict]:
    return [{"extra_info": {"context": [{"speaker": "Ann", "text": text}]}} for text in replies]


def test_one_reply_may_not_make_more_than_its_share():
    rows = ending(*["All right."] * 60, *[f"Reply {i}." for i in range(40)])
    left = at_most_alike(rows, 0.1, 1)
    same = sum(rows[i]["extra_info"]["context"][-1]["text"] == "All right." for i in left)
    assert same == 4 and len(left) == 44  # 4 of 44 are at most a tenth, 5 of 45 are not
    assert left == sorted(left) and at_most_alike(rows, 0.1, 1) == left != at_most_alike(rows, 0.1, 2)


def test_two_alike_always_stay_and_case_and_spaces_do_not_make_a_reply_another():
    rows = ending("Yes.", "yes. ", " YES.", "No.")
    assert len(at_most_alike(rows, 0.02, 1)) == 3
    assert at_most_alike([], 0.02, 1) == []
    assert at_most_alike(rows, 1.0, 1) == [0, 1, 2, 3]


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.floats(0.01, 1.0), st.integers(0, 3))
def test_the_share_holds_for_what_is_left(replies, share, seed):
    left = at_most_alike(ending(*replies), share, seed)
    counts = Counter(replies[i] for i in left)
    assert all(count <= max(2, share * len(left)) for count in counts.values())
    assert counts.keys() == set(replies)


# ---- the order of RL prompts ----


def test_every_batch_has_the_shares_of_the_whole():
    rows = labelled({("meld", "neutral"): 80, ("meld", "joy"): 40, ("iemocap", "sad"): 40})
    order = in_rounds(rows, 1)
    assert sorted(order) == list(range(160))
    for start in range(0, 160, 16):
        batch = strata(rows, order[start : start + 16])
        assert batch["meld", "neutral"] == pytest.approx(8, abs=1)
        assert batch["meld", "joy"] == pytest.approx(4, abs=1)
    assert in_rounds(rows, 1) == order != in_rounds(rows, 2)
