"""`make lock` and `make lock-check`: resolve ``requirements/<profile>.in`` into its lock file with uv.

``python3 launch/lock.py [profile] [--check]``. Standard library only.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # called as a file, before this project is installed

from launch import stamp  # noqa: E402
from launch.installer import UV_HOME, bring_uv  # noqa: E402
from launch.progress import CommandFailed, Log  # noqa: E402
from launch.setup_env import CPU_TORCH, VENVS  # noqa: E402


def resolve(profile: str, into: Path) -> None:
    """Resolve a profile's requirements; the versions that ``into`` names already are kept where they can be.

    Args:
        profile: names the ``.in`` file and its overrides.
        into: the lock file to write.

    Raises:
        CommandFailed: there is no uv, or no set of versions meets the requirements.
    """
    found = bring_uv(UV_HOME, Log(ROOT / ".lock.log"))  # the packages are looked up for .uv's own Python
    if not found:
        raise CommandFailed("a lock file is resolved by uv, which is not to be had here")
    found[0].compile(
        ROOT / f"requirements/{profile}.in",
        ROOT / f"requirements/overrides-{profile}.txt",
        into,
        cpu=profile in CPU_TORCH,
    )


def main() -> int:
    """Write the lock file, or say what of it would change; 1 if something would."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", nargs="?", choices=list(VENVS), default=os.environ.get("PROFILE") or "cpu")
    parser.add_argument("--check", action="store_true", help="write nothing, show the difference")
    args = parser.parse_args()
    lock = stamp.lock_of(args.profile)
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / lock.name
        shutil.copyfile(lock, made)
        try:
            resolve(args.profile, made)
        except CommandFailed as error:
            sys.exit(f"error: {error}")
        old, new = (path.read_text().splitlines() for path in (lock, made))
        if not args.check:
            shutil.copyfile(made, lock)
    differ = [
        line
        for line in difflib.unified_diff(old, new, n=0, lineterm="")
        if line[:2] not in ("--", "++", "@@")
    ]
    print("\n".join(differ) or f"{lock.name} is what its .in resolves to")
    return 1 if args.check and differ else 0


if __name__ == "__main__":
    sys.exit(main())
