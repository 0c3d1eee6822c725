"""A stand-in for the model hub on this machine (HF_ENDPOINT), which can misbehave in every way we know."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tests.unit.local_server import LocalServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(LocalServer):
    """Serves one folder as ``owner/model``; weights are large files, whose SHA-256 is stated.

    Attributes:
        cut: names of files whose next answer ends in the middle.
        changed: name -> content that is sent in place of the right one.
        gated: whether files want a login.
        sent: names of the files that were sent, ranges included.
    """

    def __init__(self, folder: Path):
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.cut, self.changed, self.gated, self.sent = set(), {}, False, []
        self.closed = False  # a connection that is kept alive would go on being answered
        super().__init__()

    def close(self) -> None:
        self.closed = True
        super().close()

    def answer(self, handler) -> None:
        body = handler.command != "HEAD"

        def send(status: int, content: bytes = b"", **headers: str) -> None:
            handler.send_response(status)
            headers = {"X-Repo-Commit": REVISION, "Content-Length": str(len(content))} | headers
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            if body:
                handler.wfile.write(content)

        if self.closed:
            handler.close_connection = True
            return handler.connection.close()
        path = handler.path.partition("?")[0]
        if "owner/model" not in path:
            return send(404, b"{}", X_Error_Code="RepoNotFound")
        if re.fullmatch(r"/api/models/owner/model(/revision/\w+)?", path):
            info = {
                "id": "owner/model",
                "sha": REVISION,
                "siblings": [self.entry(n, "rfilename") for n in self.files],
            }
            return send(200, json.dumps(info).encode(), Content_Type="application/json")
        if path.startswith("/api/models/owner/model/tree/"):
            tree = [{"type": "file", "oid": "0" * 40} | self.entry(n, "path") for n in self.files]
            return send(200, json.dumps(tree).encode(), Content_Type="application/json")
        if self.gated:
            return send(401, b"{}", X_Error_Code="GatedRepo")
        name = path.rpartition("/")[2]
        if name not in self.files:
            return send(404, b"{}", X_Error_Code="EntryNotFound")
        content = self.changed.get(name, self.files[name])
        tag = {"ETag": f'"{hashlib.sha256(self.files[name]).hexdigest()}"', "Accept-Ranges": "bytes"}
        if not body:
            return send(200, content, **tag)
        start = int(re.match(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=0-"))[1])
        self.sent.append(name)
        if name in self.cut:
            self.cut.discard(name)
            handler.send_response(200)
            for key, value in (
                tag | {"X-Repo-Commit": REVISION, "Content-Length": str(len(content))}
            ).items():
                handler.send_header(key, value)
            handler.end_headers()
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
            handler.close_connection = True
            return handler.connection.close()
        if start:
            tag["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return send(206, content[start:], **tag)
        return send(200, content, **tag)

    def entry(self, name: str, key: str) -> dict:
        content = self.files[name]
        found = {key: name, "size": len(content)}
        if name.endswith(".safetensors"):
            digest = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"sha256": digest, "oid": digest,
                            "size": len(content), "pointerSize": 130}  # fmt: skip
        return found
