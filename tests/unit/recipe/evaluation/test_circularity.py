"""Measures of circularity on small cases."""

from __future__ import annotations

import json
import math

import pytest

from recipe.evaluation.circularity import (
    describe_group,
    describe_stage,
    divergence,
    label_drift,
    mistakes,
    r2_information,
)
from recipe.evaluation.measures import INVALID

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


def test_drift_sets_self_made_labels_against_the_turns_that_they_replace(make_prompt_row):
    """Gold rows say joy and fear; the next turns of the rows that went on say fear alone."""
    rows = [
        make_prompt_row("a", label={"joy": 1.0}),
        make_prompt_row("b", label={"fear": 1.0}),
        make_prompt_row("c", label={"joy": 0.6, "fear": 0.2}, lineage=SELF | {"parent": "a"}),  # 3/4, 1/4
        make_prompt_row(
            "d", label={"anger": 1.0}, lineage=SELF | {"parent": "c"}
        ),  # its real turn is unknown
        make_prompt_row("e", label={"Sad": 1.0}, corpus="emorynlp", lineage=SELF | {"parent": "x"}),
    ]
    drift = label_drift(rows, {"a": {"fear": 1.0}, "b": {"disgust": 1.0}})
    assert drift.keys() == {"meld"}
    found = drift["meld"]
    assert (found["self_rows"], found["compared"], found["agreement"]) == (2, 1, 0.0)
    assert found["own"]["joy"] == pytest.approx(0.75) and found["own"]["anger"] == 0
    assert found["gold"] == dict.fromkeys(found["gold"], 0.0) | {"fear": 1.0} and len(found["gold"]) == 7

    def term(p, q):
        return p * math.log2(p / ((p + q) / 2)) if p else 0.0

    # joy: 3/4 against 0, fear: 1/4 against 1.
    expected = (term(0.75, 0) + term(0.25, 1) + term(1, 0.25)) / 2
    assert found["divergence"] == pytest.approx(expected)
    assert label_drift(rows, {"a": {"joy": 0.75, "fear": 0.25}})["meld"]["divergence"] == pytest.approx(0)
    assert label_drift(rows[:2], {"a": {"fear": 1.0}}) == {} == label_drift(rows, {})


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


def test_flips_are_counted_only_where_rewards_differ(make_prompt_row):
    """With equal rewards R alone pushes nowhere: its advantages are rounding, whatever their sign."""
    row = make_prompt_row("a", label={"joy": 1.0})
    alike = [rollout({"joy": 0.7, "fear": 0.3}) | {"score": 0.1 + 0.7 / 1.3} for _ in range(7)]
    up_and_down = [r | {"advantage": a} for r, a in zip(alike, (1, -1, 1, -1, 1, -1, 1), strict=True)]
    flat = describe_group(up_and_down, row)
    assert (flat.turned, flat.flips, flat.reward_part) == (None, 0, 0.0)
    assert flat.consensus_part == pytest.approx(1.0)
    # R = 1.1, 0.6, 0.1: the middle one stands at the mean, so it has no sign to be turned.
    spread = [rollout({"joy": 1.0}), rollout({"joy": 1.0}) | {"score": 0.6}, rollout({"fear": 1.0})]
    used = [r | {"advantage": a} for r, a in zip(spread, (-0.5, 0.5, 0.5), strict=True)]
    group = describe_group(used, row)
    assert (group.flips, group.right_flips) == (2, 0) and group.turned == pytest.approx(2 / 3)
    assert describe_stage([flat, group])["turned"] == pytest.approx(2 / 3)  # of the group that has spread
    assert describe_stage([flat])["turned"] is None


def test_flips_for_the_better_push_right_answers_up_and_wrong_ones_down(make_prompt_row):
    """R alone likes the sure wrong answer's soft overlap more than the shy right one; λ turns both."""
    shy, wrong = rollout({"joy": 1.0}) | {"score": 0.3}, rollout({"fear": 1.0}) | {"score": 0.5}
    pair = [shy | {"advantage": 0.4}, wrong | {"advantage": -0.4}]
    group = describe_group(pair, make_prompt_row("a", label={"joy": 1.0}))
    assert (group.flips, group.right_flips, group.turned) == (2, 2, 1.0)
    found = r2_information([group])
    assert (found["flips"], found["right_flips"]) == (2, 1.0)


def test_what_a_group_got_right(make_prompt_row):
    row = make_prompt_row("a", label={"joy": 1.0})
    group = describe_group(
        [
            rollout({"joy": 0.5, "fear": 0.3, "anger": 0.2}),
            rollout({"fear": 1.0}),
            rollout({"fear": 0.8}),
            rollout({}),
        ],
        row,
    )
    assert group.passed and group.vote_right is False and group.dialogue == "meld/d1"
    assert group.twin == pytest.approx((0.7 / 1.3 + 0.1 + 0.1 + 0.1 + 0) / 4)
    assert group.top_weight == pytest.approx((0.5 + 1 + 1) / 3) and group.named == pytest.approx(5 / 3)
    assert group.gold_weight == pytest.approx(0.5 / 4)
    assert group.sharp_one == pytest.approx((1.1 + 0.1 + 0.1) / 4)
    assert group.sharp_three == pytest.approx((0.9 / 1.3 + 0.1 + 0.1 + 0.1) / 4)
    # One answer of confidence 0.5 that is right, two of confidence 1 that are wrong.
    assert describe_stage([group])["ece"] == pytest.approx((0.5 + 2 * 1.0) / 3)
    alone = describe_group([rollout({"joy": 1.0}), rollout({})], row)
    nobody = describe_group([rollout({}), rollout({})], row)
    assert alone.vote_right is True and nobody.vote_right is None and not nobody.passed
    assert nobody.top_weight is None and nobody.named is None and describe_stage([nobody])["ece"] is None
    found = describe_stage([group, alone, nobody])
    assert (found["pass_at_n"], found["vote_accuracy"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    own = describe_group([rollout({"joy": 1.0})], make_prompt_row("b", lineage=SELF, label={"joy": 1.0}))
    assert describe_stage([group, alone, nobody, own])["pass_at_n"] == pytest.approx(2 / 3)  # gold ones only


def test_what_r2_knows(make_prompt_row):
    """Mean r2 of right minus wrong valid rollouts, in groups that have both; dialogues are resampled."""
    groups = []
    for dialogue, gap in (("d1", 0.1), ("d1", 0.1), ("d2", 0.4)):
        row = make_prompt_row("a", label={"joy": 1.0})
        row["extra_info"]["dialogue_id"] = dialogue
        said = [rollout({"joy": 1.0}, r2=0.5 + gap), rollout({"fear": 1.0}, r2=0.5), rollout({}, r2=0.0)]
        groups.append(describe_group(said, row))
    assert [g.r2_gap for g in groups] == pytest.approx([0.1, 0.1, 0.4])  # the broken one is not looked at
    all_right = describe_group(
        [rollout({"joy": 1.0}), rollout({"joy": 1.0})], make_prompt_row("a", label={"joy": 1.0})
    )
    assert all_right.r2_gap is None
    found = r2_information([*groups, all_right])
    assert found["gap"].mean == pytest.approx(0.2) and (found["gap"].n, found["gap"].clusters) == (3, 2)
    assert found["gap"].interval == pytest.approx((0.1, 0.4))
    assert r2_information([all_right]) == {"gap": None, "flips": 0, "right_flips": None}


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
