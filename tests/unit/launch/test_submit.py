"""`make submit` and its fellows: wrong arguments are named at once; the job's exit status comes back."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import yaml
from ray.job_submission import JobStatus

from launch import submit
from launch.submit import SubmitError, check_address, check_version, entrypoint, follow, main


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "RAY_ADDRESS is not set"),
        ("auto", "does not start with http://"),
        ("head:8265", "does not start with http://"),
        ("ray://head:10001", "does not start with http://"),
        ("10.0.0.1:6379", "not to the port that nodes join at"),
    ],
)
def test_addresses_that_are_none(address, said, capsys):
    with pytest.raises(SubmitError, match=said):
        check_address(address)
    assert main(["submit", "--address", address, "--run-root", "/r"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: RAY_ADDRESS") and "RAY_ADDRESS=http://head:8265" in error


def test_addresses_of_dashboards():
    assert check_address("http://head:8265/") == "http://head:8265"
    assert check_address("https://ray.example.org") == "https://ray.example.org"


@pytest.mark.parametrize(
    ("run_root", "arguments", "said"),
    [
        ("", [], "RUN_ROOT=(not set)"),
        ("runs", [], "RUN_ROOT=runs: give the full path"),
        ("/shared/runs", ["RAW_DIR=data/raw"], "RAW_DIR=data/raw: give the full path"),
    ],
)
def test_folders_that_nodes_cannot_share(run_root, arguments, said, capsys):
    with pytest.raises(SubmitError) as caught:
        entrypoint(run_root, arguments, "job")
    assert said in str(caught.value)
    assert main(["submit", "--address", "http://nobody:1", "--run-root", run_root, "--", *arguments]) == 2
    assert said in capsys.readouterr().err  # before anybody is asked


def test_the_job_s_command_survives_its_shell(tmp_path):
    """Run as it is, with a stand-in for python that says where it is and what it was given."""
    (tmp_path / "code/recipe").mkdir(parents=True)
    (tmp_path / "code/recipe/main.py").write_text("")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text('#!/bin/sh\npwd\nls\necho "job: $RAY_JOB_CONFIG_JSON_ENV_VAR"\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    arguments = ["MODEL=Qwen3-8B", "RAW_DIR=/shared/a b", "NAME=x", "corpora=[meld]", "a='$HOME'"]
    root = f"{tmp_path}/my runs"
    done = subprocess.run(
        entrypoint(root, arguments, "job-1"),
        shell=True, cwd=tmp_path / "code", capture_output=True, text=True,
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{root}/.code/job-1", "recipe", "job: ", "-m", "recipe.main", *arguments, f"run.root={root}",
    ]  # fmt: skip


@pytest.mark.parametrize("action", ["attach", "stop"])
def test_a_job_without_a_name(action, capsys):
    assert main([action, "--address", "http://nobody:1"]) == 2
    assert "JOB is not set" in capsys.readouterr().err


# ---- the cluster's answer ----


@contextmanager
def dashboard(answer: bytes, status: int = 200):
    """A server that answers everything with ``answer``; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_version_of_the_cluster():
    with dashboard(json.dumps({"ray_version": ray.__version__}).encode()) as address:
        check_version(address)
    with (
        dashboard(b'{"ray_version": "1.9.0"}') as address,
        pytest.raises(SubmitError, match="runs Ray 1.9.0.*Ray " + ray.__version__ + ".*launch/README.md"),
    ):
        check_version(address)


@pytest.mark.parametrize(("answer", "status"), [(b"<html>", 200), (b"{}", 200), (b"[]", 500), (b"", 404)])
def test_something_else_answers(answer, status):
    with dashboard(answer, status) as address, pytest.raises(SubmitError, match="no Ray dashboard answers"):
        check_version(address)


def test_a_cluster_that_asks_for_a_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with (
        dashboard(b"", 401) as address,
        pytest.raises(SubmitError, match="^the cluster at .* asks for a token: set RAY_AUTH_MODE=token"),
    ):
        check_version(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with dashboard(b"", 401) as address:
        check_version(address)  # from here on it is Ray's own client that asks


def test_nobody_answers(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SubmitError, match=rf"RAY_ADDRESS=http://127.0.0.1:{port} \(no answer\)"):
        check_version(f"http://127.0.0.1:{port}")
    with socket.socket() as silent:  # takes the connection and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(submit, "PATIENCE", 0.1)
        with pytest.raises(SubmitError, match="no answer"):
            check_version(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_nothing_waits_for_long():
    assert submit.PATIENCE < 10


# ---- following ----


class Client:
    """Stands for Ray's client: a job with some output and an end."""

    def __init__(self, *statuses: JobStatus, code: int | None = None, interrupt: bool = False):
        self.statuses, self.code, self.interrupt = list(statuses), code, interrupt
        self.submitted = None

    async def tail_job_logs(self, job):
        yield "one\n"
        if self.interrupt:
            raise KeyboardInterrupt
        yield "two\n"

    def get_job_status(self, job):
        return self.statuses.pop(0)

    def get_job_info(self, job):
        return SimpleNamespace(message="It ended.", driver_exit_code=self.code)

    def submit_job(self, **what):
        self.submitted = what
        return "raysubmit_1"


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 3, 3),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 1),
    ],
)
def test_the_exit_status_is_the_job_s(monkeypatch, capsys, status, code, wanted):
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    running = JobStatus.RUNNING
    assert follow(Client(running, running, status, code=code), "j", "http://h:1") == wanted
    assert capsys.readouterr().out == f"one\ntwo\nj: {status}. It ended.\n"


