"""Two real turns of the flywheel: veRL, Ray, FSDP2, vLLM and SFT, no stand-in anywhere.

The run is killed in the middle of RL, must leave nothing behind, and is then resumed; then it loses a
worker and must go on by itself. Every other claim is checked on what that run left on disk.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from data_prep.experts.client import Endpoint, Request, Settings, ask_all
from data_prep.experts.cold_start import complaint
from recipe.models.serve import MODEL, served
from tests.browser import browser, needs_browser

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2100)]
ROOT = Path(__file__).parents[2]
STEPS, PROMPTS, ROLLOUTS = 4, 16, 8


def command(root: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "recipe.main",
        "MODEL=tiny",
        "NAME=turn",
        f"run.root={root}",
        "hardware=cpu",
        "test_rows=24",
        "samples={train: 600, dev: 60, test: 240, seed: 1}",
        "base.pretrain={dialogues: 900, steps: 150, batch: 16}",
        "flywheel.min_reward=0.1",  # after so few steps nothing better would enter B
        "flywheel.same_reply=0.2",
        "data.train_batch_size=16",
        "actor_rollout_ref.rollout.n=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=16",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=1",
        "self_emo.lambda_max=1.0",
        "sft.trainer.total_epochs=6",
        "evaluate.stages=[cold,retrained]",
        "actor_rollout_ref.model.external_lib=tests.stack.recorded_loss",
        "actor_rollout_ref.actor.policy_loss.loss_mode=recorded",
        f"+env.SELF_EMO_RECORD={root / 'recorded'}",
        "trainer.logger=[console,file,tensorboard,wandb]",
        "+env.WANDB_MODE=offline",
        *more,
    ]


def descendants(pids: set[int]) -> list[str]:
    """Command lines of the processes in ``pids`` that still run."""
    alive = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(" ".join(process.cmdline())[:80] or process.name())
        except psutil.NoSuchProcess:
            continue
    return alive


def wait_for(condition, seconds: float, process: subprocess.Popen) -> None:
    end = time.time() + seconds
    while not condition():
        assert process.poll() is None, "the run ended early"
        assert time.time() < end, "timed out"
        time.sleep(0.5)


def latest(checkpoint: Path) -> int:
    return int(checkpoint.read_text() or 0)  # veRL writes it in place, so it may be empty for a moment


def segments() -> set[str]:
    return {p.name for p in Path("/dev/shm").iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict:
    """The run after its mishaps: its folder, and what was left behind by the kill and by the end."""
    root = tmp_path_factory.mktemp("runs")
    (root / "recorded").mkdir()
    folder, log, before = root / "turn", (root / "log.txt").open("w"), segments()
    first = subprocess.Popen(command(root), cwd=ROOT, stdout=log, stderr=log)
    checkpoint = folder / "iter_1/rl.work/checkpoints/latest_checkpointed_iteration.txt"
    wait_for(checkpoint.exists, 900, first)
    started = {p.pid for p in psutil.Process(first.pid).children(recursive=True)}
    first.send_signal(signal.SIGKILL)
    first.wait()
    for _ in range(120):
        if not descendants(started):
            break
        time.sleep(0.5)
    left = {"processes": descendants(started), "shared_memory": segments() - before}
    early = {p.name for p in (root / "recorded").glob("*.jsonl")}
    at_kill = latest(checkpoint)
    second = subprocess.Popen(
        command(root, "run.resume=true"), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=(root / "log2.txt").open("w"),
    )  # fmt: skip
    wait_for(lambda: latest(checkpoint) > at_kill, 600, second)
    (worker,) = (
        p
        for p in psutil.Process(second.pid).children(recursive=True)
        if p.name().startswith("ray::WorkerDict")
    )
    worker.kill()
    output, _ = second.communicate(timeout=1200)
    assert second.returncode == 0, output[-2000:] + (root / "log2.txt").read_text()[-4000:]
    return {
        "folder": folder,
        "output": output,
        "left": left,
        "started": len(started),
        "at_kill": at_kill,
        "left_at_end": segments() - before,
        "recorded": max(
            (p for p in (root / "recorded").glob("*.jsonl") if p.name not in early),
            key=lambda p: p.stat().st_mtime,
        ),
    }


def rollouts(folder: Path, step: int, k: int = 1) -> list[dict]:
    return pq.read_table(folder / f"iter_{k}/rl/rollouts/step_{step:06d}.parquet").to_pylist()


def metrics(folder: Path) -> dict[int, dict]:
    lines = (folder / "iter_1/rl/metrics.jsonl").read_text().splitlines()
    return {entry["step"]: entry["data"] for entry in map(json.loads, lines)}


def test_a_killed_driver_leaves_nothing_behind(run):
    assert run["started"] > 5  # there was something to leave
    assert run["left"] == {"processes": [], "shared_memory": set()}
    assert run["left_at_end"] == set()


def test_a_killed_stage_goes_on_from_its_checkpoint(run):
    assert starts(run["folder"])[0] == run["at_kill"]
    assert sorted(metrics(run["folder"])) == list(range(1, STEPS + 1))


def starts(folder: Path) -> list[int]:
    """The checkpoints from which the RL stage went on."""
    return [
        int(n)
        for n in re.findall(r"setting global step to (\d+)", (folder / "iter_1/rl/log.txt").read_text())
    ]


def test_a_stage_that_lost_a_worker_is_tried_again(run):
    assert re.search(r"a worker was lost: .*WorkerDict.*; trying again", run["output"])
    _, again = starts(run["folder"])
    assert run["at_kill"] < again < STEPS


def test_advantages_that_reached_the_actor_are_those_of_eq_13(run):
    """Recomputed here from the rollouts' text, with nothing of the project's code; in iteration 2, where
    prompts that the model labelled itself are among them."""
    seen = [json.loads(line) for line in run["recorded"].read_text().splitlines()]
    steps = range(1, STEPS + 1)
    assert len(seen) == len(steps) * PROMPTS * ROLLOUTS
    assert all(len(row["values"]) == 1 for row in seen)  # one advantage on all tokens of a response
    for i, step in enumerate(steps):
        part = seen[i * PROMPTS * ROLLOUTS : (i + 1) * PROMPTS * ROLLOUTS]
        expected = expected_advantages(rollouts(run["folder"], step, k=2), lam=step / STEPS)
        assert sorted(row["values"][0] for row in part) == pytest.approx(sorted(expected), abs=2e-4)
        assert len({round(value, 3) for value in expected}) > 3  # the step had something to say


def expected_advantages(rows: list[dict], lam: float) -> list[float]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"]].append(row)
    advantages = []
    for group in groups.values():
        assert len(group) == ROLLOUTS
        predictions = [prediction(row) for row in group]
        mass = {label: math.fsum(p.get(label, 0.0) for p in predictions) for label in group[0]["labels"]}
        ranked = sorted((label for label in mass if mass[label] > 0), key=lambda e: -round(mass[e], 9))
        top = ranked[:3]
        # A label counts as named from a twentieth of the weight on (self_emo.min_named_weight).
        secondary = [sum(p.get(label, 0.0) >= 0.05 for label in top) / 3 for p in predictions]
        first = standard([row["score"] for row in group], torch.float32)
        second = standard(secondary, torch.float64)
        advantages += [a + lam * b for a, b in zip(first, second, strict=True)]
    return advantages


def prediction(row: dict) -> dict[str, float]:
    if row["score"] == 0.0:
        return {}
    spelling = {label.casefold(): label for label in row["labels"]}
    tail = row["response"].split("</think>")[1]
    found = last_dictionary(tail.strip())["last_emotions"]
    total = math.fsum(found.values())
    return {spelling[label.casefold()]: weight / total for label, weight in found.items()}


def last_dictionary(text: str) -> dict:
    """The dictionary that ``text`` ends with; a small model sometimes stammers before it."""
    for start in (i for i, char in enumerate(text) if char == "{"):
        try:
            return ast.literal_eval(text[start:])
        except SyntaxError:
            continue
    raise AssertionError(text)


def standard(values: list[float], dtype: torch.dtype) -> list[float]:
    """Rewards are float32 in veRL, r2 is not: beside so small an epsilon the rounding of a mean shows (eight
    times 2/3 in float32 are .028 away from their mean)."""
    numbers = torch.tensor(values, dtype=dtype)
    mean = numbers.sum() / len(numbers)
    spread = ((numbers - mean).square().sum() / (len(numbers) - 1)).sqrt()
    return ((numbers - mean) / (spread + 1e-6)).tolist()


def test_rollout_and_actor_agree_after_weight_updates(run):
    for step, data in metrics(run["folder"]).items():
        # vLLM's log-probabilities are the old ones; if it has the actor's weights they are the new ones.
        assert abs(data["actor/ppo_kl"]) <= 2e-4, step
        assert data["actor/pg_clipfrac"] == 0, step
    updates = [data["actor/grad_norm"] for data in metrics(run["folder"]).values()]
    assert min(updates) > 0


def test_what_a_step_logs(run):
    for step, data in metrics(run["folder"]).items():
        assert data["self_emo/lambda"] == step / STEPS
        rows = rollouts(run["folder"], step)
        assert data["self_emo/reward"] == pytest.approx(statistics.fmean(r["score"] for r in rows))
        assert data["self_emo/r2"] == pytest.approx(statistics.fmean(r["r2"] for r in rows))
        assert data["self_emo/iou"] == pytest.approx(statistics.fmean(r["iou"] for r in rows))
        failures = sum(value for name, value in data.items() if name.startswith("rule_failure/"))
        assert failures == pytest.approx(1 - data["self_emo/valid"])
        assert data["actor/entropy"] > 0
        assert 0 <= data["self_emo/r2_std_zero_share"] <= 1


def test_tensorboard_and_wandb_offline_keep_what_the_page_shows(run):
    """Both through veRL's own tracking; steps that the mishaps repeated are there more than once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = run["folder"] / "iter_1/rl"
    events = EventAccumulator(str(stage / "tensorboard"))
    events.Reload()
    kept = metrics(run["folder"])
    for name in ("self_emo/reward", "self_emo/lambda", "actor/entropy"):
        last = {e.step: e.value for e in events.Scalars(name)}
        assert last == pytest.approx({step: values[name] for step, values in kept.items()}, rel=1e-5)
    written = b"".join(p.read_bytes() for p in stage.glob("wandb/offline-run-*/*.wandb"))
    assert list((run["folder"] / "iter_1/sft/tensorboard").iterdir())
    assert b"self_emo/reward" in written and str(kept[STEPS]["self_emo/reward"]).encode() in written


