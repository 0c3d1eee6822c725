"""The lock of a run between processes: one holds it, a dead one does not, and what that left is ended."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time

import psutil
import pytest

from recipe.run import lock
from recipe.run.lock import LockedError, locked

HOLD = """
import sys, time, subprocess
from pathlib import Path
from recipe.run.lock import locked
with locked(Path(sys.argv[1])):
    if "leave" in sys.argv:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        print(child.pid, flush=True)
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path, root):
    """Starts a process that holds the lock of ``tmp_path``; gives it and the lines before that."""
    started = []

    def start(*options: str) -> tuple[subprocess.Popen, list[str]]:
        command = [sys.executable, "-c", HOLD, str(tmp_path), *options]
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, list(iter(lambda: process.stdout.readline().strip(), "held"))

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_run_that_is_being_worked_on_is_refused_by_process_and_host(holder, tmp_path):
    process, _ = holder()
    with pytest.raises(LockedError) as caught, locked(tmp_path):
        pytest.fail("two have it")
    assert f"process {process.pid} on {platform.node()}" in str(caught.value)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owner_does_not_keep_it(holder, tmp_path, number):
    process, _ = holder()
    process.send_signal(number)
    process.wait()
    assert json.loads((tmp_path / lock.NAME).read_text())["process"] == process.pid  # what it left
    with locked(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["process"] == os.getpid()
    with locked(tmp_path):  # given back
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_running_is_ended_first(holder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    process, (orphan,) = holder("leave")
    process.kill()
    process.wait()
    assert psutil.pid_exists(int(orphan))
    other = subprocess.Popen(["sleep", "600"], env=os.environ | {"SELF_EMO_RUN": str(tmp_path / "other")})
    try:
        with locked(tmp_path):
            assert not psutil.pid_exists(int(orphan)) or psutil.Process(int(orphan)).status() == "zombie"
            assert other.poll() is None  # of another run
    finally:
        other.kill()
        other.wait()
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(orphan), signal.SIGKILL)
    assert "1 processes of a killed run" in capsys.readouterr().out


def test_its_end_is_awaited_before_it_is_made(tmp_path, monkeypatch):
    """The supervisors of a killed run are still ending what it had started."""
    monkeypatch.setattr(lock, "end_all", lambda processes: pytest.fail("ended") if processes else None)
    brief = subprocess.Popen(["sleep", "2"], env=os.environ | {"SELF_EMO_RUN": str(tmp_path)})
    while "SELF_EMO_RUN" not in psutil.Process(brief.pid).environ():  # the kernel is still starting it
        time.sleep(0.01)
    with locked(tmp_path):
        assert brief.poll() is not None or psutil.Process(brief.pid).status() == "zombie"
    brief.wait()
