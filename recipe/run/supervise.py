"""Run one command and leave nothing of it behind: `python -m recipe.run.supervise -- command ...`

Ray and vLLM start processes that outlive a killed driver and hold gigabytes. This process adopts
every orphan below it (Linux: child subreaper), is told when its own parent dies, and in every case
ends, by process id, whatever is still there, then removes the shared memory and the temporary files
(sessions of Ray, sockets, locks) that those processes left. Between it and the command stands another one
of its kind, so that what it watches over ends as well when one of the two is killed.

With `--fork` the command is a module and its arguments, run in a fork of this process: where that is a fork
itself, of one that has imported what the module needs (`recipe.on_verl.warm`), it starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_INNER, _FORK = "--inner", "--fork"
_TEMPORARY = "emo-"  # short: the sockets in such a folder have names of 107 characters at most
_SHM = Path("/dev/shm")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OUR_SHM = ("verl_weights_", "psm_", "sem.mp-", "__KMP_REGISTERED_LIB_")


def end_all(processes: list[psutil.Process], patience: float = 10.0) -> None:
    """Ask processes to end, then make them: SIGTERM, ``patience`` seconds, SIGKILL."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _shared_memory() -> set[Path]:
    return {p for p in _SHM.glob("*") if p.name.startswith(_OUR_SHM)} if _SHM.is_dir() else set()


def _mapped_files() -> set[str]:
    mapped: set[str] = set()
    for process in psutil.process_iter():
        try:
            mapped.update(m.path for m in process.memory_maps())
        except (psutil.Error, OSError):
            continue
    return mapped


@contextlib.contextmanager
def _temporary_folder() -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """The environment of a command whose temporary files go with it, and what its supervisors keep open.

    Their folder is locked while one of them lives, so that the next one knows which were left by a power
    loss or by a kill of both. Who joins a cluster of this machine by ``auto`` finds it in the common folder,
    and so keeps that.
    """
    if os.environ.get("RAY_ADDRESS"):
        yield dict(os.environ), ()
        return
    common = Path(tempfile.gettempdir())
    for left in common.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError), _locked(left):  # another user's, or in use
            shutil.rmtree(left, ignore_errors=True)
    compiled = str(common / f"torchinductor_{os.getuid()}")  # worth keeping
    folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    try:
        with _locked(folder) as handle:
            environment = {"TORCHINDUCTOR_CACHE_DIR": compiled} | os.environ | {"TMPDIR": str(folder)}
            yield environment, (handle,)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


def main(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    handles: tuple[int, ...] = (),
    fork: bool = False,
) -> int:
    """Run ``command`` and return its exit status; 128 + signal if this process was asked to end.

    Args:
        command: what to run.
        environment: its own; None: this process's.
        handles: of files that it keeps open, too.
        fork: the command is a module and its arguments, to be run in a fork.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    asked: list[int] = []
    for number in _SIGNALS:
        signal.signal(number, lambda n, _: asked.append(n))
    parent, before = os.getppid(), _shared_memory()
    child, status = (_forked if fork else _started)(command, environment, handles)
    while status() is None and not asked and os.getppid() == parent:
        time.sleep(0.2)
    if status() is None:
        end_all([psutil.Process(child)], patience=5)
    for _ in range(10):  # what is ended may have started another
        if left := psutil.Process().children(recursive=True):
            end_all(left)
    for segment in _shared_memory() - before:
        if str(segment) not in _mapped_files():
            with contextlib.suppress(PermissionError):  # another user's
                segment.unlink(missing_ok=True)
    if asked:
        return 128 + asked[0]
    ended = status()
    if ended is None:  # it was ended here, since nobody waits for it any more
        return 1
    return 128 - ended if ended < 0 else ended


_Started = tuple[int, Callable[[], int | None]]  # process id, and exit status or -signal once it has ended


def _started(command: list[str], environment: Mapping[str, str] | None, handles: tuple[int, ...]) -> _Started:
    child = subprocess.Popen(
        command,
        env=environment,
        pass_fds=handles,
        start_new_session=True,
        preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    return child.pid, child.poll


def _forked(command: list[str], environment: Mapping[str, str] | None, _: tuple[int, ...]) -> _Started:
    child = multiprocessing.get_context("fork").Process(target=_run_module, args=(command, environment))
    child.start()
    assert child.pid  # it has started
    return child.pid, lambda: child.exitcode


def _run_module(command: list[str], environment: Mapping[str, str] | None) -> None:
    """In the fork: what `python -m <command>` would do."""
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in _SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.update(environment or {})
    tempfile.tempdir = None  # to be found anew in this environment
    sys.argv = list(command)
    # No exit handler runs: a stage closes what it opens, and what it leaves is ended and removed here.
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    own, asked_for = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    fork = _FORK in own
    if _INNER in own:
        sys.exit(main(asked_for, fork=fork))
    inner = ["recipe.run.supervise", *own, _INNER, "--", *asked_for]
    with _temporary_folder() as (changed, handles):
        status = main(inner if fork else [sys.executable, "-m", *inner], changed, handles, fork)
    sys.exit(status)
