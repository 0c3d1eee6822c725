"""Measures of circularity on small cases, and the warning, planted and not."""

from __future__ import annotations

import json
import math

import pytest
from scipy.stats import ttest_ind

from recipe.evaluation.circularity import (
    Point,
    describe_group,
    describe_stage,
    divergence,
    first_and_last,
    label_drift,
    mistakes,
    point_of,
    warnings,
)
from recipe.evaluation.measures import INVALID
from recipe.evaluation.rl_stages import RlStage
from recipe.pages.circularity_section import moments

SELF = {"origin": "self_play", "iteration": 1}


def rollout(last: dict, gold: str = "joy", reply: str = "Hm.", step: int = 1, **more):
    """A rollout whose answer says ``last``; without weights it breaks the rule."""
    valid = bool(last)
    right = valid and max(last, key=last.get) == gold
    return {
        "step": step, "acc": float(right), "valid": float(valid), "score": 0.1 * valid + right,
        "r2": 0.5, "lam": 0.0, "advantage": 0.0,
        "parsed": json.dumps({"last_emotions": last, "my_output": reply if valid else ""}),
    } | more  # fmt: skip


def test_divergence_by_hand():
    # Between (1, 0) and (1/2, 1/2): the middle is (3/4, 1/4).
    middle = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    assert divergence([1, 0], [0.5, 0.5]) == pytest.approx(middle)
    assert divergence([0.3, 0.7], [0.3, 0.7]) == pytest.approx(0, abs=1e-12)
    assert divergence([1, 0], [0, 1]) == pytest.approx(1)


def test_drift_sets_self_labelled_rows_against_gold_rows(make_prompt_row):
    rows = [
        make_prompt_row("a", label={"joy": 1.0}),
        make_prompt_row("b", label={"fear": 1.0}),
        make_prompt_row("c", label={"joy": 0.6, "fear": 0.2}, lineage=SELF),  # normalised: 3/4, 1/4
        make_prompt_row("d", label={"Sad": 1.0}, corpus="emorynlp"),
    ]
    drift = label_drift(rows)
    assert drift.keys() == {"meld"} and drift["meld"]["self_rows"] == 1
    assert drift["meld"]["own"]["joy"] == pytest.approx(0.75) and drift["meld"]["gold"]["joy"] == 0.5
    assert sum(drift["meld"]["gold"].values()) == pytest.approx(1) and len(drift["meld"]["gold"]) == 7

    def term(p, q):
        return p * math.log2(p / ((p + q) / 2))

    expected = (term(0.75, 0.5) + term(0.5, 0.75) + term(0.25, 0.5) + term(0.5, 0.25)) / 2
    assert drift["meld"]["divergence"] == pytest.approx(expected)
    assert label_drift(rows[:2]) == {}


def test_mistakes_that_stay_and_grow():
    def records(preds):
        return [
            {"row_id": str(i), "corpus": "meld", "gold": "joy", "pred": pred} for i, pred in enumerate(preds)
        ]

    before = records(["joy", "fear", "fear", "anger", INVALID])
    after = records(["fear", "fear", "joy", "fear", INVALID])
    found = mistakes(before, after)
    assert (found["wrong_before"], found["wrong_after"]) == (4 / 5, 4 / 5)
    assert found["kept"] == 2 / 4  # row 1 as fear, row 4 as invalid; row 3 is wrong in another way
    assert found["growing"] == [("meld", "joy", "fear", 2, 3)]
    assert mistakes(records(["joy"]), records(["joy"]))["kept"] is None
    with pytest.raises(ValueError, match="different rows"):
        mistakes(before, after[1:])


def test_a_group_and_its_consensus(make_prompt_row):
    row = make_prompt_row("a", label={"joy": 1.0})
    rollouts = [
        rollout({"joy": 1.0}),
        rollout({"fear": 0.4, "joy": 0.1}),
        rollout({"fear": 1.0}),
        rollout({}),
    ]
    group = describe_group(rollouts, row)
    assert list(group.consensus) == ["fear", "joy"] and group.consensus["fear"] == pytest.approx(0.6)
    assert group.right is False and group.accuracy == 0.25 and not group.self_labelled
    assert group.reward == pytest.approx((1.1 + 0.1 + 0.1 + 0) / 4)
    assert group.self_bleu == pytest.approx(1.0)  # three times the same reply
    nobody = describe_group([rollout({}), rollout({})], row)
    assert nobody.right is None and nobody.consensus == {} and nobody.self_bleu is None


def test_what_lambda_adds_to_the_advantages(make_prompt_row):
    """R = (1.1, 0.1): mean 0.6, standard deviation 1/sqrt 2, so R alone gives +-1/sqrt 2."""
    pair = [rollout({"joy": 1.0}), rollout({"fear": 1.0})]
    alone = 1 / math.sqrt(2)
    used = [alone - 1.0, -alone + 1.0]
    group = describe_group(
        [r | {"advantage": a} for r, a in zip(pair, used, strict=True)],
        make_prompt_row("a", label={"joy": 1.0}),
    )
    assert group.reward_part == pytest.approx(alone, abs=1e-5)
    assert group.consensus_part == pytest.approx(1.0, abs=1e-5) and group.turned == 1.0
    assert describe_stage([group])["lambda_share"] == pytest.approx(1 / (1 + alone), abs=1e-5)


