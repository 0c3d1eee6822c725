"""Unit tests and programs once more with other Pythons: ``python3 launch/other_pythons.py 3.11 3.12``.

Each version gets an environment of its own beside ``.venv``, with the same lock file. uv finds that Python,
or brings it. A version that is not to be had here, or whose packages are not, is named and left out.
Standard library only: the tests run in the environments.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # called as a file, perhaps with a Python that has nothing installed

from launch import stamp  # noqa: E402
from launch.installer import bring_uv  # noqa: E402
from launch.progress import CommandFailed, Log  # noqa: E402


def environment(version: str, profile: str) -> Path:
    """The folder of an environment with that Python, built if it is not there.

    Args:
        version: such as "3.12".
        profile: whose lock file it has.

    Raises:
        CommandFailed: there is no such Python, or the packages cannot be installed for it.
    """
    folder = ROOT / f".venv-{version}"
    log = Log(ROOT / f".venv-{version}.python.log")
    if not (found := bring_uv(folder, log)):
        raise CommandFailed("other versions of Python are found by uv, which is not to be had here")
    python = found[0].python(version)
    log.run([python, str(ROOT / "launch/setup_env.py"), "--profile", profile, "--folder", str(folder)])
    return folder


def main(versions: list[str]) -> int:
    """Run the tests with every version that is not the one of ``.venv``; 1 if any failed."""
    built = stamp.read(ROOT / ".venv")
    failed = []
    for version in versions:
        if version == built["python"]:
            continue
        try:
            folder = environment(version, built["profile"])
        except CommandFailed as error:
            reason = str(error).splitlines()[-1].strip()
            print(f"Python {version} is left out: {reason}", flush=True)
            continue
        print(f"Python {version}:", flush=True)
        command = [f"{folder}/bin/python", "-m", "pytest", "tests/unit", "tests/programs", "-n", "2"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(version)
    if failed:
        print(f"the tests fail with Python {' and '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
