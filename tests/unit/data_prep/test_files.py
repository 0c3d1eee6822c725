"""What has its final name is whole and on the disk, in the order that a power loss asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_prep import files
from data_prep.files import (
    commit,
    drop_parts,
    part_of,
    replace_folder,
    write_folder,
    write_json,
    write_text,
)
from data_prep.rows import write_records, write_rows


@pytest.fixture
def operations(monkeypatch):
    """What is asked of the disk, in order: (operation, name). All of it is really done."""
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        fsync(handle)

    def replaced(source, target, **more) -> None:
        done.append(("rename", Path(target).name))
        replace(source, target, **more)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    return done


def test_a_folder_is_on_the_disk_before_its_name_is(tmp_path, operations):
    work = tmp_path / "step.work"
    (work / "model").mkdir(parents=True)
    for name in ("rows", "model/weights"):
        (work / name).write_text(name)
    assert commit(work, tmp_path / "step").is_dir()
    at = operations.index(("rename", "step"))
    before = {name for _, name in operations[:at]}
    assert before == {"rows", "weights", "model", "step.work"}
    assert operations.index(("sync", "weights")) < at
    assert operations[at + 1 :] == [("sync", tmp_path.name)]


@pytest.mark.parametrize(
    "write",
    [
        lambda path, row: write_text(path, "a"),
        lambda path, row: write_json(path, {}),
        lambda path, row: write_rows([row], path),
        lambda path, row: write_records([{"a": 1}], path),
    ],
)
def test_whatever_writes_a_file_commits_it(tmp_path, operations, write, make_prompt_row):
    write(tmp_path / "file", make_prompt_row())
    (part, _), rename, parent = operations[0], operations[1], operations[2]
    assert part == "sync" and rename == ("rename", "file") and parent == ("sync", tmp_path.name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_another_process_has_made_meanwhile_stays(tmp_path):
    def write(part: Path) -> None:
        (part / "a").write_text("ours")
        (tmp_path / "model").mkdir()
        (tmp_path / "model/a").write_text("theirs")

    write_folder(tmp_path / "model", write)
    assert (tmp_path / "model/a").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_committed_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files, "commit", refuse)
    with pytest.raises(PermissionError):
        write_folder(tmp_path / "model", lambda part: None)


def test_a_disk_that_cannot_sync_folders(tmp_path, monkeypatch):
    def refuse(handle: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(os, "fsync", refuse)
    number = 22  # EINVAL, as some network disks say of a folder
    files.sync(tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(OSError):
        files.sync(tmp_path)
    (tmp_path / "a").unlink()
    number = 5  # EIO
    with pytest.raises(OSError):
        files.sync(tmp_path)


def test_what_was_not_committed_is_dropped(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rows.parquet").write_text("whole")
    part_of(tmp_path / "a/rows.parquet").write_text("half")
    part_of(tmp_path / "model").mkdir()
    (part_of(tmp_path / "model") / "weights").write_text("half")
    drop_parts(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["a", "a/rows.parquet"]


def test_two_processes_write_under_names_of_their_own(tmp_path, monkeypatch):
    mine = part_of(tmp_path / "answer.json")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert part_of(tmp_path / "answer.json") != mine


def test_records_say_what_they_are_about(tmp_path):
    write_records([{"a": 1}], tmp_path / "new/part.parquet", {"of": "key"})
    assert pq.read_schema(tmp_path / "new/part.parquet").metadata[b"of"] == b"key"


def test_a_folder_takes_another_s_place_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    for text in ("first", "second"):
        replace_folder(folder, lambda part, text=text: (part / text).write_text(text))
        assert [path.name for path in folder.iterdir()] == [text]

    def broken(part: Path) -> None:
        (part / "third").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        replace_folder(folder, broken)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "model",
        "model/second",
    ]

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files, "commit", refuse)  # after the older one was moved aside
    with pytest.raises(PermissionError):
        replace_folder(folder, lambda part: None)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "model",
        "model/second",
    ]
