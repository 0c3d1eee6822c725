"""Packages come with uv, or else with pip, and both look where pip's configuration says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from launch import installer, pip_settings
from launch.progress import CommandFailed, Log

# ---- pip's configuration ----

LISTED = """:env:.default-timeout='180'
:env:.find-links='/ https://x.example/more'
:env:.index-url=''
global.cert='/etc/ca.pem'
global.extra-index-url='\\nfile:///a\\nfile:///b'
global.find-links='/ignored'
global.index-url='https://user:secret@x.example/simple'
global.constraint='/etc/c.txt'
install.cert='/etc/other.pem'
install.trusted-host='x.example y.example:8080'
freeze.find-links='/not/for/install'
"""


def test_the_environment_overrules_a_command_s_section_which_overrules_the_global_one():
    found = pip_settings.parse(LISTED)
    assert found["find-links"] == "/ https://x.example/more"
    assert found["cert"] == "/etc/other.pem"
    assert found["index-url"] == "https://user:secret@x.example/simple"  # an empty one counts for nothing


def test_uv_is_told_the_same():
    assert pip_settings.for_uv(pip_settings.parse(LISTED), {"HOME": "/h"}) == {
        "HOME": "/h",
        "UV_DEFAULT_INDEX": "https://user:secret@x.example/simple",
        "UV_INDEX": "file:///a file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/,https://x.example/more",
        "UV_CONSTRAINT": "/etc/c.txt",
        "UV_INSECURE_HOST": "x.example y.example:8080",
        "UV_HTTP_TIMEOUT": "180",
        "SSL_CERT_FILE": "/etc/other.pem",
    }


def test_what_was_said_to_uv_itself_stays():
    told = pip_settings.for_uv(
        {"index-url": "p", "find-links": "/p"}, {"UV_INDEX_URL": "u", "UV_FIND_LINKS": "/u"}
    )
    assert told["UV_FIND_LINKS"] == "/u"
    assert "UV_DEFAULT_INDEX" not in told and told["UV_INDEX_URL"] == "u"


def test_a_folder_of_wheels_that_is_gone_is_passed_over_as_by_pip(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    told = pip_settings.for_uv({"find-links": f"{tmp_path}/gone ~ https://x.example"}, {})
    assert told["UV_FIND_LINKS"] == f"{tmp_path},https://x.example"
    assert "UV_FIND_LINKS" not in pip_settings.for_uv({"find-links": f"{tmp_path}/gone"}, {})


def test_certificates_and_proxies(tmp_path):
    def network(pip, **environment):
        told = pip_settings.for_uv(pip, environment)
        return {name: value for name, value in told.items() if not name.startswith("UV_")}

    assert network({}) == {}
    assert network({"cert": str(tmp_path)}) == {"SSL_CERT_DIR": str(tmp_path)}
    assert network({"cert": "/p.pem"}, SSL_CERT_FILE="/e.pem") == {"SSL_CERT_FILE": "/p.pem"}
    assert network({}, REQUESTS_CA_BUNDLE="/r.pem")["SSL_CERT_FILE"] == "/r.pem"
    assert network({}, REQUESTS_CA_BUNDLE="/r.pem", SSL_CERT_FILE="/e.pem")["SSL_CERT_FILE"] == "/e.pem"
    proxies = network({"proxy": "p.example:3128", "client-cert": "/c.pem"}, HTTPS_PROXY="http://other")
    assert proxies["HTTPS_PROXY"] == proxies["http_proxy"] == "http://p.example:3128"
    assert proxies["SSL_CLIENT_CERT"] == "/c.pem"


def test_no_index():
    assert pip_settings.options_for_uv({"no-index": "true"}) == ["--no-index"]
    assert pip_settings.options_for_uv({"no-index": "0"}) == [] == pip_settings.options_for_uv({})


def test_the_pip_of_this_machine_can_be_asked(monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    assert pip_settings.read(Path(sys.executable))["find-links"] == "/a /b"


# ---- uv, then pip ----


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "cpu.lock"
    path.write_text("# pinned\nnumpy==1\ntorch==2+cpu\n")
    return path


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """An installer with stand-ins for uv and for the environment's pip; gives it and what was run.

    They fail at a command that holds a word of ``tools.fails``.
    """
    home, folder, calls = tmp_path / ".uv", tmp_path / ".venv", []

    def run(log, command, environment=None):
        name = "uv" if command[0] == f"{home}/bin/uv" else "pip"
        line = " ".join([name, *command[1:]]).replace(f" --python {folder}/bin/python", "")
        calls.append(line.replace("-m pip --disable-pip-version-check ", ""))
        if any(word in line for word in tools.fails):
            raise CommandFailed(f"{command[0]} failed")

    def make(fails=(), settings=()):
        tools.fails = fails
        monkeypatch.setattr(Log, "run", run)
        monkeypatch.setattr(pip_settings, "read", lambda python: dict(settings))
        monkeypatch.setattr(installer, "_version_of", lambda program: tools.version)
        monkeypatch.setattr(installer, "UV_HOME", home)
        return installer.Installer(folder)

    def tools(*arguments):
        return make(*arguments), calls

    tools.version = installer.UV_VERSION
    return tools


def test_uv_does_it_all(tools, lock):
    one, calls = tools()
    one.create()
    one.install(lock, cpu=True)
    one.install_ourselves()
    assert [call.split(str(lock.parent))[0].strip() for call in calls] == [
        f"uv venv --clear --seed --python {sys.executable}",
        "uv pip install --dry-run --no-deps torch==2+cpu",
        "uv pip install --no-deps -r",
        f"uv pip install --no-deps --no-build-isolation -e {installer.ROOT}",
    ]


def test_a_cpu_build_that_pip_s_indexes_lack_comes_from_pytorch_s(tools, lock):
    one, calls = tools(["--dry-run"])
    one.install(lock, cpu=True)
    assert calls[-1] == f"uv pip install --no-deps -r {lock} --torch-backend cpu"


def test_the_gpu_profile_does_not_ask_for_cpu_builds(tools, lock):
    one, calls = tools()
    one.install(lock, cpu=False, dropped=["b", "a"])
    assert calls == [f"uv pip install --no-deps -r {lock}", "uv pip uninstall a b"]


def test_where_uv_fails_pip_goes_on(tools, lock, capsys):
    one, calls = tools(["uv pip install"])
    one.create()
    one.install(lock, cpu=True, dropped=["a"])
    one.install_ourselves()
    assert "uv failed, going on with pip" in capsys.readouterr().out
    assert calls[0].startswith("uv venv") and calls[2].startswith("uv pip install --no-deps -r")
    assert calls[3:] == [
        "pip install --no-deps torch==2+cpu",
        f"pip install --no-deps -r {lock}",
        "pip uninstall --yes a",
        f"pip install --no-deps --no-build-isolation -e {installer.ROOT}",
    ]


def test_where_uv_cannot_be_installed_pip_does_it_all(tools, lock, capsys):
    tools.version = ""
    one, calls = tools(["uv=="])
    assert "uv is not to be had, going on with pip" in capsys.readouterr().out
    one.create()
    one.install(lock, cpu=False)
    assert calls[-2:] == [f"pip -m venv --clear {one.folder}", f"pip install --no-deps -r {lock}"]


def test_another_version_of_uv_is_replaced(tools):
    tools.version = "0.1.0"
    _, calls = tools()
    assert calls[-1] == f"pip install uv=={installer.UV_VERSION}"


def test_pip_does_what_uv_is_not_told(tools, lock, capsys):
    one, calls = tools((), {"only-binary": ":all:"})
    assert "pip's configuration has only-binary" in capsys.readouterr().out
    one.install(lock, cpu=False)
    assert calls == [f"pip install --no-deps -r {lock}"]


def test_a_torch_that_nobody_has_is_named_with_the_remedy(tools, lock):
    one, _ = tools(["install"])
    with pytest.raises(CommandFailed, match=r"torch==2\+cpu was not found.*PIP_FIND_LINKS"):
        one.install(lock, cpu=True)


def test_pyenv_s_interpreters_are_found_whichever_is_chosen(tmp_path, monkeypatch):
    """Its shim of another version only says where that is."""
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    shims, python = tmp_path / "shims", tmp_path / "versions/3.12.1/bin/python3.12"
    for program, script in (
        (shims / "python3.12", "exit 127"),
        (python, "exit 0"),
        (tmp_path / "versions/3.11.7/bin/python3.11", "exit 1"),
    ):
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    path = installer.with_pyenv(f"{shims}:/usr/bin:/bin", "3.12")
    assert shutil.which("python3.12", path=path) == str(python)
    assert path == f"{python.parent}:/usr/bin:/bin"
    assert installer.with_pyenv("/usr/bin:/bin", "3.13") == "/usr/bin:/bin"


# ---- the log ----


def test_a_command_that_fails_is_shown_with_the_end_of_its_output(tmp_path):
    log = Log(tmp_path / "x.log")
    log.run([sys.executable, "-c", "print('fine')"])
    with pytest.raises(CommandFailed, match="(?s)failed; the end of .*x.log:\n    oh no$"):
        log.run([sys.executable, "-c", "print('oh no'); raise SystemExit(1)"])
    with pytest.raises(CommandFailed, match="/nowhere/uv cannot be started"):
        log.run(["/nowhere/uv"])
    assert log.path.read_text() == "fine\noh no\n"


def test_a_warning_is_no_progress_and_an_error_is_shown(tmp_path, capsys, monkeypatch):
    said = "Collecting torch\\nWARNING: Retrying\\n\\n[notice] A new release of pip\\n"
    program = f"import sys, time; print('{said}', flush=True); time.sleep(1.2); sys.exit(int(sys.argv[1]))"
    log = Log(tmp_path / "x.log")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    log.run([sys.executable, "-c", program, "0"])
    shown = capsys.readouterr().out
    assert "Collecting torch" in shown and "Retrying" not in shown and "notice" not in shown
    assert "WARNING: Retrying" in log.path.read_text()
    with pytest.raises(CommandFailed, match="WARNING: Retrying"):  # after an error nothing is held back
        log.run([sys.executable, "-c", program, "1"])
