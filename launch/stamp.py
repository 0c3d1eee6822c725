"""What an environment was built from, kept in the environment, and what it would be built from now.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "self-emo.json"
LOCK = "self-emo.lock"  # the lock file that was installed, to tell what has changed since
#: Parts of [project] that an installation carries along but that nothing depends on.
PROSE = {"description", "readme", "license", "authors", "maintainers", "keywords", "classifiers", "urls"}


def lock_of(profile: str) -> Path:
    """The lock file of a profile."""
    return ROOT / f"requirements/{profile}.lock"


def fingerprint(profile: str) -> dict[str, str]:
    """Profile, minor version of this Python, hashes of the lock and of what pyproject.toml installs."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    project = project_part((ROOT / "pyproject.toml").read_text()).encode()
    lock = lock_of(profile).read_bytes()
    return {"profile": profile, "python": python, "lock": _hash(lock), "project": _hash(project)}


def project_part(pyproject: str) -> str:
    """What an installation takes from pyproject.toml: not its prose, nor the settings of ruff or pytest.

    Args:
        pyproject: the file's text.

    Raises:
        tomllib.TOMLDecodeError: it is no TOML.
    """
    import tomllib  # since Python 3.11; setup_env names an older one before it comes here

    content = tomllib.loads(pyproject)
    project = {key: value for key, value in content.get("project", {}).items() if key not in PROSE}
    parts = [content.get("build-system"), project, content.get("tool", {}).get("setuptools")]
    return json.dumps(parts, sort_keys=True)


def read(folder: Path) -> dict[str, str]:
    """What the environment was built from; empty if it was not built to the end, or its Python is gone."""
    path = folder / STAMP
    return json.loads(path.read_text()) if path.exists() and (folder / "bin/python").exists() else {}


def write(folder: Path, built: dict[str, str]) -> None:
    """Say what the environment was built from; the last thing that is done."""
    shutil.copyfile(lock_of(built["profile"]), folder / LOCK)
    (folder / STAMP).write_text(json.dumps(built))


def pins(lock: Path) -> dict[str, str]:
    """Version by package name, of a lock file; empty if there is no such file."""
    lines = lock.read_text().splitlines() if lock.exists() else []
    pinned = (line.partition(" ")[0].partition("==") for line in lines if line and not line.startswith("#"))
    return {name: version for name, _, version in pinned}


def changes(folder: Path, lock: Path) -> tuple[str, list[str]]:
    """How a lock file differs from the one that was installed.

    Returns:
        The first of the packages that differ, as text, and the names of those that it names no more. Both are
        empty if what was installed was not written down.
    """
    old, new = pins(folder / LOCK), pins(lock)
    if not old:
        return "", []
    differ = [
        f"{name} {old.get(name, 'none')} to {new.get(name, 'none')}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]
    more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
    return f"{', '.join(differ[:5])}{more}", sorted(old.keys() - new.keys())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
