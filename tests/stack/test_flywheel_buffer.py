"""B of a real run, row by row: self-play and its lineage, the best responses, dialogues that are kept out."""

from __future__ import annotations

import json
from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from tests.stack.flywheel_run import ROLLOUTS, STEPS, buffer, rollouts

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2100)]


def label_of(row: dict) -> dict[str, float]:
    return {k: v for k, v in row["reward_model"]["ground_truth"].items() if v is not None}


def check_goes_on(child: dict, parent: dict, said: dict) -> None:
    """A self-play row is its parent's dialogue with a reply at its end; its label, what that speaker felt."""
    info = child["extra_info"]
    assert info["context"][:-1] == parent["extra_info"]["context"]
    last = {"speaker": parent["extra_info"]["persona"]["name"], "text": " ".join(said["my_output"].split())}
    assert info["context"][-1] == last and info["speaker"] == last["speaker"]
    felt = {e: w for e, w in said["my_emotions"].items() if e in info["labels"]}
    assert label_of(child) == pytest.approx({e: w / sum(felt.values()) for e, w in felt.items()})


def test_self_play_goes_on_from_the_best_rollouts(run):
    """Line 14: d*_1 continues y*, with its lineage back to the step and the rollout."""
    folder, before = run["folder"], buffer(run["folder"], 0)
    everything = {
        (row["row_id"], row["step"], row["rollout_index"]): row
        for step in range(1, STEPS + 1)
        for row in rollouts(folder, step)
    }
    best = defaultdict(float)
    for row in everything.values():
        best[row["row_id"]] = max(best[row["row_id"]], row["score"])
    first = [r for r in buffer(folder, 1).values() if r["extra_info"]["turn"] == 1]
    assert first
    for child in first:
        info = child["extra_info"]
        source = everything[info["parent"], info["step"], info["rollout_index"]]
        assert info["reward"] == source["score"] == best[info["parent"]] > 0.1
        assert info["iteration"] == 1 and info["model"]
        check_goes_on(child, before[info["parent"]], json.loads(source["parsed"]))


def test_a_self_play_row_trains_in_its_iteration_and_in_the_next(run):
    """One row through all its files: prompt, rollouts, y*, d*_1, its response, d*_2, SFT 1, RL 2."""
    folder, b = run["folder"], buffer(run["folder"], 1)
    second = [r for r in b.values() if r["extra_info"]["turn"] == 2 and r["extra_info"]["parent"] in b]
    assert second
    samples = pq.read_table(folder / "iter_1/self_play/samples_1.parquet").to_pylist()
    for child in second:
        parent = b[child["extra_info"]["parent"]]
        source = parent["response_from"]
        assert source["source"] == "self_play" and source["iteration"] == 1
        group = [s for s in samples if s["row_id"] == parent["extra_info"]["row_id"]]
        assert len(group) == ROLLOUTS and source["reward"] == max(s["score"] for s in group) > 0.1
        chosen = group[source["rollout_index"]]
        assert chosen["response"] == parent["response"]
        check_goes_on(child, parent, json.loads(chosen["parsed"]))
        assert child["extra_info"]["persona"]["name"] != parent["extra_info"]["persona"]["name"]
    trained = {
        row["extra_info"]["row_id"]: row["response"]
        for row in pq.read_table(folder / "iter_1/sft/train.parquet").to_pylist()
    }
    answered = {row_id: r["response"] for row_id, r in b.items() if r["response"]}
    assert trained == answered
    own = {row_id for row_id in answered if b[row_id]["extra_info"]["origin"] == "self_play"}
    assert own  # line 18 really trains on rows of self-play
    seen = set()
    for path in (folder / "iter_2/rl/rollouts").glob("step_*.parquet"):
        seen |= {row["row_id"] for row in pq.read_table(path, columns=["row_id"]).to_pylist()}
    assert seen <= b.keys() and own & seen  # some rows were in both


def test_the_best_response_ever_is_kept(run):
    folder, before, after = run["folder"], buffer(run["folder"], 0), buffer(run["folder"], 1)
    best = defaultdict(float)
    for step in range(1, STEPS + 1):
        for row in rollouts(folder, step):
            best[row["row_id"]] = max(best[row["row_id"]], row["score"])
    for row_id, row in before.items():
        known = (row["response_from"] or {}).get("reward") or 0.0
        source = after[row_id]["response_from"]
        highest = max(known, best[row_id])
        assert (source["reward"] if source else 0.0) == (highest if highest > 0.1 else 0.0)
    assert any((row["response_from"] or {}).get("source") == "rollout" for row in after.values())
    assert any((row["response_from"] or {}).get("source") == "offline-expert" for row in after.values())


def test_dialogues_that_b_never_sees_are_continued(run):
    folder = run["folder"]
    held_out = pq.read_table(folder / "data/held_out.parquet").to_pylist()
    dialogues = {(r["data_source"], r["extra_info"]["dialogue_id"]) for r in held_out}
    for row in (*buffer(folder, 1).values(), *buffer(folder, 2).values()):
        assert (row["data_source"], row["extra_info"]["dialogue_id"]) not in dialogues
    for k in (1, 2):
        found = json.loads((folder / f"iter_{k}/self_play/held_out.json").read_text())
        assert found["gold"]["n"] == len(held_out) * ROLLOUTS and 0 <= found["gold"]["iou"] <= 1
        assert found["turn_1"]["n"] > 0
