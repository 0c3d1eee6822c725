"""uv and pip themselves, on a package that is nowhere but where pip's configuration says."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from launch import installer
from launch.installer import Pip, Uv, bring_uv
from launch.progress import CommandFailed, Log

NAME = "self-emo-toy"  # in no index
WHEEL = "self_emo_toy-1-py3-none-any.whl"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder with one wheel, and an index of it."""
    folder = tmp_path_factory.mktemp("wheels")
    (folder / f"simple/{NAME}").mkdir(parents=True)
    (folder / f"simple/{NAME}/index.html").write_text(f'<a href="../../{WHEEL}">{WHEEL}</a>')
    about = "self_emo_toy-1.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("self_emo_toy.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return folder


@pytest.fixture(scope="module")
def venv(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    Pip(folder, Log(folder.with_suffix(".log"))).create()
    return folder


def tool(name: str, folder: Path) -> Pip | Uv:
    log = Log(folder.with_suffix(".log"))
    if name == "pip":
        return Pip(folder, log)
    if not (installer.UV_HOME / "bin/uv").exists():
        pytest.skip("uv is not here; make setup brings it")
    (found,) = bring_uv(folder, log)
    return found


@pytest.mark.parametrize("name", ["uv", "pip"])
@pytest.mark.parametrize("said", ["PIP_FIND_LINKS", "PIP_INDEX_URL", "pip.conf", None])
def test_what_is_said_to_pip_holds_for_both(name, said, wheels, venv, tmp_path, monkeypatch):
    for variable in [variable for variable in os.environ if variable.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    conf = tmp_path / "pip.conf"
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    conf.write_text("[global]\nno-index = true\n")
    if said == "PIP_FIND_LINKS":
        monkeypatch.setenv(said, f"{tmp_path}/gone {wheels}")
    elif said == "PIP_INDEX_URL":
        conf.write_text("")
        monkeypatch.setenv(said, (wheels / "simple").as_uri())
    elif said:
        conf.write_text(
            f"[global]\nno-index = true\n[install]\nfind-links =\n  {tmp_path}/gone\n  {wheels}\n"
        )
    lock = tmp_path / "toy.lock"
    lock.write_text(f"{NAME}==1\n")
    one = tool(name, venv)
    if said is None:
        with pytest.raises(CommandFailed):
            one.install_lock(lock, cpu=False)
        return
    one.install_lock(lock, cpu=False)
    subprocess.run([venv / "bin/python", "-c", "import self_emo_toy"], check=True)
    one.uninstall([NAME])
