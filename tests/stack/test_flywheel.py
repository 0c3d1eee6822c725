"""Two real turns of the flywheel: veRL, Ray, FSDP2, vLLM and SFT, no stand-in anywhere.

How the run of `conftest.py` got over its mishaps, and how it ends. Every other claim is checked in the files
beside this one, on what that run left on disk.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.stack.flywheel_run import ROOT, STEPS, command, metrics, starts

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2100)]


def test_a_killed_driver_leaves_nothing_behind(run):
    assert run["started"] > 5  # there was something to leave
    assert run["left"] == {"processes": [], "shared_memory": set()}
    assert run["left_at_end"] == set()


def test_a_killed_stage_goes_on_from_its_checkpoint(run):
    assert starts(run["folder"])[0] == run["at_kill"]
    assert sorted(metrics(run["folder"])) == list(range(1, STEPS + 1))


def test_a_stage_that_lost_a_worker_is_tried_again(run):
    assert re.search(r"a worker was lost: .*WorkerDict.*; trying again", run["output"])
    _, again = starts(run["folder"])
    assert run["at_kill"] < again < STEPS


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
