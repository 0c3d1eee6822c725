"""Whatever a command leaves behind is ended, in every way a run can end; its exit status passes through."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="child subreapers are Linux's"),
    pytest.mark.timeout(120),
]

#: Writes its pid, leaves an orphan in a session of its own (double fork, as daemons do), which writes its
#: pid as well, waits for it, then does what argv[2] says.
COMMAND = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        def respawn(*_):
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                (folder / "heir.tmp").write_text(str(os.getpid()))
                (folder / "heir.tmp").rename(folder / "heir.pid")
                time.sleep(600)
            while not (folder / "heir.pid").exists():
                time.sleep(0.01)
            os._exit(0)
        if "respawn" in sys.argv:
            signal.signal(signal.SIGTERM, respawn)
        (folder / "orphan.tmp").write_text(str(os.getpid()))
        (folder / "orphan.tmp").rename(folder / "orphan.pid")
        time.sleep(600)
    os._exit(0)
os.wait()
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
while not (folder / "orphan.pid").exists():
    time.sleep(0.01)
(folder / "child.tmp").write_text(str(os.getpid()))
(folder / "child.tmp").rename(folder / "child.pid")
eval(sys.argv[2])
"""


@pytest.fixture
def folder(tmp_path):
    """A folder for pids; whatever they name is gone after the test, even a failed one."""
    yield tmp_path
    for path in tmp_path.glob("*.pid"):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(int(path.read_text())).kill()


def supervised(folder: Path, action: str, *options: str) -> list[str]:
    child = [sys.executable, "-c", COMMAND, str(folder), action, *options]
    return [sys.executable, "-m", "recipe.run.supervise", "--", *child]


def wait_for_pids(folder: Path) -> list[int]:
    deadline = time.time() + 60
    while not (folder / "child.pid").exists():
        assert time.time() < deadline, "the command did not start"
        time.sleep(0.05)
    return [int((folder / name).read_text()) for name in ("child.pid", "orphan.pid")]


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int], seconds: float = 0.0) -> bool:
    deadline = time.time() + seconds
    while any(map(running, pids)) and time.time() < deadline:
        time.sleep(0.05)
    return not any(map(running, pids))


def test_the_command_does_leave_an_orphan(folder):
    # Without a supervisor the orphan goes on: the tests below can fail.
    subprocess.run([sys.executable, "-c", COMMAND, str(folder), "sys.exit(0)"], check=True)
    child, orphan = wait_for_pids(folder)
    assert not running(child) and running(orphan)


@pytest.mark.parametrize("status", [0, 7])
def test_an_orphan_does_not_survive_the_end_and_the_status_passes_through(folder, root, status):
    done = subprocess.run(supervised(folder, f"sys.exit({status})"), cwd=root)
    assert done.returncode == status
    assert gone(wait_for_pids(folder))


def test_an_orphan_that_starts_another_process_when_ended(folder, root):
    done = subprocess.run(supervised(folder, "sys.exit(0)", "respawn"), cwd=root)
    assert done.returncode == 0
    heir = int((folder / "heir.pid").read_text())
    assert gone([*wait_for_pids(folder), heir])


def test_a_command_ended_by_a_signal_has_the_shell_s_status(folder, root):
    # As for the signals that the supervisor itself is sent: 128 + number, so 137 for the OOM killer.
    done = subprocess.run(supervised(folder, "os.kill(os.getpid(), signal.SIGKILL)"), cwd=root)
    assert gone(wait_for_pids(folder))
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_supervisor_ends_all(folder, root, number):
    process = subprocess.Popen(supervised(folder, "time.sleep(600)"), cwd=root)
    pids = wait_for_pids(folder)
    assert all(map(running, pids))
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert gone(pids)


def test_sigterm_ends_a_command_that_ignores_it(folder, root):
    process = subprocess.Popen(supervised(folder, "time.sleep(600)", "stubborn"), cwd=root)
    pids = wait_for_pids(folder)
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert gone(pids)


def test_the_death_of_the_supervisor_s_parent_ends_all(folder, root):
    command = supervised(folder, "time.sleep(600)")
    code = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, *command], cwd=root, stdout=subprocess.PIPE, text=True
    )
    supervisor = int(parent.stdout.readline())
    pids = [*wait_for_pids(folder), supervisor]
    assert all(map(running, pids))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pids, seconds=40)


@pytest.mark.parametrize("which", ["outer", "inner", "both"])
def test_a_killed_supervisor_s_command_does_not_live_on(folder, root, which):
    command, environment = supervised(folder, "time.sleep(600)"), os.environ | {"TMPDIR": str(folder)}
    process = subprocess.Popen(command, cwd=root, env=environment)
    pids = wait_for_pids(folder)
    (inner,) = psutil.Process(process.pid).children()
    if which in ("inner", "both"):
        inner.kill()
    if which in ("outer", "both"):
        process.kill()
    process.wait(timeout=60)
    if which == "both":  # nobody is left to end the orphan; the command itself is told by the kernel
        pids = pids[:1]
    else:
        pids.append(inner.pid)
    assert gone(pids, seconds=30)


def test_temporary_files_go_with_the_command(folder, root):
    code = "import tempfile; open(tempfile.mkdtemp() + '/socket', 'w'); print(tempfile.gettempdir())"
    command = [sys.executable, "-m", "recipe.run.supervise", "--", sys.executable, "-c", code]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"TMPDIR": str(folder)}

    def run() -> Path:
        done = subprocess.run(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return Path(done.stdout.strip())

    assert run().parent == folder and list(folder.iterdir()) == []
    # What a kill of everything has left goes with the next one, what is in use stays.
    (folder / "emo-left/ray").mkdir(parents=True)
    other = subprocess.Popen(supervised(folder, "time.sleep(600)"), cwd=root, env=environment)
    wait_for_pids(folder)
    (used,) = folder.glob("emo-*")
    assert used.name != "emo-left"
    run()
    assert list(folder.glob("emo-*")) == [used]
    other.terminate()
    other.wait()
    assert not used.exists()
    # Who joins a cluster of this machine by "auto" finds it in the common folder.
    environment["RAY_ADDRESS"] = "auto"
    assert run() == folder


SHM_DRIVER = """
import pathlib, sys
from recipe.run import supervise
supervise._SHM = pathlib.Path(sys.argv[1])
if "refuse" in sys.argv:
    def refuse(self, missing_ok=False):
        raise PermissionError(1, "Operation not permitted", str(self))
    pathlib.Path.unlink = refuse
sys.exit(supervise.main([sys.executable, "-c", sys.argv[2]]))
"""


def with_shared_memory(tmp_path, root, code: str, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SHM_DRIVER, str(tmp_path), code, *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_shared_memory_that_the_command_leaves_is_removed(tmp_path, root):
    (tmp_path / "psm_before").touch()
    code = f"for n in ('psm_1', 'verl_weights_2', 'sem.mp-3', 'other'): open(r'{tmp_path}/' + n, 'w')"
    done = with_shared_memory(tmp_path, root, code)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "psm_before"]


def test_shared_memory_of_another_user_does_not_fail_the_run(tmp_path, root):
    # Somebody else's segment that appeared meanwhile (its maps cannot be read, nor can it be removed).
    done = with_shared_memory(tmp_path, root, f"open(r'{tmp_path}/psm_theirs', 'w')", "refuse")
    assert done.returncode == 0, done.stderr
