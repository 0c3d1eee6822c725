"""Models of the Hugging Face hub, fetched before a run starts: whole, checked, and pinned to a revision.

`huggingface_hub` does the work: files go into its cache, what was cut off is continued, HF_ENDPOINT and
HF_TOKEN are its own. What it does not check is the content of a large file, whose SHA-256 the hub states.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from data_prep.files import sha256
from recipe.models.weights import ModelError

GIB = 2**30
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_UNWANTED = ("original/*", "onnx/*", "*.onnx*", "*/*")


@dataclass(frozen=True)
class Fetched:
    """A model that lies on this machine: its folder, and the commit that it was taken from."""

    folder: Path
    revision: str


def check(repo: str) -> None:
    """Fetch a model's configuration alone, to see that the hub has it and gives it away.

    Raises:
        ModelError: why it cannot be had, and the remedy.
    """
    import httpx
    from huggingface_hub import hf_hub_download, logging
    from huggingface_hub.errors import HFValidationError

    logging.set_verbosity_error()  # a line for each of five retries, where one at the end says it all
    try:
        hf_hub_download(repo, "config.json")
    except (httpx.HTTPError, OSError, HFValidationError) as error:
        raise _told(repo, error) from None


def fetch(repo: str, target: Path | None = None) -> Fetched:
    """Have a model's files here, fetching what is missing.

    Args:
        repo: ``owner/name``.
        target: a folder for them; None: the cache of `huggingface_hub`.

    Raises:
        ModelError: why it cannot be had, and the remedy.
    """
    import httpx
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    wanted: dict[str, Any] = {"allow_patterns": list(_WANTED), "ignore_patterns": list(_UNWANTED)}
    try:
        info = HfApi().model_info(repo, files_metadata=True)
    except (httpx.HTTPError, OSError, HFValidationError) as error:
        if (kept := _cached(repo, wanted)) is None:
            raise _told(repo, error) from None
        print(f"  no answer from the hub: {repo} is as it was fetched before, revision {kept.revision[:12]}")
        return kept
    assert info.sha
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    if not any(name.endswith(".safetensors") and "/" not in name for name in sizes):
        raise ModelError(
            f"MODEL={repo!r} has no *.safetensors on the hub; choose a model that has, or convert it and "
            "pass its folder as MODEL=/path/to/folder"
        )

    def lies_here(name: str) -> bool:
        kept = target / name if target else try_to_load_from_cache(repo, name, revision=info.sha)
        return Path(str(kept)).is_file()

    new = [name for name in filter(_is_wanted, sizes) if not lies_here(name)]
    if new:
        _make_room(repo, info.sha, new, sum(sizes[name] for name in new), target)
    try:
        # By its branch, not its commit: the cache then knows which commit to give when the hub is away.
        folder = Path(snapshot_download(repo, local_dir=target, **wanted))
    except (httpx.HTTPError, OSError, RuntimeError) as error:  # RuntimeError: what came was cut for good
        raise _told(repo, error) from None
    stated = {file.rfilename: file.lfs.sha256 for file in info.siblings or () if file.lfs}
    _check_content(repo, folder, {name: stated[name] for name in new if name in stated})
    return Fetched(folder, info.sha)


def _is_wanted(name: str) -> bool:
    return any(fnmatch(name, p) for p in _WANTED) and not any(fnmatch(name, p) for p in _UNWANTED)


def _cached(repo: str, wanted: dict[str, Any]) -> Fetched | None:
    """What an earlier fetch left in the cache, if it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(repo, local_files_only=True, **wanted))
    except (OSError, HFValidationError):
        return None
    return Fetched(folder, folder.name)


def _make_room(repo: str, revision: str, names: list[str], size: int, target: Path | None) -> None:
    from huggingface_hub import constants

    where = target or Path(constants.HF_HUB_CACHE)
    parent = next(p for p in (where, *where.resolve().parents) if p.exists())
    if (free := shutil.disk_usage(parent).free) < size:
        raise ModelError(
            f"MODEL={repo!r} is {size / GIB:.1f} GiB, and the disk of {where} has {free / GIB:.1f} free; "
            "free some, or name another folder in HF_HOME"
        )
    print(
        f"  fetching {repo}, revision {revision[:12]}: {len(names)} files, {size / GIB:.2f} GiB, into "
        f"{where}",
        flush=True,
    )


def _check_content(repo: str, folder: Path, stated: dict[str, str]) -> None:
    for name, wanted in stated.items():
        path = folder / name
        if (found := sha256(path)) != wanted:
            path.resolve().unlink()  # else it would be taken for whole the next time
            path.unlink(missing_ok=True)
            raise ModelError(
                f"MODEL={repo!r}: {name} came with SHA-256 {found[:12]}..., the hub states "
                f"{wanted[:12]}...; it is deleted: run the same command again, and look for a proxy that "
                "changes files"
            )


def _told(repo: str, error: Exception) -> ModelError:
    """Why a model cannot be had, in a line with its remedy."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    at = f"{constants.ENDPOINT}/{repo}"
    if isinstance(error, GatedRepoError):
        return ModelError(
            f"MODEL={repo!r} is gated: accept its terms at {at}, then log in (HF_TOKEN=... in the "
            "environment)"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"MODEL={repo!r}: there is no such model on the model hub ({at}), or it is private; check the "
            "spelling, or log in (HF_TOKEN=... in the environment)"
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return ModelError(
            f"MODEL={repo!r} has no config.json on the model hub ({at}), so it cannot be loaded"
        )
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"MODEL={repo!r} could not be read from the model hub ({reason}). Check the network (HF_ENDPOINT, "
        "https_proxy); what came is kept and continued. Or fetch it elsewhere and pass its folder as "
        "MODEL=/path/to/folder"
    )
