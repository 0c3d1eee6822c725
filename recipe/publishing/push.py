"""Onto the hub: every folder as one commit, after everything that can be refused has been.

`huggingface_hub` does the work; HF_TOKEN and HF_ENDPOINT are its own variables. Its `upload_folder` is not
used: with `hf_xet` installed it makes several commits of one folder (huggingface_hub 1.33.0,
``_upload_pipeline``), and what a stop leaves would be half a model. `create_commit` makes one.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.masking import MASK, masked_url
from recipe.publishing import mark
from recipe.run.files import read_json

if TYPE_CHECKING:  # it takes a while to import
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")
#: What the hub itself puts into a new repository.
_HUBS_OWN = {".gitattributes"}


class PushError(ValueError):
    """Nothing could be pushed, or not all; the message says what, why, and what to do."""


@dataclass(frozen=True)
class Upload:
    """A folder that is to be all of a repository.

    Attributes:
        repo: ``owner/name``.
        kind: ``model`` or ``dataset``.
        folder: with its mark.
        run_id: of the run that it is of.
        message: of the commit.
    """

    repo: str
    kind: str
    folder: Path
    run_id: str
    message: str


def check_id(variable: str, repo: str) -> None:
    """Refuse what is no ``owner/name``.

    Raises:
        PushError: it is none.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # it is documented

    try:
        validate_repo_id(repo)
        right = _ID.fullmatch(repo) is not None
    except HFValidationError:
        right = False
    if not right:
        raise PushError(
            f"{variable}={repo!r} is no id of the hub; write it as owner/name, in letters, digits, - _ ."
        )


def token() -> str:
    """The token of the environment.

    Raises:
        PushError: there is none, or what is there is none; what it is stands in no message.
    """
    found = os.environ.get("HF_TOKEN", "").strip()
    if not found:
        raise PushError(
            "HF_TOKEN is not set: make a token that may write at "
            f"{masked_url(_endpoint())}/settings/tokens, and put it into the environment"
        )
    if not (found.isascii() and found.isprintable() and " " not in found):
        raise PushError("HF_TOKEN holds white space or signs that no token has; copy the token again")
    return found


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def push(uploads: Sequence[Upload]) -> Iterator[str]:
    """Push folders, each as one commit.

    Nothing is committed before every repository is known to be free for its folder, and before all large
    files lie on the hub. New repositories are private.

    Args:
        uploads: in the order in which they are to be seen.

    Yields:
        A line for each, once its commit is there.

    Raises:
        PushError: why, and which of them are on the hub nevertheless.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined] # documented, too

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=_endpoint(), token=token())
    done: list[str] = []
    with _told("the token", done):
        _see_rights(api.whoami())
    heads: dict[Upload, str | None] = {}
    for upload in uploads:
        with _told(upload.repo, done):
            heads[upload] = _free_for(api, upload)
    for upload in uploads:
        if heads[upload] is None:
            with _told(upload.repo, done):
                api.create_repo(upload.repo, repo_type=upload.kind, private=True)
                heads[upload] = api.repo_info(upload.repo, repo_type=upload.kind).sha
    # Predictions beside the weights are meant to be there.
    warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
    prepared: dict[Upload, list[CommitOperationAdd | CommitOperationDelete]] = {}
    for upload in uploads:
        with _told(upload.repo, done):
            additions, deletions = _operations(api, upload)
            api.preupload_lfs_files(upload.repo, additions, repo_type=upload.kind, free_memory=False)
            prepared[upload] = [*deletions, *additions]
    for upload in uploads:
        with _told(upload.repo, done):
            made = api.create_commit(
                upload.repo,
                prepared[upload],
                commit_message=upload.message,
                repo_type=upload.kind,
                parent_commit=heads[upload],
            )
        done.append(upload.repo)
        place = f"{'datasets/' if upload.kind == 'dataset' else ''}{upload.repo}"
        what = (
            "was there already, unchanged"
            if made.oid == heads[upload]
            else f"is pushed, commit {made.oid[:12]}"
        )
        yield f"{masked_url(_endpoint())}/{place} {what}"


def _see_rights(user: dict[str, Any]) -> None:
    access = (user.get("auth") or {}).get("accessToken") or {}
    if access.get("role") == "read":
        raise PushError(
            f"HF_TOKEN of {user.get('name')} may only read; make one that may write at "
            f"{masked_url(_endpoint())}/settings/tokens"
        )


def _free_for(api: HfApi, upload: Upload) -> str | None:
    """The commit that a repository is at, if the folder may take its place; None if it is not there.

    Raises:
        PushError: it holds something else.
    """
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        info = api.repo_info(upload.repo, repo_type=upload.kind)
    except RepositoryNotFoundError:
        return None
    if info.id != upload.repo:
        raise PushError(f"{upload.repo} is called {info.id} now; name that")
    there = {
        entry.path: (entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in api.list_repo_tree(upload.repo, recursive=True, revision=info.sha, repo_type=upload.kind)
        if isinstance(entry, RepoFile) and entry.path not in _HUBS_OWN
    }
    if not there:
        return info.sha
    remedy = "name another repository, or delete this one on the hub"
    if mark.NAME not in there:
        raise PushError(
            f"{upload.repo} is there, and holds {len(there)} files that this command has not pushed; {remedy}"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(
            upload.repo, mark.NAME, repo_type=upload.kind, revision=info.sha, local_dir=folder
        )
        try:
            found = read_json(Path(path))
        except ValueError:
            raise PushError(
                f"{upload.repo} is there, and its {mark.NAME} is none of ours; {remedy}"
            ) from None
    if not mark.is_of(found, upload.kind, upload.run_id):
        raise PushError(f"{upload.repo} is there, and is of another run; {remedy}")
    there.pop(mark.NAME)
    if changed := mark.differs(found, there):
        raise PushError(
            f"{upload.repo} was changed on the hub since it was pushed ({changed[0]}), which a push would "
            f"undo; {remedy}"
        )
    return info.sha


def _operations(api: HfApi, upload: Upload) -> tuple[list[CommitOperationAdd], list[CommitOperationDelete]]:
    """What makes a repository the folder, and nothing else."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    paths = {
        p.relative_to(upload.folder).as_posix(): p for p in sorted(upload.folder.rglob("*")) if p.is_file()
    }
    there = set(api.list_repo_files(upload.repo, repo_type=upload.kind)) - _HUBS_OWN
    additions = [CommitOperationAdd(name, path) for name, path in paths.items()]
    return additions, [CommitOperationDelete(name) for name in sorted(there - paths.keys())]