def test_ctrl_c_leaves_the_job_running(capsys):
    assert follow(Client(JobStatus.RUNNING, interrupt=True), "j", "http://h:1") == 130
    out = capsys.readouterr().out
    assert "make attach RAY_ADDRESS=http://h:1 JOB=j" in out and "make stop-job" in out


def test_a_job_that_nobody_knows(monkeypatch, capsys):
    class Stranger(Client):
        def get_job_status(self, job):
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: Stranger())
    monkeypatch.setattr(submit, "check_version", lambda address: None)
    assert main(["attach", "--address", "http://h:1", "--job", "nope"]) == 2
    assert capsys.readouterr().err.endswith("Job nope does not exist.\n")


def test_what_is_submitted(monkeypatch, root):
    client = Client(JobStatus.PENDING, JobStatus.SUCCEEDED)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: client)
    monkeypatch.setattr(submit, "check_version", lambda address: None)
    arguments = ["submit", "--address", "http://h:1/", "--run-root", "/r", "--", "MODEL=tiny", "run.seed=2"]
    assert main(arguments) == 0
    job = client.submitted["submission_id"]
    assert job.startswith("self-emo-") and f"mkdir -p /r/.code/{job} " in client.submitted["entrypoint"]
    assert client.submitted["entrypoint"].endswith("python -m recipe.main MODEL=tiny run.seed=2 run.root=/r")
    assert client.submitted["runtime_env"]["working_dir"] == str(root)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("+env.HF_TOKEN=planted", "env.HF_TOKEN"),
        ("++env.WANDB_API_KEY='planted'", "env.WANDB_API_KEY"),
        ("raw_dir=https://u:planted@h/x", "raw_dir"),
        ("raw_dir=https://h/x?sig=planted", "raw_dir"),
        ("+env={HF_TOKEN:planted}", "env"),
        ('+trainer.x={"api_key": "planted"}', "trainer.x"),
    ],
)
def test_a_credential_is_not_sent_in_a_command_that_the_dashboard_shows(monkeypatch, capsys, word, name):
    client = Client(JobStatus.PENDING, JobStatus.SUCCEEDED)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: client)
    monkeypatch.setattr(submit, "check_version", lambda address: None)
    given = ["--address", "http://me:planted@h:1/", "--run-root", "/r", "--", "MODEL=tiny"]
    assert main(["submit", *given, word]) == 2
    said = capsys.readouterr()
    assert f"error: {name} would stand in the job's command" in said.err and client.submitted is None
    assert main(["submit", *given]) == 0
    assert "planted" not in said.out + said.err + capsys.readouterr().out


def test_an_installed_package_sends_itself_and_not_its_neighbours(monkeypatch, root, tmp_path):
    for name in submit.PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "torch").mkdir()
    shutil.copy(root / "launch/runtime_env.yaml", tmp_path / "launch")
    sent = []

    class Uploading(Client):
        def submit_job(self, **given):
            sent.extend(sorted(p.name for p in Path(given["runtime_env"]["working_dir"]).iterdir()))
            return super().submit_job(**given)

    client = Uploading(JobStatus.PENDING, JobStatus.SUCCEEDED)
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", lambda address: client)
    monkeypatch.setattr(submit, "check_version", lambda address: None)
    monkeypatch.setattr(submit, "ROOT", tmp_path)
    assert main(["submit", "--address", "http://h:1/", "--run-root", "/r", "--", "MODEL=tiny"]) == 0
    assert sent == sorted(submit.PACKAGES)


def test_code_travels_and_neither_data_nor_runs(root, tmp_path):
    from ray._private.runtime_env.packaging import create_package

    code = ["recipe/main.py", "conf/self_emo.yaml", "data_prep/prompts/full/user.txt", "Makefile"]
    code += ["data_prep/prompts/full/user.txt", "recipe/report.html.j2", "data_prep/data.py"]
    other = [".venv/bin/python", ".uv/bin/uv", ".git/HEAD", "runs/x/config.yaml", "data/raw/meld/a.csv"]
    other += [
        ".env",
        "conf/.env.local",
        "prod.env",
        ".netrc",
        ".aws/credentials",
        "launch/id_rsa",
        "a/key.pem",
    ]
    other += [".config/x/token.json", ".git-credentials", "secrets.yaml", "my.token", ".huggingface/token"]
    other += ["data/train.parquet", "mine/train.parquet", "mine/model.safetensors", "outputs/a", "x.log"]
    for name in code + other:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("x")
    excludes = yaml.safe_load((root / "launch/runtime_env.yaml").read_text())["excludes"]
    create_package(str(tmp_path / "tree"), tmp_path / "package.zip", True, excludes=excludes)
    with zipfile.ZipFile(tmp_path / "package.zip") as package:
        assert {name for name in package.namelist() if not name.endswith("/")} == set(code)
