"""A stand-in for the side of the hub that is written to: who one is, repositories, large files, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from urllib.parse import unquote, urlsplit

from tests.unit.local_server import LocalServer

ZERO = "0" * 40


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class WritableHub(LocalServer):
    """Repositories in memory; every commit is a whole new state.

    Attributes:
        users: token -> name and role; a user writes to repositories of that name alone.
        repos: (kind, id) -> commits, each ``oid``, ``summary`` and ``files``, path -> content.
        private: ids of private repositories.
        renamed: id -> the id that a repository has now.
        large: SHA-256 -> content of large files, committed or not.
        failing: parts of paths -> the status that requests to them get.
        before_commit: called before a commit is taken.
        asked: method and path of every request.
    """

    def __init__(self) -> None:
        self.users = {"right-token": {"name": "me", "role": "write"}}
        self.repos, self.private, self.large = {}, set(), {}
        self.renamed, self.failing, self.asked = {}, {}, []
        self.before_commit = lambda: None
        super().__init__()

    def files(self, kind: str, repo: str) -> dict[str, bytes]:
        return self.repos[kind, repo][-1]["files"]

    def commit(self, kind: str, repo: str, files: dict[str, bytes], summary: str = "initial commit") -> str:
        commits = self.repos.setdefault((kind, repo), [])
        oid = hashlib.sha1(f"{repo}{len(commits)}".encode()).hexdigest()
        commits.append({"oid": oid, "summary": summary, "files": files})
        return oid

    # ---- requests ----

    def answer(self, handler) -> None:
        path = unquote(urlsplit(handler.path).path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if handler.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(handler.rfile.readline(), 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        self.asked.append(f"{handler.command} {path}")
        user = self.users.get(handler.headers.get("Authorization", "").removeprefix("Bearer "))
        status, content, headers = self.respond(handler.command, path, body, user)
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(raw))} | headers
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(raw)

    def respond(self, method, path, body, user):
        for part, status in self.failing.items():
            if part in path:
                return status, {"error": "as the test wants it"}, {}
        if path.startswith("/lfs/") and method == "PUT":
            oid = path.removeprefix("/lfs/")
            assert hashlib.sha256(body).hexdigest() == oid
            self.large[oid] = body
            return 200, {}, {}
        if user is None:
            return 401, {"error": "Invalid credentials"}, {}
        if path == "/api/whoami-v2":
            return 200, {"name": user["name"], "auth": {"accessToken": {"role": user["role"]}}}, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if path == "/api/repos/create":
            return self.create(json.loads(body), user)
        found = re.fullmatch(r"(?:/api)?/(?:(models|datasets)/)?([^/]+/[^/]+?)(\.git/info/lfs.*|/.*)?", path)
        kind = (found[1] or "models").removesuffix("s")
        repo, rest = self.renamed.get(found[2], found[2]), found[3] or ""
        if (kind, repo) not in self.repos or (repo in self.private and not self.owns(user, repo)):
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        return self.of_repo(kind, repo, rest, body, user)

    @staticmethod
    def owns(user, repo) -> bool:
        return repo.partition("/")[0] == user["name"]

    def create(self, asked, user):
        repo = f"{asked.get('organization') or user['name']}/{asked['name']}"
        if not self.owns(user, repo):
            return 403, {"error": "no rights in this namespace"}, {}
        kind = asked.get("type", "model")
        if (kind, repo) in self.repos:
            return 409, {"error": "there is one"}, {}
        if asked.get("visibility") == "private" or asked.get("private"):
            self.private.add(repo)
        self.commit(kind, repo, {".gitattributes": b"*.safetensors filter=lfs"})
        return 200, {"url": f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{repo}"}, {}

    def of_repo(self, kind, repo, rest, body, user):
        head = self.repos[kind, repo][-1]
        files = head["files"]
        if re.fullmatch(r"(/revision/\w+)?", rest):
            siblings = [{"rfilename": name} for name in files]
            return 200, {"id": repo, "sha": head["oid"], "siblings": siblings, "private": True, "tags": [],
                         "downloads": 0, "likes": 0}, {}  # fmt: skip
        if rest.startswith("/tree/"):
            return 200, [self.entry(name, content) for name, content in files.items()], {}
        if rest.startswith("/resolve/"):
            content = files[rest.split("/", 3)[3]]
            return 200, content, {"ETag": f'"{blob(content)}"', "X-Repo-Commit": head["oid"]}
        if not self.owns(user, repo):
            return 403, {"error": "no rights to write here"}, {}
        if rest.startswith("/preupload/"):
            return 200, {"files": [self.mode(f["path"], files) for f in json.loads(body)["files"]]}, {}
        if rest.endswith("/info/lfs/objects/batch"):
            return (
                200,
                {"transfer": "basic", "objects": [self.upload(o) for o in json.loads(body)["objects"]]},
                {},
            )
        assert rest.startswith("/commit/"), rest
        self.before_commit()
        return self.take(kind, repo, [json.loads(line) for line in body.splitlines()])

    @staticmethod
    def is_large(name: str) -> bool:
        return name.endswith((".safetensors", ".parquet"))

    def entry(self, name, content):
        found = {"type": "file", "path": name, "size": len(content), "oid": blob(content)}
        if self.is_large(name):
            digest = hashlib.sha256(content).hexdigest()
            found |= {"oid": ZERO, "lfs": {"oid": digest, "size": len(content), "pointerSize": 130}}
        return found

    def mode(self, name, files):
        large = self.is_large(name)
        oid = None
        if name in files:
            oid = hashlib.sha256(files[name]).hexdigest() if large else blob(files[name])
        return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}

    def upload(self, asked):
        if asked["oid"] in self.large:
            return asked
        return asked | {"actions": {"upload": {"href": f"{self.url}/lfs/{asked['oid']}"}}}

    def take(self, kind, repo, lines):
        header = lines[0]["value"]
        if header.get("parentCommit") != self.repos[kind, repo][-1]["oid"]:
            return 412, {"error": "A commit has happened since"}, {}
        files = dict(self.files(kind, repo))
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]
        oid = self.commit(kind, repo, files, header["summary"])
        return 200, {"commitUrl": f"{self.url}/{repo}/commit/{oid}", "commitOid": oid}, {}