def buffer(folder: Path, k: int) -> dict[str, dict]:
    rows = pq.read_table(folder / f"iter_{k}/buffer/buffer.parquet").to_pylist()
    return {row["extra_info"]["row_id"]: row for row in rows}


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
    assert seen <= b.keys() and any(b[row_id]["extra_info"]["origin"] == "self_play" for row_id in seen)


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


def test_the_run_ends_with_a_table_and_a_report(run):
    assert "after cold start" in run["output"] and "retrained on B 2" in run["output"]
    for stage in ("cold", "retrained_1", "retrained_2"):
        summary = json.loads((run["folder"] / f"eval/{stage}/summary.json").read_text())
        assert {"meld", "emorynlp", "iemocap", "avg"} == set(summary)
        assert summary["avg"]["n"] == 72
        assert all(0 <= summary["avg"][m] <= 1.1 for m in ("accuracy", "weighted_f1", "valid", "reward"))
    usage = json.loads((run["folder"] / "iter_1/rl/usage.json").read_text())
    assert 0 < usage["to_first_step"] < usage["seconds"] and usage["peak_gib"] > 1
    assert usage["attempts"] == 3  # the killed driver's, the one that lost a worker, and the last
    state = json.loads((run["folder"] / "state.json").read_text())
    assert state["steps"]["iter_1/rl"]["seconds"] > usage["seconds"] - 1
    page = (run["folder"] / "report.html").read_text()
    assert "A step of iter_1/rl takes" in page and '<figure class="course">' in page
    assert "retrained on B 2" in page and page.count("<svg") >= 3 and "http-equiv" not in page