def test_a_stage_keeps_gold_and_self_labels_apart(make_prompt_row):
    gold, own = (
        make_prompt_row("a", label={"joy": 1.0}),
        make_prompt_row("b", label={"joy": 1.0}, lineage=SELF),
    )
    groups = [
        describe_group([rollout({"joy": 1.0})], gold),
        describe_group([rollout({"fear": 1.0})], gold),
        describe_group([rollout({})], gold),
        describe_group([rollout({"fear": 1.0})], own),
    ]
    found = describe_stage(groups)
    assert (found["groups"], found["self_groups"]) == (4, 1)
    assert found["gold_accuracy"] == pytest.approx(1 / 3) and found["self_reward"] == pytest.approx(0.1)
    assert found["wrong_consensus"] == 0.5  # of the two gold groups that have one; the self-labelled is out
    assert found["no_consensus"] == pytest.approx(1 / 3)
    assert describe_stage([])["gold_accuracy"] is None and describe_stage(groups[:3])["self_reward"] is None


# ---- the warning ----

R = "R on self-labelled prompts"


@pytest.mark.parametrize(
    "accuracy, reward, warns",
    [
        ((0.9, 0.2), (0.3, 0.6), True),  # the planted case: right less often, and paid more for it
        ((0.9, 0.2), (0.6, 0.3), False),  # both fall: a bad run, but not this
        ((0.2, 0.9), (0.3, 0.6), False),  # both rise: what is wanted
        ((0.2, 0.9), (0.6, 0.3), False),
        ((0.5, 0.5), (0.3, 0.6), False),
        ((0.9, 0.2), (0.3, 0.3), False),
    ],
)
def test_the_warning(accuracy, reward, warns):
    pair = [
        Point(name, [float(i < share * 40) for i in range(40)], {R: own})
        for name, share, own in zip(("iteration 1", "iteration 2"), accuracy, reward, strict=True)
    ]
    found = warnings([tuple(pair)])
    assert len(found) == warns
    if warns:
        text = found[0].text
        assert "From iteration 1 to iteration 2" in text and "0.900 to 0.200" in text
        assert "0.300 to 0.600" in text and found[0].clear and "chance" not in text


def test_a_fall_that_may_be_chance_says_so_and_other_rewards_do_not_mix():
    small = (Point("a", [1, 1, 1, 0], {R: 0.3}), Point("b", [1, 1, 0, 0], {R: 0.4}))
    assert "this may be chance" in warnings([small])[0].text and not warnings([small])[0].clear
    sure = (Point("c", [1, 1, 1, 1], {R: 0.3}), Point("d", [0, 0, 0, 0], {R: 0.4}))
    assert [alarm.clear for alarm in warnings([small, sure])] == [True, False]
    p = ttest_ind([1, 1, 1, 0], [1, 1, 0, 0], equal_var=False, alternative="greater").pvalue
    assert f"one-sided p = {p:.2g}," in warnings([small])[0].text
    single = (Point("a", [1], {R: 0.3}), Point("b", [0], {R: 0.4}))
    assert "too few groups" in warnings([single])[0].text
    assert warnings([(Point("a", [1], {R: 0.3}), Point("b", [0], {"r2": 0.4}))]) == []
    assert warnings([(Point("a", [], {R: 0.3}), Point("b", [0], {R: 0.4}))]) == []


def test_moments_of_a_stage(make_prompt_row):
    gold, own = (
        make_prompt_row("a", label={"joy": 1.0}),
        make_prompt_row("b", label={"joy": 1.0}, lineage=SELF),
    )
    groups = []
    for step in range(1, 9):
        groups.append(describe_group([rollout({"joy" if step < 3 else "fear": 1.0}, step=step)], gold))
        groups.append(describe_group([rollout({"joy" if step > 6 else "fear": 1.0}, step=step)], own))
    first, last = first_and_last("iter_2/rl", groups)
    assert (list(first.right), list(last.right)) == ([1.0, 1.0], [0.0, 0.0])
    assert (first.self_rewards[R], last.self_rewards[R]) == (pytest.approx(0.1), pytest.approx(1.1))
    assert len(warnings([(first, last)])) == 1
    assert first_and_last("x", groups[:2]) is None
    assert R not in point_of("x", groups[:1]).self_rewards


def test_the_test_splits_are_set_against_what_rl_was_paid(make_prompt_row):
    row = make_prompt_row("a", label={"joy": 1.0})
    steps = [describe_group([rollout({"joy": 1.0}, step=t, r2=0.1 * t)], row) for t in range(1, 5)]
    stage = RlStage("iter_1/rl", {}, groups=steps)
    records = {"cold": [{"acc": 1.0}] * 20, "rl": [{"acc": float(i < 5)} for i in range(20)]}
    (alarm,) = warnings(moments([stage], records))  # on the rollouts themselves accuracy does not fall
    assert "after cold start (test splits) to" in alarm.text and "1.000 to 0.250" in alarm.text
    assert "0.100 to 0.400" in alarm.text and alarm.clear
    assert warnings(moments([stage], {"cold": records["rl"], "rl": records["cold"]})) == []
    assert moments([], records) == []