@contextmanager
def _told(what: str, done: Sequence[str]) -> Iterator[None]:
    """Say in a line what the hub answered, without the token, and what is pushed and what not."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    state = f"{' and '.join(done)} is pushed whole, the rest not at all" if done else "nothing is pushed"
    try:
        yield
    except PushError as error:
        raise PushError(f"{error} ({state})") from None
    except HfHubHTTPError as error:
        raise PushError(f"{_why(what, error.response.status_code, error)} ({state})") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as error:
        raise PushError(
            f"{what}: {_line(error)}; check the network (HF_ENDPOINT, https_proxy) and run the same command "
            f"again ({state})"
        ) from None


def _why(what: str, status: int, error: HfHubHTTPError) -> str:
    tokens = f"{masked_url(_endpoint())}/settings/tokens"
    said = f"; the hub says: {_masked(error.server_message)}" if error.server_message else ""
    if status == 401:
        return f"{what}: the hub does not accept HF_TOKEN (401); make a token that may write at {tokens}"
    if status == 403:
        return (
            f"{what}: HF_TOKEN has no right to write there (403{said}); name a repository of your own, or "
            f"let the token write to it at {tokens}"
        )
    if status == 409:
        return f"{what} is there already, hidden from HF_TOKEN (409); name another repository"
    if status == 412:
        return f"{what} was changed while this command was at work (412); run it again"
    return f"{what}: {_line(error)}{said}; run the same command again"


def _line(error: Exception) -> str:
    """The first line of a message, without a credential."""
    return _masked(str(error) or type(error).__name__)


def _masked(text: str) -> str:
    """The first line of a text, without a credential."""
    text = (text.strip().splitlines() or [""])[0]
    if secret := os.environ.get("HF_TOKEN", "").strip():
        text = text.replace(secret, MASK)
    return masked_url(text)
