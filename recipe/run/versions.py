"""What a run was made with: the project's commit and the packages that decide its numbers."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from data_prep.files import write_json
from recipe.run.files import read_json

PACKAGES = ("verl", "vllm", "torch", "ray", "transformers")
_ROOT = Path(__file__).parents[2]


def collect() -> dict[str, str]:
    """name -> version; what is not installed or not under git says so."""
    found = {"self-emo (git commit)": commit(), "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def record(folder: Path) -> None:
    """Add the versions to ``<folder>/versions.json``, a list that grows when a run is resumed with others."""
    path = folder / "versions.json"
    known = read_json(path, [], remedy="delete it: only what earlier attempts were made with is lost")
    now = collect()
    if now not in known[-1:]:
        write_json(path, [*known, now])


def commit() -> str:
    """The commit of the code, with ``-dirty`` where it was changed; where it was copied, SELF_EMO_COMMIT."""
    if named := os.environ.get("SELF_EMO_COMMIT"):
        return named
    if not (_ROOT / ".git").exists():  # an installed package, perhaps below somebody else's checkout
        return "unknown: no git checkout"
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown: no git checkout"
    return done.stdout.strip()
