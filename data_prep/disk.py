"""What a disk refuses, in one line with its remedy."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

_RESUME = "then run the same command again (a run goes on with run.resume=true)"
_FULL = f"free some space (`make clean-runs` deletes all runs), {_RESUME}"
_CLOSED = "make it writable, or name a folder that is (run.root for runs, OUT_DIR for data)"
_OTHER = f"a file stands where a folder belongs, or a folder for a file: move it away, {_RESUME}"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _CLOSED,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.ENOENT: f"restore it, {_RESUME}",
    errno.ENOTDIR: _OTHER,
    errno.EISDIR: _OTHER,
    errno.EIO: f"the disk may be failing: copy the run to another one, {_RESUME}",
}
#: With less than this much room, in bytes, a disk counts as full.
_NO_ROOM = 2**20


def in_words(error: Exception, folder: Path | None) -> str | None:
    """What the disk has to do with an error, in one line: what, where, remedy; None if nothing.

    Args:
        error: of Python, or of a library that has its own for a full disk.
        folder: that was written to, if there is one yet.
    """
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        reason = os.strerror(error.errno) if error.filename else " ".join(str(error).split())
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{reason}; {_REMEDIES[error.errno]}"
    return why_failed(folder, [str(error)]) if folder and folder.is_dir() else None


def why_failed(folder: Path, log: Iterable[str]) -> str | None:
    """What the disk has to do with a process that failed; None if nothing.

    Args:
        folder: that it wrote to.
        log: the end of what it said.
    """
    if shutil.disk_usage(folder).free < _NO_ROOM:
        return f"the disk of {folder} is full; {_FULL}"
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        if any(os.strerror(number) in line for line in log):
            return f"{folder}: {os.strerror(number)}; {_REMEDIES[number]}"
    return None
