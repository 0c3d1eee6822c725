"""The alarms, planted and not: the model's own mistakes rewarded, and a collapse onto one label."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from recipe.evaluation.alarms import (
    AGREEMENT,
    OWN_LABELS,
    Point,
    Reading,
    collapses,
    falls,
    first_and_last,
    point_of,
    warnings,
)
from recipe.evaluation.circularity import describe_group
from recipe.evaluation.permutation_tests import paired_permutation
from recipe.evaluation.results import STAGE_NAMES
from recipe.evaluation.rl_stages import RlStage
from recipe.pages.circularity_section import moments, rl_stages_of
from rewards.labels import LABELS
from tests.unit.recipe.evaluation.test_circularity import SELF, rollout


def readings(values, dialogues=None, start=0) -> list[Reading]:
    """One prompt a value, each in a dialogue of its own unless ``dialogues`` says otherwise."""
    names = dialogues or [f"d{start + i}" for i in range(len(values))]
    return [Reading(f"p{start + i}", d, float(v)) for i, (v, d) in enumerate(zip(values, names, strict=True))]


def point(name: str, right, **rewards) -> Point:
    names = {"own": OWN_LABELS, "r2": AGREEMENT}
    return Point(name, readings(right), {names[k]: readings(v) for k, v in rewards.items()})


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
        point(name, [float(i < share * 40) for i in range(40)], own=[own] * 40)
        for name, share, own in zip(("iteration 1", "iteration 2"), accuracy, reward, strict=True)
    ]
    found = warnings([tuple(pair)])
    assert len(found) == warns
    if warns:
        text = found[0].text
        assert "From iteration 1 to iteration 2" in text and "0.900 to 0.200" in text
        assert "0.300 to 0.600" in text and found[0].clear and "chance" not in text
        assert "rewarding its own mistakes, by the labels that it made" in text


def test_self_made_labels_are_not_blamed_where_there_are_none():
    pair = (point("a", [1] * 40, r2=[0.3] * 40), point("b", [0] * 40, r2=[0.6] * 40))
    (alarm,) = warnings([pair])
    assert alarm.clear and "no label of the model's own making plays a part in this" in alarm.text
    assert "own mistakes" not in alarm.text and "self-labelled" not in alarm.text
    assert "agreement within the groups" in alarm.title


def test_a_fall_that_may_be_chance_says_so_and_other_rewards_do_not_mix():
    some = [1.0] * 5 + [0.0] * 5
    fewer = [1.0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    small = (point("a", some, own=[0.3] * 10), point("b", fewer, own=[0.4] * 10))
    sure = (point("c", [1] * 10, own=[0.3] * 10), point("d", [0] * 10, own=[0.4] * 10))
    alarms = warnings([small, sure])
    assert [alarm.clear for alarm in alarms] == [True, False]
    assert alarms[1].text.endswith("This may be chance.") and "one-sided p = 0.5," in alarms[1].text
    # A clear fall beside a rise that is none: not clear.
    flat = [0.3] * 9 + [0.31]
    unsure = (point("c", [1] * 10, own=[0.3] * 10), point("d", [0] * 10, own=flat))
    assert not warnings([unsure])[0].clear
    single = (point("a", [1], own=[0.3]), point("b", [0], own=[0.4]))
    assert "too few for a test" in warnings([single])[0].text and not warnings([single])[0].clear
    assert warnings([(point("a", [1], own=[0.3]), point("b", [0], r2=[0.4]))]) == []
    assert warnings([(point("a", [], own=[0.3]), point("b", [0], own=[0.4]))]) == []


def test_the_same_prompts_are_paired_and_others_are_not():
    draw = np.random.default_rng(2)
    level = draw.random(30)
    before, after = readings(level), readings(level - 0.02)
    p, how = falls(before, after)  # far smaller than the spread over prompts, and seen all the same
    assert p < 0.001 and "paired on 30 prompts of 30 dialogues" in how
    others, how = falls(before, readings(level - 0.02, start=100))
    assert others > 0.2 and "30 and 30 dialogues" in how
    p, _ = falls(after, before)
    assert p > 0.99


def test_utterances_of_one_dialogue_count_once():
    """100 utterances of 10 dialogues, 7 of which lose all their answers and 3 win them: 17 % by chance."""
    names = [f"d{i // 10}" for i in range(100)]
    before = readings([i < 70 for i in range(100)], names)
    after = readings([i >= 70 for i in range(100)], names)
    p, how = falls(before, after)
    assert "100 prompts of 10 dialogues" in how
    assert p == pytest.approx(sum((1, 10, 45, 120)) / 1024)  # binomial: at most 3 of 10 go the other way
    p, how = falls(readings([1, 1], ["a", "b"]), readings([0, 0], ["a", "b"]))
    assert p is None and "too few" in how


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
    assert [r.value for r in first.right] == [1.0, 1.0] and [r.value for r in last.right] == [0.0, 0.0]
    assert first.right[0][:2] == ("a", "meld/d1")
    assert [r.value for r in first.self_rewards[OWN_LABELS]] == pytest.approx([0.1, 0.1])
    assert [r.value for r in last.self_rewards[OWN_LABELS]] == pytest.approx([1.1, 1.1])
    assert len(warnings([(first, last)])) == 1
    assert first_and_last("x", groups[:2]) is None
    assert OWN_LABELS not in point_of("x", groups[:1]).self_rewards


def test_r2_is_a_reward_only_where_lambda_pays_for_it(make_prompt_row):
    row = make_prompt_row("a", label={"joy": 1.0})
    plain, paid = (describe_group([rollout({"joy": 1.0}, lam=lam)], row) for lam in (0.0, 0.5))
    assert point_of("x", [plain]).self_rewards == {} and AGREEMENT in point_of("x", [paid]).self_rewards


def record(i: int, pred: str, gold: str = "joy", dialogue: str | None = None) -> dict:
    return {
        "row_id": f"r{i}", "corpus": "meld", "dialogue_id": dialogue or str(i), "gold": gold, "pred": pred,
        "acc": float(pred == gold), "valid": 1.0, "score": 0.1 + (pred == gold), "iou": float(pred == gold),
        "reason": "", "parsed": json.dumps({"last_emotions": {pred: 1.0}}),
    }  # fmt: skip


@pytest.mark.parametrize("names", [("cold", "rl"), ("cold", "rl_1"), ("retrained_1", "rl_1")])
def test_the_test_splits_are_set_against_what_rl_was_paid(make_prompt_row, names):
    steps = []
    for t in range(1, 5):
        for i in range(8):
            row = make_prompt_row(f"a{i}", label={"joy": 1.0})
            row["extra_info"]["dialogue_id"] = f"d{i}"
            steps.append(describe_group([rollout({"joy": 1.0}, step=t, r2=0.1 * t, lam=0.25 * t)], row))
    stage = RlStage("iter_1/rl", {}, groups=steps)
    good = [record(i, "joy") for i in range(20)]
    bad = [record(i, "joy" if i < 5 else "fear") for i in range(20)]
    before, after = names
    # On the rollouts themselves accuracy does not fall.
    (alarm,) = warnings(moments([stage], {before: good, after: bad}))
    assert "(test splits) to" in alarm.text and "1.000 to 0.250" in alarm.text
    assert "0.100 to 0.400" in alarm.text and alarm.clear
    assert warnings(moments([stage], {before: bad, after: good})) == []
    assert warnings(moments([stage], {after: good, "retrained_1": bad})) == []  # that was no RL
    assert moments([], {before: good, after: bad}) == []


def test_which_rl_stages_lead_to_a_checkpoint():
    stages = ["iter_1/rl", "iter_2/rl"]
    assert rl_stages_of("rl_2", stages) == ["iter_2/rl"] and rl_stages_of("rl", stages) == stages
    assert rl_stages_of("retrained_2", stages) == [] == rl_stages_of("rl_3", stages)


# ---- collapse ----


def answers(share: float, weight: float, seed: int, dialogues: int = 40) -> list[dict]:
    """Answers that say neutral, a third of the rows, with ``share``, else mostly the right label."""
    draw, world, found = random.Random(seed), random.Random(0), []
    for i in range(dialogues * 4):
        gold = "neutral" if world.random() < 1 / 3 else world.choice(LABELS["meld"][1:])
        guess = gold if draw.random() < 0.6 else draw.choice(LABELS["meld"])
        pred = "neutral" if draw.random() < share else guess
        right = pred == gold
        found.append(
            record(i, pred, gold, str(i // 4)) | {"score": 0.1 + (weight / (2 - weight) if right else 0.0)}
        )
    return found


def test_a_collapse_is_told_and_needs_no_self_play():
    before, after = answers(0.0, 0.4, 1), answers(0.85, 0.95, 2)
    (alarm,) = collapses({"cold": before, "rl_1": after}, {"cold": "after cold start"})
    assert alarm.clear and "From after cold start to rl_1 the mean reward rose" in alarm.text
    (titled,) = collapses({"cold": before, "rl_1": after}, STAGE_NAMES)
    assert "From after cold start to after RL 1 the mean reward rose" in titled.text
    assert "macro-F1 fell" in alarm.text and "self" not in alarm.text and "collapse" in alarm.title
    assert alarm.text.endswith("more often and more surely, not by recognising better.")
    p = paired_permutation(
        [r["score"] for r in after], [r["score"] for r in before], [r["dialogue_id"] for r in before],
        alternative="greater",
    )  # fmt: skip
    assert p <= 0.05
    assert collapses({"cold": after, "rl_1": before}, {}) == []
    # Better in every way, worse in every way, or surer alone: no collapse.
    assert collapses({"cold": before, "rl_1": answers(0.0, 0.95, 1)}, {}) == []
    assert collapses({"cold": before, "rl_1": answers(0.85, 0.2, 2)}, {}) == []
    assert collapses({"cold": before}, {}) == []


def test_what_is_ranked_better_is_not_called_confidence():
    """Reward, the most frequent label and the reward at fixed weights rise; a rare label is lost."""
    before = answers(0.0, 0.5, 1, dialogues=120)
    after = [dict(r) for r in before]
    for r in after:
        if r["gold"] == "neutral" and not r["acc"]:
            r |= record(0, "neutral", "neutral", "") | {k: r[k] for k in ("row_id", "dialogue_id")}
            r["score"] = 1.1
        elif r["gold"] == "fear" and r["acc"]:
            r |= record(0, "neutral", r["gold"], "") | {k: r[k] for k in ("row_id", "dialogue_id")}
    (alarm,) = collapses({"cold": before, "rl": after}, {})
    assert alarm.clear
    assert "frequent labels are recognised more often, and rare ones are forgotten." in alarm.text
    assert "surely" not in alarm.text


def test_a_collapse_within_chance_says_so():
    before = answers(0.0, 0.5, 1, dialogues=3)
    after = [dict(r) for r in before]
    wrong = next(r for r in after if r["pred"] != r["gold"] and r["pred"] != "neutral")
    wrong |= {"pred": "neutral", "score": 0.11}
    right = next(r for r in after if r["pred"] == r["gold"] != "neutral")
    right |= {"pred": "neutral", "acc": 0.0, "score": right["score"] + 0.1}
    (alarm,) = collapses({"cold": before, "rl": after}, {})
    assert not alarm.clear and alarm.text.endswith("This may be chance.")


def test_a_collapse_is_rarely_called_clear_without_one():
    """Two samples of one policy: told perhaps, but clear in at most 5 % of the cases."""
    clear = 0
    for seed in range(60):
        pair = {"a": answers(0.3, 0.7, 2 * seed, 12), "b": answers(0.3, 0.7, 2 * seed + 1, 12)}
        clear += any(alarm.clear for alarm in collapses(pair, {}))
    assert clear <= 3
