"""Run one command and leave nothing of it behind: `python -m recipe.run.supervise -- command ...`

Ray and vLLM start processes that outlive a killed driver and hold gigabytes. This process adopts
every orphan below it (Linux: child subreaper), is told when its own parent dies, and in every case
ends, by process id, whatever is still there, then removes the shared memory and the temporary files
(sessions of Ray, sockets, locks) that those processes left. Between it and the command stands another one
of its kind, so that what it watches over ends as well when one of the two is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_INNER = "--inner"
_TEMPORARY = "emo-"  # short: the sockets in such a folder have names of 107 characters at most
_SHM = Path("/dev/shm")
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
    command: list[str], environment: Mapping[str, str] | None = None, handles: tuple[int, ...] = ()
) -> int:
    """Run ``command`` and return its exit status; 128 + signal if this process was asked to end.

    Args:
        command: what to run.
        environment: its own; None: this process's.
        handles: of files that it keeps open, too.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: asked.append(n))
    parent, before = os.getppid(), _shared_memory()
    child = subprocess.Popen(
        command,
        env=environment,
        pass_fds=handles,
        start_new_session=True,
        preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    while child.poll() is None and not asked and os.getppid() == parent:
        time.sleep(0.2)
    if child.poll() is None:
        end_all([psutil.Process(child.pid)], patience=5)
    for _ in range(10):  # what is ended may have started another
        if left := psutil.Process().children(recursive=True):
            end_all(left)
    for segment in _shared_memory() - before:
        if str(segment) not in _mapped_files():
            with contextlib.suppress(PermissionError):  # another user's
                segment.unlink(missing_ok=True)
    if asked:
        return 128 + asked[0]
    status = child.wait()
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    own, asked_for = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    if own == [_INNER]:
        sys.exit(main(asked_for))
    inner = [sys.executable, "-m", "recipe.run.supervise", _INNER, "--", *asked_for]
    with _temporary_folder() as (changed, handles):
        status = main(inner, changed, handles)
    sys.exit(status)
