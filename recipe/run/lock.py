"""One process at a time works on a run, and what a killed one has left running is ended first."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from data_prep.files import drop_parts
from recipe.run.supervise import end_all

NAME = "lock"
#: Of every process that a run starts, and that its processes start: the run's folder.
MARK = "SELF_EMO_RUN"
#: Seconds in which the supervisors of a killed run have ended what it had started.
_PATIENCE = 20.0


class LockedError(ValueError):
    """Another process works on the run; the message says which."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have a run's folder to oneself for the length of the block.

    The kernel holds the lock for the process, so it ends with it, however that ends. What processes before
    this one have left half-written or running is removed and ended.

    Args:
        folder: of the run, which must be there.

    Raises:
        LockedError: another process has it.
    """
    path = folder / NAME
    with _acquired(path) as file:
        file.truncate(0)
        me = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.write(json.dumps(me))
        file.flush()
        _end_what_is_left(folder)
        drop_parts(folder)
        os.environ[MARK] = str(folder.resolve())
        try:
            yield
        finally:
            os.environ.pop(MARK, None)
            path.unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Whether a process works on the run in ``folder``, which need not be there any more."""
    try:
        with (folder / NAME).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _acquired(path: Path) -> TextIO:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _owner(file)
        file.close()
        raise LockedError(f"{path.parent}: {owner} works on this run; wait for it or end it") from None
    except OSError as error:
        print(
            f"note: the disk of {path.parent} knows no locks ({error.strerror}); start this run once",
            flush=True,
        )
    if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
        return file
    file.close()  # its owner has given it back, and its file with it, while it was opened here
    return _acquired(path)


def _owner(file: TextIO) -> str:
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['process']} on {owner['host']}, since {owner['since']},"
    except (ValueError, KeyError, TypeError):  # it is just writing it
        return "another process"


def _end_what_is_left(folder: Path) -> None:
    """End what a killed run has left on this machine: its supervisors do so, unless they were killed, too."""
    me = psutil.Process()
    own = {me.pid, *(parent.pid for parent in me.parents())}
    left = [
        process for process in psutil.process_iter() if process.pid not in own and _is_of(process, folder)
    ]
    if left:
        print(f"{len(left)} processes of a killed run are still there; waiting for their end", flush=True)
        _, alive = psutil.wait_procs(left, timeout=_PATIENCE)
        end_all(alive)


def _is_of(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(folder.resolve())
    except (psutil.Error, OSError):  # gone, or another user's
        return False
