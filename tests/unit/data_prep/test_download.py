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
        self.asked.append(handler.path)
        how = self.script.pop(0) if self.script else "ok"
        content, status, headers = CONTENT, 200, {}
        if how == "wrong":
            content = content[:-1] + b"?"
        elif how == "html":
            content, headers = b"<!doctype html><p>Log in", {"Content-Type": "text/html"}
        elif how == "longer":
            content = content + b"x"
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
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)
    with Server() as server:
        yield server


def leftovers(folder) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_file_is_fetched_once(server, tmp_path):
    assert fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == CONTENT and leftovers(tmp_path) == ["a.csv"]
    assert not fetch(REMOTE, tmp_path, server.url)
    assert server.asked == ["/abc/data/a.csv"]


@pytest.mark.parametrize("trouble", ["cut", "wrong", 429, 500])
def test_what_goes_wrong_once_is_asked_for_again(server, tmp_path, trouble):
    server.script = [trouble]
    assert fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == CONTENT and leftovers(tmp_path) == ["a.csv"]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("wrong", "gives another file than the one with SHA-256 [0-9a-f]{64}"),
        ("longer", "gives another file"),
        ("html", "gives another file.*a proxy or login page may stand between"),
        ("cut", "cannot be had .*3 attempts"),
        (404, "answers status 404; is it still there"),
        (503, "answers status 503"),
    ],
)
def test_what_is_not_the_file_is_never_kept(server, tmp_path, trouble, said):
    server.script = [trouble] * 9
    with pytest.raises(DownloadError, match=said) as caught:
        fetch(REMOTE, tmp_path, server.url)
    assert f"{server.url}/abc/data/a.csv" in str(caught.value)
    assert f"put it at {tmp_path / 'meld/a.csv'}" in str(caught.value)
    assert len(server.asked) == 3 and leftovers(tmp_path) == []


def test_without_a_network(server, tmp_path, monkeypatch):
    with socket.socket() as free:  # a port on which nobody listens
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(DownloadError, match=f"{url}/abc/data/a.csv cannot be had .*refused.*3 attempts"):
            fetch(REMOTE, tmp_path, url)


def test_a_file_that_is_there_is_never_overwritten(server, tmp_path):
    (tmp_path / "meld").mkdir()
    (tmp_path / "meld/a.csv").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"meld/a.csv is there, but is not the file of .*move it away"):
        fetch(REMOTE, tmp_path, server.url)
    assert (tmp_path / "meld/a.csv").read_bytes() == b"mine" and server.asked == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "meld").write_bytes(b"a file")
    with pytest.raises(DownloadError, match="cannot be had .*meld"):
        fetch(REMOTE, tmp_path, server.url)


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
