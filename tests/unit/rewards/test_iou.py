"""Eq. 8-10 by hand and against exact fractions; the contract of veRL's reward function."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.iou import (
    NO_LABEL,
    compute_score,
    fixed_weight_twin,
    label_from_feelings,
    normalise,
    weighted_iou,
)
from rewards.labels import LABELS, corpus_labels, heaviest

MELD = LABELS["meld"]


def exact_iou(prediction, label) -> Fraction:
    """Eq. 9-10 again, in exact arithmetic: 2 / (1 + half of the L1 distance) - 1, without min or max."""
    p, q = ({k: Fraction(v) for k, v in w.items()} for w in (prediction, label))
    if not sum(p.values()) or not sum(q.values()):
        return Fraction(0)
    p = {k: v / sum(p.values()) for k, v in p.items()}
    q = {k: v / sum(q.values()) for k, v in q.items()}
    distance = sum(abs(p.get(k, Fraction(0)) - q.get(k, Fraction(0))) for k in {*p, *q})
    return (2 - distance) / (2 + distance)


@pytest.mark.parametrize(
    ("prediction", "label", "wanted"),
    [
        ({"joy": 1.0}, {"joy": 1.0}, Fraction(1)),
        ({"joy": 0.3}, {"joy": 1.0}, Fraction(1)),  # one label alone is all of the mass
        ({"joy": 1.0}, {"fear": 1.0}, Fraction(0)),
        ({"joy": 0.5, "fear": 0.5}, {"joy": 1.0}, Fraction(1, 3)),  # 0.5 / (1 + 0.5)
        ({"joy": 0.6, "fear": 0.2}, {"joy": 1.0}, Fraction(3, 5)),  # 0.75 / 1.25
        ({"joy": 1, "fear": 1, "anger": 1}, {"joy": 1.0}, Fraction(1, 5)),  # (1/3) / (5/3)
        ({"joy": 0.6, "fear": 0.4}, {"joy": 0.4, "fear": 0.6}, Fraction(2, 3)),  # 0.8 / 1.2
        ({"joy": 0.5, "fear": 0.5}, {"joy": 0.5, "anger": 0.5}, Fraction(1, 3)),  # 0.5 / 1.5
        ({"joy": 0.5, "fear": 0.25, "anger": 0.25}, {"joy": 0.25, "fear": 0.75}, Fraction(1, 3)),  # 0.5 / 1.5
        ({}, {"joy": 1.0}, Fraction(0)),
        ({"joy": 1.0}, {}, Fraction(0)),
        ({}, {}, Fraction(0)),
        ({"joy": 0.0}, {"joy": 1.0}, Fraction(0)),
    ],
)
def test_by_hand(prediction, label, wanted):
    assert weighted_iou(prediction, label) == pytest.approx(float(wanted), abs=1e-15)
    assert exact_iou(prediction, label) == pytest.approx(float(wanted), abs=1e-12)


@given(st.integers(0, 100))
def test_one_hot_label(percent):
    p = percent / 100
    assert weighted_iou({"joy": p, "fear": 1 - p}, {"joy": 1.0}) == pytest.approx(p / (2 - p), abs=1e-12)


weights = st.dictionaries(
    st.sampled_from(MELD), st.floats(0, 1, exclude_min=True, allow_subnormal=False), max_size=7
)


@given(weights, weights)
def test_against_fractions_with_range_and_symmetry(prediction, label):
    value = weighted_iou(prediction, label)
    assert value == pytest.approx(float(exact_iou(prediction, label)), rel=1e-12, abs=1e-12)
    assert 0.0 <= value <= 1.0
    assert value == weighted_iou(label, prediction)
    assert value == weighted_iou(dict(reversed(prediction.items())), label)  # order does not matter
    assert weighted_iou(prediction, prediction) == (1.0 if prediction else 0.0)


@given(weights, weights, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_scale_does_not_matter(prediction, label, a, b):
    scaled = weighted_iou({k: a * v for k, v in prediction.items()}, {k: b * v for k, v in label.items()})
    assert scaled == pytest.approx(weighted_iou(prediction, label), rel=1e-12, abs=1e-12)


@given(weights.filter(bool))
def test_normalise(given_weights):
    assert sum(normalise(given_weights).values()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_broken_weights_raise(bad):
    with pytest.raises(ValueError, match="joy"):
        normalise({"joy": bad, "fear": 1.0})
    with pytest.raises(ValueError):
        weighted_iou({"joy": 1.0}, {"joy": bad})


# ---- compute_score ----


def text(last: dict, mine: dict | None = None, reply: str = "Hm.") -> str:
    return "<think>a</think>" + repr({"last_emotions": last, "my_emotions": mine or last, "my_output": reply})


def struct(**label: float) -> dict[str, float | None]:
    """A label as Parquet hands it back: a struct over the labels of all corpora."""
    return {name: None for names in LABELS.values() for name in names} | label


def test_the_contract_of_a_valid_answer():
    result = compute_score("meld", text({"Joy": 0.6, "fear": 0.2}, {"anger": 1}), struct(joy=1.0), {}, more=1)
    assert result == {
        "score": pytest.approx(0.7),
        "iou": pytest.approx(0.6),
        "acc": 1.0,
        "valid": 1.0,
        "reason": "",
        "pred": "joy",
        "twin": pytest.approx(0.1 + 0.7 / 1.3),  # as with three labels: the third's weight is nobody's
        "top_weight": pytest.approx(0.75),
        "named": 2,
        "parsed": result["parsed"],
    }
    assert json.loads(result["parsed"]) == {
        "last_emotions": {"joy": 0.6, "fear": 0.2},
        "my_emotions": {"anger": 1.0},
        "my_output": "Hm.",
    }


def test_the_contract_of_an_answer_that_breaks_the_rule():
    result = compute_score("meld", "I am happy.", struct(joy=1.0))
    assert json.loads(result.pop("parsed")) == {"last_emotions": {}, "my_emotions": {}, "my_output": ""}
    assert result == {
        **dict.fromkeys(("score", "iou", "acc", "valid", "twin", "top_weight"), 0.0),
        **{"reason": "no_think", "pred": "", "named": 0},
    }


def test_a_valid_answer_that_is_all_wrong_earns_the_bonus_alone():
    result = compute_score("meld", text({"fear": 1.0}), {"joy": 1.0})
    assert (result["score"], result["iou"], result["acc"], result["valid"]) == (0.1, 0.0, 0.0, 1.0)
    assert not result["score"] > 0.1  # so that it stays out of the buffer (flywheel.min_reward)


def test_types_are_the_same_for_every_answer():
    # veRL collects the dictionary's values by column: keys and types must not depend on the answer.
    results = [
        compute_score("meld", t, {"joy": 1.0}) for t in (text({"joy": 1}), text({"fear": 1}), "", "<think>")
    ]
    for result in results:
        assert {k: type(v) for k, v in result.items()} == {k: type(v) for k, v in results[0].items()}


@given(
    st.dictionaries(st.sampled_from(MELD), st.floats(1e-6, 1), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(MELD), st.floats(0, 1, exclude_min=True), min_size=1, max_size=3),
    st.booleans(),
)
def test_the_range_of_the_reward(last, gold, keeps_the_rule):
    result = compute_score("meld", text(last) if keeps_the_rule else text(last) + "!", struct(**gold))
    if keeps_the_rule:
        assert 0.1 <= result["score"] <= 1.1
        assert result["score"] == result["iou"] + 0.1
        assert result["iou"] == pytest.approx(float(exact_iou(last, gold)), rel=1e-9, abs=1e-9)
        assert result["iou"] == weighted_iou(last, gold)
        assert result["twin"] == weighted_iou(fixed_weight_twin(last, MELD), gold) + 0.1
        assert result["top_weight"] == normalise(last)[result["pred"]] == max(normalise(last).values())
        assert result["pred"] == heaviest(last, MELD) and result["named"] == len(last)
        parsed = {"last_emotions": last, "my_emotions": last, "my_output": "Hm."}
        assert result["parsed"] == json.dumps(parsed, ensure_ascii=False)
    else:
        assert result["score"] == 0.0


def test_ties_are_broken_by_the_label_order_on_both_sides():
    # MELD's order: neutral, surprise, fear, sadness, joy, disgust, anger.
    tied = text({"anger": 0.5, "surprise": 0.5})
    assert compute_score("meld", tied, {"surprise": 1.0})["acc"] == 1.0
    assert compute_score("meld", tied, {"anger": 1.0})["acc"] == 0.0
    assert compute_score("meld", tied, {"anger": 0.5, "joy": 0.5})["pred"] == "surprise"
    assert compute_score("meld", text({"joy": 1.0}), {"anger": 0.5, "joy": 0.5})["acc"] == 1.0


def test_labels_may_come_with_the_row():
    for labels in (["calm", "joy"], np.array(["calm", "joy"], dtype=object)):
        assert compute_score("other", text({"CALM": 1.0}), {"calm": 1.0}, {"labels": labels})["score"] == 1.1
    assert compute_score("meld", text({"joy": 1.0}), {"joy": 1.0}, {"labels": np.array([])})["score"] == 1.1
    assert compute_score("meld", text({"joy": 1.0}), {"joy": 1.0}, {"labels": None})["score"] == 1.1


@pytest.mark.parametrize(
    "label",
    [
        *(
            {},
            {"joy": None},
            {"joy": 0.0},
            {"joy": -1.0, "fear": 2.0},
            {"happy": 1.0},
            {"joy": 1.0, "Joy": 1.0},
        ),
        *({"joy": float("nan")}, {"joy": float("inf")}, {"joy": 1.0, "fear": np.float32("nan")}),
        *({"joy": "1.0"}, {"joy": True}, {"joy": [1.0]}, {1: 1.0}, {None: 1.0}),
        # One level of JSON too many or too few, and other things that are no mapping.
        *('{"joy": 1.0}', b'{"joy": 1.0}', "joy", "", None, 1.0, float("nan"), ["joy"], [["joy", 1.0]]),
        *(("joy", 1.0), np.array({"joy": 1.0}, dtype=object)),
        {"joy": 1.0, "anger": 10**400},
        {"joy": 1.0, "anger": 1e308},
    ],
    ids=lambda label: repr(label)[:40],
)
def test_a_broken_label_stops_the_run_and_names_the_field(label):
    for solution in (text({"joy": 1.0}), "nothing"):
        with pytest.raises(ValueError, match=r"meld: reward_model\.ground_truth of a row"):
            compute_score("meld", solution, label)
        with pytest.raises(ValueError, match=r"reward_model\.ground_truth of row meld:d1:3 .*'joy': 1\.0"):
            compute_score("meld", solution, label, {"row_id": "meld:d1:3"})


def test_extra_info_as_json_text_is_named_too():
    with pytest.raises(ValueError, match="extra_info"):
        compute_score("meld", text({"joy": 1.0}), {"joy": 1.0}, '{"row_id": "a"}')
    for labels in ('["joy"]', 5, float("nan"), {"joy": 1}, [None, "joy"], [["joy"]]):
        with pytest.raises(ValueError, match="meld: extra_info.labels is .*, not a list of texts"):
            compute_score("meld", text({"joy": 1.0}), {"joy": 1.0}, {"labels": labels})
    for labels in (["joy", "JOY"], ["joy", "fear", "joy"]):
        with pytest.raises(ValueError, match="meld: extra_info.labels names one twice"):
            compute_score("meld", text({"joy": 1.0}), {"joy": 1.0}, {"labels": labels})


@pytest.mark.parametrize("source", [None, ["meld"], {"meld": 1}, 3])
def test_a_corpus_that_is_no_name_is_told(source):
    with pytest.raises(ValueError, match="data_source must be the name of a corpus"):
        compute_score(source, text({"joy": 1.0}), {"joy": 1.0})


def test_a_soft_label_may_have_any_weights():
    # Table 8's neutral 0.85, surprise 0.45, fear 0.25: shares 17/31, 9/31, 5/31 against 1/2 and 1/2.
    gold = struct(neutral=0.85, surprise=0.45, fear=0.25)
    for label in (
        gold,
        {k: np.float32(v) for k, v in gold.items() if v},
        {"neutral": 17, "surprise": 9, "fear": 5},
    ):
        result = compute_score("meld", text({"surprise": 0.5, "neutral": 0.5}), label)
        assert result["iou"] == pytest.approx((15.5 + 9) / (17 + 15.5 + 5), rel=1e-6)
        assert (result["acc"], result["pred"]) == (1.0, "neutral")


# ---- the twin with fixed weights, and the label of a self-play row ----


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        ({"joy": 0.5, "fear": 0.4, "anger": 0.45}, {"joy": 0.7, "anger": 0.2, "fear": 0.1}),
        ({"anger": 0.3, "surprise": 0.3, "fear": 0.3}, {"surprise": 0.7, "fear": 0.2, "anger": 0.1}),
        ({"anger": 0.3, "surprise": 0.3, "fear": 0.31}, {"fear": 0.7, "surprise": 0.2, "anger": 0.1}),
        ({"anger": 0.1, "joy": 0.2}, {"joy": 0.7, "anger": 0.2, NO_LABEL: 0.1}),
        ({"anger": 1e-6}, {"anger": 0.7, NO_LABEL: pytest.approx(0.3)}),
        ({"anger": 0.5, "joy": 0.0}, {"anger": 0.7, NO_LABEL: pytest.approx(0.3)}),
        ({e: (i + 1) / 10 for i, e in enumerate(MELD)}, {"anger": 0.7, "disgust": 0.2, "joy": 0.1}),
        ({}, {}),
    ],
)
def test_the_twin_keeps_the_ranking_alone(prediction, wanted):
    twin = fixed_weight_twin(prediction, MELD)
    assert twin == wanted and list(twin) == list(wanted)


def test_the_twin_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="happy"):
        fixed_weight_twin({"happy": 1.0}, MELD)
    with pytest.raises(ValueError, match="joy"):
        fixed_weight_twin({"joy": float("nan")}, MELD)


def test_the_twin_is_blind_to_confidence():
    # One-hot: being surer raises R from 1/2 to 9/11 without a change of the ranking; the twin stays at 7/13.
    unsure = {"joy": 2 / 3, "fear": 0.3, "anger": 1 / 30}
    sure = {"joy": 0.9, "fear": 0.06, "anger": 0.04}
    alone = {"joy": 1.0}  # naming fewer labels is no way to be surer
    for prediction, iou in ((unsure, 1 / 2), (sure, 9 / 11), (alone, 1.0)):
        result = compute_score("meld", text(prediction), {"joy": 1.0})
        assert result["iou"] == pytest.approx(iou)
        assert result["twin"] == pytest.approx(0.1 + 7 / 13)
    wrong = compute_score("meld", text({"fear": 0.5, "joy": 0.49, "anger": 0.01}), {"joy": 1.0})
    assert wrong["twin"] == pytest.approx(0.1 + 2 / 18)
    assert compute_score("meld", text({"anger": 1.0}), {"joy": 1.0})["twin"] == 0.1


def test_feelings_that_the_corpus_has_no_word_for_make_no_label():
    said = json.loads(
        compute_score("meld", text({"joy": 1}, {"Joy": 0.6, "curiosity": 0.5}), {"joy": 1})["parsed"]
    )
    assert said["my_emotions"] == {"joy": 0.6, "curiosity": 0.5}
    assert label_from_feelings(said["my_emotions"], MELD) == {"joy": 1.0}
    assert label_from_feelings({"joy": 0.6, "fear": 0.2, "awe": 1}, np.array(MELD)) == pytest.approx(
        {"joy": 0.75, "fear": 0.25}
    )
    assert label_from_feelings({"curiosity": 1.0}, MELD) == label_from_feelings({}, MELD) == {}


def test_an_unknown_corpus_is_an_error():
    with pytest.raises(ValueError, match="nobodys.*meld"):
        compute_score("nobodys", text({"joy": 1.0}), {"joy": 1.0})
    with pytest.raises(ValueError):
        corpus_labels("MELD")


@pytest.mark.parametrize("reply", [r"'ha \ud83d'", r'"ha \ud83d"'])
def test_a_broken_emoji_does_not_break_what_is_stored(reply):
    solution = (
        "<think>a</think>{'last_emotions': {'joy': 1}, 'my_emotions': {'joy': 1}, 'my_output': " + reply + "}"
    )
    result = compute_score("meld", solution, {"joy": 1.0})
    result["parsed"].encode("utf-8")
    json.loads(result["parsed"])["my_output"].encode("utf-8")


def test_heaviest():
    assert heaviest({}, MELD) is None
    assert heaviest({"anger": 0.2, "joy": 0.7, "fear": 0.1}, MELD) == "joy"
    assert heaviest({"anger": 0.5, "joy": 0.5}, MELD) == "joy"
    assert heaviest({"anger": 0.5, "joy": 0.5}, tuple(reversed(MELD))) == "anger"


def test_the_paper_labels():
    assert LABELS == {
        "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
        "iemocap": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
        "emorynlp": ("Joyful", "Mad", "Neutral", "Peaceful", "Powerful", "Sad", "Scared"),
    }
