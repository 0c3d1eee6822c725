"""Stages that start as forks of a process of the run: what they find, and that nothing of them is left."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recipe.run import warm_start
from recipe.run.process import environment

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="child subreapers are Linux's"),
    pytest.mark.timeout(120),
]

#: Leaves an orphan in a session of its own, says what it sees, then does what argv[2] says.
STAGE = """
import os, pathlib, signal, sys, tempfile, time
folder = pathlib.Path(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
(folder / "child").write_text(str(os.getpid()))
print(__name__, 'wave' in sys.modules, os.environ.get("WORD"), tempfile.gettempdir(), flush=True)
eval(sys.argv[2])
"""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The command that runs STAGE in a fork of a process that has imported `wave`."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "leaver.py").write_text(STAGE)
    with (tmp_path / "log").open("wb") as log:
        python = warm_start.python({"run": {"preload": ["wave"]}}, environment(), log)

    def command(action: str) -> list[str]:
        asked = ["leaver", str(tmp_path), action]
        return [python, "-m", "recipe.run.supervise", "--fork", "--", *asked]

    yield command
    warm_start.end()


def processes(folder: Path) -> list[psutil.Process]:
    """The stage's, once it runs, and its orphan."""
    while not (folder / "child").exists() or not (text := (folder / "child").read_text()):
        time.sleep(0.05)
    child = psutil.Process(int(text))
    return [child, *child.children()]


def nothing_left_in(folder: Path) -> None:
    """The supervisors were asked to end, not killed: they have removed the stage's temporary files."""
    for _ in range(100):
        if not list(folder.glob("emo-*")):
            return
        time.sleep(0.1)
    raise AssertionError(list(folder.glob("emo-*")))


@pytest.mark.parametrize("action, status", [("sys.exit(0)", 0), ("sys.exit(7)", 7), ("1 / 0", 1)])
def test_it_runs_as_a_module_and_leaves_nothing(stage, tmp_path, action, status):
    before = set(psutil.pids())
    done = subprocess.run(stage(action), capture_output=True, text=True, env=os.environ | {"WORD": "é"})
    assert done.returncode == status
    name, loaded, word, temporary = done.stdout.split()
    assert (name, loaded, word) == ("__main__", "True", "é")
    assert Path(temporary).parent == tmp_path and not Path(temporary).exists()
    assert ("ZeroDivisionError" in done.stderr) == (status == 1)
    left = {p for p in set(psutil.pids()) - before if str(tmp_path) in str(_environ(p))}
    assert not left


def _environ(pid: int) -> dict[str, str]:
    try:
        return psutil.Process(pid).environ()
    except psutil.Error:
        return {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(stage, tmp_path, number):
    process = subprocess.Popen(stage("time.sleep(600)"))
    started = processes(tmp_path)
    assert len(started) == 2
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started)


def test_a_stage_ends_with_who_waits_for_it(stage, tmp_path):
    process = subprocess.Popen(stage("time.sleep(600)"))
    started = processes(tmp_path)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(started, timeout=40)
    assert not alive
    nothing_left_in(tmp_path)


def test_all_ends_with_the_run(tmp_path):
    """Killed, it says nothing to anybody."""
    (tmp_path / "leaver.py").write_text(STAGE)
    asked = ["-m", "recipe.run.supervise", "--fork", "--", "leaver", str(tmp_path), "time.sleep(600)"]
    code = (
        "import subprocess, sys\n"
        "from recipe.run import process, warm_start\n"
        "settings = {'run': {'preload': ['wave']}}\n"
        "python = warm_start.python(settings, process.environment(), sys.stderr.buffer)\n"
        f"subprocess.run([python, *{asked!r}])\n"
    )
    root = Path(__file__).parents[2]
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "TMPDIR": str(tmp_path)}
    run = subprocess.Popen([sys.executable, "-c", code], env=variables)
    processes(tmp_path)
    started = psutil.Process(run.pid).children(recursive=True)
    assert len(started) >= 6  # host, server, two supervisors, stage, orphan, who waits for the stage
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(started, timeout=40)
    assert not alive
    nothing_left_in(tmp_path)


def test_one_process_serves_until_the_environment_is_another():
    def python(**env: str) -> str | None:
        settings = {"run": {"preload": ["wave"]}, "env": env}
        return warm_start.python(settings, environment(), sys.__stderr__.buffer)

    first = python(WORD="a")
    assert first and python(WORD="a") == first
    second = python(WORD="b")
    assert second and second != first and not Path(first).exists()
    printed = subprocess.run(
        [second, "-c", "import os; print(os.environ['WORD'])"], capture_output=True, text=True
    )
    assert "KeyError" in printed.stderr  # a fork has the environment of who asks
    warm_start.end()
    assert not Path(second).exists()


def test_what_was_begun_early_serves_the_stages_and_says_what_its_imports_print(tmp_path, monkeypatch):
    (tmp_path / "speaker.py").write_text("import sys; print('spoken', file=sys.stderr)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    settings = {"run": {"preload": ["speaker"]}}
    begun = warm_start.begin(settings, environment())
    assert begun and warm_start.begin(settings, environment()) is begun
    monkeypatch.setenv("SET_BY_AN_IMPORT", "1")  # torch and veRL set some, between the two
    logs = [tmp_path / "first", tmp_path / "second"]
    for log in logs:
        with log.open("wb") as file:
            assert warm_start.python(settings, environment(), file) == begun.executable
    assert [log.read_text() for log in logs] == ["spoken\n", ""]
    warm_start.end()
    assert begun.process.returncode == 0 and not Path(begun.executable).parent.exists()


def test_what_nobody_has_asked_for_yet_is_ended_in_the_midst_of_its_imports(tmp_path, monkeypatch):
    (tmp_path / "sleeper.py").write_text(
        f"import pathlib, time; pathlib.Path({str(tmp_path / 'here')!r}).touch(); time.sleep(600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    begun = warm_start.begin({"run": {"preload": ["sleeper"]}}, environment())
    while not (tmp_path / "here").exists():
        time.sleep(0.05)
    warm_start.end()
    assert begun.process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("self-emo-*"))


def test_none_without_modules_or_where_they_cannot_be_imported(tmp_path):
    assert warm_start.python({}, environment(), io.BytesIO()) is None
    settings = {"run": {"preload": ["no_such_module"]}}
    with (tmp_path / "log").open("wb") as log:
        assert warm_start.python(settings, environment(), log) is None
    assert "No module named 'no_such_module'" in (tmp_path / "log").read_text()
