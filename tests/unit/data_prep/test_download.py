"""Downloads from a real HTTP server on this machine that misbehaves in every way we know."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket

import pytest

from data_prep import download
from data_prep.download import FILES, DownloadError, Remote, fetch
from tests.unit.local_server import LocalServer

CONTENT = bytes(range(256)) * 900  # more than one block
REMOTE = Remote("meld/a.csv", "abc/data/a.csv", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Server(LocalServer):
    """``script`` says how the next requests are treated; then all is well."""

    protocol = "HTTP/1.0"  # an answer that was cut ends with its connection

    def __init__(self):
        self.script, self.asked = [], []
        super().__init__()

    def answer(self, handler) -> None:
        self.asked.append((handler.path, handler.headers["Range"]))
        how = self.script.pop(0) if self.script else "ok"
        start = int((handler.headers["Range"] or "bytes=0-")[6:-1])
        content, status, headers = CONTENT[start:], 206 if start else 200, {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        if how == "no ranges":
            content, status, headers = CONTENT, 200, {}
        elif how == "other range":
            headers["Content-Range"] = f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"
        elif how == "wrong":
            content = content[:-1] + b"?"
        elif how == "html":
            content, headers = b"<!doctype html><p>Log in", {"Content-Type": "text/html"}
        elif how == "endless":
            content = content + b"x" * 10_000_000
        elif isinstance(how, int):
            content, status, headers = b"no", how, {}
        handler.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # the client has seen enough
            handler.wfile.write(content[: len(content) // 2] if how == "cut" else content)


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_PAUSE", 0.001)
    with Server() as server:
        yield server


def leftovers(folder) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_file_is_fetched_once(server, tmp_path):
    assert fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == CONTENT and leftovers(tmp_path) == ["a.csv"]
    assert not fetch(REMOTE, tmp_path, server.url)
    assert server.asked == [("/abc/data/a.csv", None)]


def test_a_cut_connection_is_continued(server, tmp_path):
    server.script = ["cut", "cut"]
    assert fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert [asked for _, asked in server.asked] == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_part_of_an_earlier_run_is_continued(server, tmp_path):
    server.script = ["cut"] + [503] * 4
    with pytest.raises(
        DownloadError, match=re.escape(f"{server.url}/abc/data/a.csv cannot be had (status 503")
    ):
        fetch(REMOTE, tmp_path, server.url)
    assert leftovers(tmp_path) == ["a.csv.part"]
    server.asked.clear()
    assert fetch(REMOTE, tmp_path, server.url)
    assert [asked for _, asked in server.asked] == [f"bytes={len(CONTENT) // 2}-"]


@pytest.mark.parametrize("trouble", ["no ranges", "other range", 429, 500])
def test_servers_with_their_own_mind(server, tmp_path, trouble):
    (tmp_path / "meld").mkdir()
    (tmp_path / "meld/a.csv.part").write_bytes(CONTENT[:1000])
    server.script = [trouble]
    assert fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == CONTENT
    assert len(server.asked) == (1 if trouble == "no ranges" else 2)


@pytest.mark.parametrize("length", [1000, len(CONTENT), len(CONTENT) + 5])
def test_a_part_of_something_else_is_fetched_anew(server, tmp_path, length):
    (tmp_path / "meld").mkdir()
    (tmp_path / "meld/a.csv.part").write_bytes(b"?" * length)
    assert fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == CONTENT and leftovers(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("wrong", r"gives a file with SHA-256 [0-9a-f]{64} \(wanted "),
        ("endless", r"gives a file with SHA-256"),
        ("html", "gives a web page instead of the file"),
        (404, "answers status 404; is it still there"),
    ],
)
def test_what_is_not_the_file_is_never_kept(server, tmp_path, trouble, said):
    server.script = [trouble] * 9
    with pytest.raises(DownloadError, match=said) as caught:
        fetch(REMOTE, tmp_path, server.url)
    assert f"{server.url}/abc/data/a.csv" in str(caught.value)
    assert f"put it at {tmp_path / 'meld/a.csv'}" in str(caught.value)
    assert len(server.asked) == 1 and leftovers(tmp_path) == []


def test_without_a_network(server, tmp_path, monkeypatch):
    with socket.socket() as free:  # a port on which nobody listens
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(DownloadError, match=f"{url}/abc/data/a.csv cannot be had .*refused.*5 attempts"):
            fetch(REMOTE, tmp_path, url)


def test_a_file_that_is_there_is_never_overwritten(server, tmp_path):
    (tmp_path / "meld").mkdir()
    (tmp_path / "meld/a.csv").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"meld/a.csv is there, but is not the file of .*move it away"):
        fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == b"mine" and server.asked == []


def test_the_command_says_what_it_did_and_how_to_get_iemocap(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "FILES", (REMOTE,))
    monkeypatch.setattr(download.fetch, "__defaults__", (server.url,))
    monkeypatch.setattr("sys.argv", ["download", str(tmp_path)])
    assert download.main() == 0
    said = capsys.readouterr().out
    assert "meld/a.csv: fetched, checksum right" in said and "a licence form" in said
    assert f"{tmp_path}/iemocap_split.json" in said and '{"train": [' in said
    (tmp_path / "iemocap").mkdir()
    assert download.main() == 0
    assert capsys.readouterr().out == "meld/a.csv: is there, checksum right\n"
    (tmp_path / "meld/a.csv").write_bytes(b"mine")
    assert download.main() == 1 and capsys.readouterr().err.startswith("error: ")


def test_the_files_are_those_that_the_readers_look_for(tmp_path):
    from data_prep.corpora import find_corpora

    for remote in FILES:
        (tmp_path / remote.target).parent.mkdir(exist_ok=True)
        (tmp_path / remote.target).touch()
        assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256) and re.match(r"[0-9a-f]{40}/", remote.path)
    assert list(find_corpora(tmp_path)) == ["meld", "emorynlp"]