def test_a_finished_run_is_not_done_again(run):
    state = (run["folder"] / "state.json").read_text()
    again = subprocess.run(
        command(run["folder"].parent, "run.resume=true"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr[-2000:]
    assert (run["folder"] / "state.json").read_text() == state
    twice = subprocess.run(
        command(run["folder"].parent), cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PROFILE": "cpu"},
    )  # fmt: skip
    assert twice.returncode == 1 and "exists; add run.resume=true" in twice.stderr


@needs_browser
def test_a_persona_can_be_talked_to(run):
    """`make chat` with two checkpoints: the page, driven in a browser, answered by vLLM."""
    chat = subprocess.Popen(
        [sys.executable, "-m", "recipe.pages.chat", "--port", "7871",
         "--run", f"{run['folder']}:cold", f"{run['folder']}:retrained"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PROFILE": "cpu"},
    )  # fmt: skip
    try:
        while not (line := chat.stdout.readline()).startswith("open "):
            assert line, "the chat ended early"
        with browser() as page:
            page.open("http://127.0.0.1:7871/")
            page.wait_for("document.querySelectorAll('.talk').length === 2")
            page.run("$('line').value = 'I lost my keys again.'; $('send').click()")
            page.wait_for("document.querySelectorAll('.reply').length === 2 && !$('send').disabled")
            replies = page.run("[...document.querySelectorAll('.reply')].map(reply => reply.innerText)")
            assert page.problems == []
        assert all("reads Alex as" in reply or "breaks the rule" in reply for reply in replies), replies
        assert any("feels" in reply for reply in replies), replies
    finally:
        started = {p.pid for p in psutil.Process(chat.pid).children(recursive=True)}
        chat.send_signal(signal.SIGINT)
        chat.wait(60)
    assert not descendants(started)


def test_experts_are_asked_through_vllm_s_own_server(run, tmp_path):
    """The client of the experts against a real OpenAI-compatible server; then again without it."""
    config = OmegaConf.load(run["folder"] / "config.yaml")
    rows = pq.read_table(run["folder"] / "data/test.parquet").to_pylist()[::6]  # of all corpora
    asked = [
        Request(
            row["extra_info"]["row_id"],
            row["prompt"],
            lambda text, labels=row["extra_info"]["labels"]: complaint(text, labels),
        )
        for row in rows
    ]
    settings = {"reasks": 0, "max_tokens": 64, "max_tokens_cap": 64, "temperature": 0.0, "retries": 0}
    with served(run["folder"] / "iter_0/sft/model", config, tmp_path / "log.txt") as url:
        experts = Settings((Endpoint("vllm", url, MODEL),), **settings)
        first = ask_all(asked, experts, tmp_path / "cache", "answers")
    assert first.asked == 12 and len(first.texts) + len(first.rejects) == 12
    assert len(first.texts) >= 3  # it has learnt the format, more or less
    again = ask_all(asked, experts, tmp_path / "cache", "answers")
    assert (again.asked, again.cached, again.texts) == (0, 12, first.texts)
