"""What a disk refuses is one line with a remedy."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from data_prep import disk
from data_prep.disk import in_words, why_failed


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "Read-only file system; make it writable, or name a folder that is (run.root"),
        (errno.EACCES, "run.root"),
        (errno.EIO, "copy the run to another one"),
        (errno.ENOENT, "restore it"),
        (errno.EISDIR, "move it away"),
        (errno.ENOTDIR, "move it away"),
    ],
)
def test_in_words(number, words):
    said = in_words(OSError(number, os.strerror(number), "/runs/a/state.json"), None)
    assert said.startswith("/runs/a/state.json: ") and words in said and "\n" not in said


def test_arrow_names_no_file():
    error = OSError(errno.ENOSPC, "Error writing bytes to file.\nDetail: [errno 28] No space left on device")
    assert in_words(error, None).startswith("[Errno 28] Error writing bytes to file. Detail:")


def test_other_errors_keep_their_traceback(tmp_path):
    assert in_words(ConnectionResetError(errno.ECONNRESET, "reset"), tmp_path) is None
    assert in_words(KeyError("something else"), tmp_path) is None


def test_libraries_have_errors_of_their_own_for_a_full_disk(tmp_path):
    error = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert in_words(error, tmp_path).startswith(f"{tmp_path}: No space left on device; free some space")


def test_why_a_process_failed(tmp_path, monkeypatch):
    assert why_failed(tmp_path, ["RuntimeError: broken"]) is None
    assert "Read-only file system; make it" in why_failed(
        tmp_path, ["OSError: [Errno 30] Read-only file system"]
    )
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    # torch says no more than "PytorchStreamWriter failed writing file".
    assert why_failed(tmp_path, []) == f"the disk of {tmp_path} is full; {disk._FULL}"
