"""How a stage's process ends, and what is said of it."""

from __future__ import annotations

import json
import sys

import pytest
from omegaconf import OmegaConf

from recipe.run import process, usage
from recipe.run.process import NOT_STARTED, REFUSED, WORKER_LOST, StageError, WorkerLostError, run_stage


@pytest.fixture
def ending(tmp_path, monkeypatch):
    """Runs a stage whose process prints something and ends with a status."""

    def run(text: str, status: int) -> None:
        code = f"import sys; print({text!r}); sys.exit({status})"
        popen = process.subprocess.Popen
        monkeypatch.setattr(
            process.subprocess, "Popen", lambda command, **more: popen([sys.executable, "-c", code], **more)
        )
        run_stage("rl", OmegaConf.create({}), tmp_path, total=3)

    return run


def test_a_stage_that_is_done(ending, tmp_path):
    ending("fine", 0)
    assert (tmp_path / "usage.json").exists() and "fine" in (tmp_path / "log.txt").read_text()


def test_attempts_are_added_up(ending, tmp_path):
    """A killed attempt leaves what it had written last; the next one goes on counting from there."""
    before = {
        "seconds": 500.0,
        "attempts": 2,
        "to_first_step": 90.0,
        "after_last_step": 1.0,
        "peak_gib": 64.0,
    }
    (tmp_path / "usage.json").write_text(json.dumps(before))
    ending("fine", 0)
    after = json.loads((tmp_path / "usage.json").read_text())
    assert 500 < after["seconds"] < 600 and (after["attempts"], after["peak_gib"]) == (3, 64.0)
    assert after["to_first_step"] is None  # of the last attempt, which ended before a step


def test_what_is_measured_is_written_on_the_way(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(usage.time, "monotonic", lambda: now[0])
    measured = usage.Usage(tmp_path / "usage.json")
    for second in range(1, 31):
        now[0] = 1000.0 + second
        measured.look(step=second in (5, 29))
    found = json.loads((tmp_path / "usage.json").read_text())
    assert (found["seconds"], found["to_first_step"], found["after_last_step"]) == (22.0, 5.0, 17.0)
    measured.write()
    found = json.loads((tmp_path / "usage.json").read_text())
    assert (found["seconds"], found["to_first_step"], found["after_last_step"]) == (30.0, 5.0, 1.0)


def test_broken_times_cost_times_alone(ending, tmp_path, capsys):
    (tmp_path / "usage.json").write_text("")
    ending("fine", 0)
    assert json.loads((tmp_path / "usage.json").read_text())["attempts"] == 1
    assert f"note: {tmp_path / 'usage.json'}: no JSON" in capsys.readouterr().out


def test_half_a_line_of_a_killed_attempt_spoils_no_other(ending, tmp_path):
    def line(step: int) -> str:
        return json.dumps({"step": step, "data": {"a": 1}}) + "\n"

    (tmp_path / "metrics.jsonl").write_text(line(1) + '{"step": 2, "da')  # a power loss has cut it
    (tmp_path / "metrics.part.jsonl").write_text(line(3) + line(4)[:-5])
    ending("fine", 0)
    assert (tmp_path / "metrics.jsonl").read_text() == line(1) + line(3)
    assert not (tmp_path / "metrics.part.jsonl").exists()


def test_a_stage_that_the_disk_refused_is_told_in_a_line(ending, tmp_path):
    with pytest.raises(StageError) as caught:
        ending("Traceback\nOSError: [Errno 28] No space left on device", 1)
    assert str(caught.value).startswith(f"stage rl: {tmp_path}: No space left on device; free some space")
    assert "\n" not in str(caught.value)


def test_a_stage_that_failed_shows_the_end_of_its_log(ending):
    with pytest.raises(StageError, match="stage rl ended with status 3") as caught:
        ending("one\ntwo", 3)
    assert str(caught.value).endswith("one\ntwo") and not isinstance(caught.value, WorkerLostError)


def test_a_clock_that_is_set_back_gives_no_negative_times(tmp_path, monkeypatch):
    measured = usage.Usage(tmp_path / "usage.json")
    monkeypatch.setattr(usage.time, "time", lambda: 0.0)
    measured.look(step=True)
    measured.write()
    found = json.loads((tmp_path / "usage.json").read_text())
    assert found["seconds"] >= 0 and found["to_first_step"] >= 0 and found["after_last_step"] >= 0


def test_a_stage_that_was_told_what_it_lacks_says_only_that(ending):
    with pytest.raises(StageError) as caught:
        ending("a warning\nerror: the cluster has 1 node\nanother warning", REFUSED)
    assert str(caught.value) == "the cluster has 1 node"


def test_a_stage_that_lost_a_worker_is_worth_another_try(ending):
    with pytest.raises(WorkerLostError, match=r"^a node is gone \(stage rl, "):
        ending("error: a node is gone", WORKER_LOST)


def test_a_stage_whose_ray_did_not_come_up_is_worth_another_try(ending):
    with pytest.raises(WorkerLostError, match=r"^Ray did not come up on this machine \(stage rl, "):
        ending("a warning", NOT_STARTED)
