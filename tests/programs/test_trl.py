"""SELF-GRPO on TRL's trainer: the advantages of ours on the same rollouts, and real steps of GRPO."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import verl  # noqa: F401  its entry points register the estimator
from verl.trainer.ppo.core_algos import get_adv_estimator_fn

from advantage.self_grpo import secondary_rewards
from data_prep.rows import make_row, write_rows
from recipe.on_verl.estimator import Consensus, hand_over
from rewards.iou import compute_score
from rewards.labels import LABELS

ROOT = Path(__file__).resolve().parents[2]
TRL = ROOT / ".venv-trl/bin/python"
N, LAMBDA_MAX, MIN_NAMED = 4, 0.8, 0.05

pytestmark = pytest.mark.skipif(
    not TRL.is_file(), reason=".venv-trl is missing: python3 launch/setup_env.py --profile trl"
)


def answer(emotions: dict[str, float], reply: str = "I see.") -> str:
    said = {"last_emotions": emotions, "my_emotions": {"joy": 1.0}, "my_output": reply}
    return f"<think>Well.</think>\n{said}"


def row(corpus: str, text: str, gold: str) -> dict:
    return {
        "prompt": [{"role": "user", "content": text}],
        "data_source": corpus,
        "ground_truth": {gold: 1.0},
        "labels": list(LABELS[corpus]),
    }


#: Two steps of two prompts: agreement, disagreement, a broken answer, a weight too small to name a label,
#: a group whose rewards are all equal, another corpus.
STEPS = [
    {
        "rows": [row("meld", "Oh no.", "fear"), row("meld", "Great.", "joy")],
        "answers": [
            answer({"fear": 0.7, "sadness": 0.3}),
            answer({"fear": 1.0}),
            answer({"surprise": 0.6, "sadness": 0.39, "fear": 0.01}),
            "no answer at all",
            answer({"joy": 0.9, "surprise": 0.1}),
            answer({"joy": 0.9, "surprise": 0.1}),
            answer({"anger": 1.0}),
            answer({"neutral": 0.5, "joy": 0.5}),
        ],
    },
    {
        "rows": [row("iemocap", "Leave me.", "angry"), row("meld", "Hm.", "neutral")],
        "answers": [
            answer({"angry": 0.5, "frustrated": 0.5}),
            answer({"frustrated": 1.0}),
            answer({"frustrated": 0.8, "sad": 0.2}),
            answer({"sad": 0.4, "angry": 0.4, "neutral": 0.2}),
            answer({"joy": 1.0}),
            answer({"joy": 0.5, "sadness": 0.5}),
            answer({"anger": 1.0}),
            answer({"joy": 0.6, "anger": 0.4}),
        ],
    },
]


@pytest.fixture(scope="module")
def trl(tmp_path_factory) -> dict:
    """What `trl_steps` leaves."""
    folder = tmp_path_factory.mktemp("trl")
    recorded = {"steps": STEPS, "n": N, "lambda_max": LAMBDA_MAX, "min_named_weight": MIN_NAMED}
    (folder / "recorded.json").write_text(json.dumps(recorded))
    rows = [
        make_row(corpus="meld", prompt=row("meld", text, gold)["prompt"], ground_truth={gold: 1.0},
                 row_id=f"meld:train_0:{i}", split="train", dialogue_id="train_0", utterance_id=str(i),
                 context=[{"speaker": "Ann", "text": text}], persona={"name": "Bo", "profile": ""},
                 personas=[], labels=LABELS["meld"])
        for i, (text, gold) in enumerate([("Oh no.", "fear"), ("Great.", "joy"), ("Hm.", "neutral")] * 2)
    ]  # fmt: skip
    write_rows(rows, folder / "prompts.parquet")
    files = [str(folder / name) for name in ("recorded.json", "prompts.parquet", "out.json")]
    offline = {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [TRL, "-m", "tests.programs.trl_steps", *files],
        cwd=ROOT, env={**os.environ, **offline, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


def on_verl(step: dict, lam: float) -> list[float]:
    """The advantages that the estimator registered in veRL gives to the same rollouts."""
    rows = [step["rows"][i // N] for i in range(len(step["answers"]))]
    scores = [
        compute_score(r["data_source"], answer, r["ground_truth"])
        for r, answer in zip(rows, step["answers"], strict=True)
    ]
    secondary = []
    for start in range(0, len(scores), N):
        named = [json.loads(score["parsed"])["last_emotions"] for score in scores[start : start + N]]
        secondary += secondary_rewards(named, rows[start]["labels"], MIN_NAMED)
    uids = [str(i // N) for i in range(len(scores))]
    rewards, mask = torch.tensor([[score["score"]] for score in scores]), torch.ones(len(scores), 1)
    with hand_over(Consensus(secondary, uids, lam)):
        found, _ = get_adv_estimator_fn("self_grpo")(
            token_level_rewards=rewards, response_mask=mask, index=np.array(uids, dtype=object)
        )
    return found[:, 0].tolist()


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_trl_trains_on_the_advantages_that_verl_would(trl, step):
    lam = LAMBDA_MAX * (step + 1) / len(STEPS)
    expected = sorted(zip(STEPS[step]["answers"], on_verl(STEPS[step], lam), strict=True))
    found = sorted(map(tuple, trl["replayed"][step]))
    assert [text for text, _ in found] == [text for text, _ in expected]
    np.testing.assert_allclose([a for _, a in found], [a for _, a in expected], atol=2e-6)
    assert np.ptp([a for _, a in found]) > 1


def test_one_group_by_hand(trl):
    # Step 2, prompt 1: p~ is frustrated 2.3, angry .9, sad .6, neutral .2, over 4; the first three are p*.
    r = np.array([0.5 / 1.5, 0.0, 0.0, 0.4 / 1.6]) + 0.1
    r2 = np.array([2, 1, 2, 2]) / 3
    by_hand = sum(w * (x - x.mean()) / (x.std(ddof=1) + 1e-6) for x, w in ((r, 1.0), (r2, LAMBDA_MAX)))
    found = dict(map(tuple, trl["replayed"][1]))
    np.testing.assert_allclose([found[text] for text in STEPS[1]["answers"][:N]], by_hand, atol=2e-6)


def test_the_consensus_alone_speaks_where_all_rewards_are_equal(trl):
    found = dict(map(tuple, trl["replayed"][1]))
    flat = [found[text] for text in STEPS[1]["answers"][N:]]
    assert max(flat) > 0.1 and abs(sum(flat)) < 1e-5


def test_real_steps_train_and_log(trl):
    assert [round(entry["self_emo/lambda"], 6) for entry in trl["logs"]] == [0.333333, 0.666667, 1.0]
    assert all(0 <= entry["self_emo/reward"] <= 1.1 and "self_emo/r2" in entry for entry in trl["logs"])
    assert trl["finite"]


def test_steps_on_the_same_rollouts_have_the_lambda_of_the_last(trl):
    assert [round(entry["self_emo/lambda"], 6) for entry in trl["twice"]] == [0.5, 1.0]


def test_answers_of_no_token_are_worth_nothing(trl):
    assert trl["nothing"] == [0.0] * 4


def test_settings_that_would_scale_again_are_refused(trl):
    assert "scale_rewards='none'" in trl["refused"]["scaled"]


@pytest.mark.parametrize("case", ["three", "parts", "evaluated"])
def test_parts_of_groups_are_refused_before_a_rollout_where_settings_make_them(trl, case):
    said = trl["refused"][case]
    assert "whole groups of 4" in said and "steps_per_generation" in said and "eval_batch_size" in said


def test_rollouts_in_another_order_are_refused(trl):
    assert "stand together, 4 of each" in trl["refused"]["mixed"]


@pytest.mark.parametrize(
    ("case", "columns"), [("renamed", "ground_truth"), ("removed", "data_source, ground_truth")]
)
def test_columns_that_are_missing_are_named(trl, case, columns):
    assert f"no column {columns}: use load_prompts" in trl["refused"][case]
