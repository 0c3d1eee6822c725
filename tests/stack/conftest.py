"""One run of the flywheel for all stack tests of it: killed, resumed, short of a worker, done.

The run is killed in the middle of RL, must leave nothing behind, and is then resumed; then it loses a
worker and must go on by itself. It takes most of the tests' time, so it is made once in a session.
"""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest

from tests.stack.flywheel_run import ROOT, command, descendants, latest, segments, wait_for


@pytest.fixture(scope="session")
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
