"""`make submit`, `make attach`, `make stop-job`: a run as a job of a Ray cluster, through Ray's job API.

Not by its command `ray job`: that ends with 0 when a job was stopped, with 1 whatever a failed one ended
with, and tells no result of a job that it follows again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import requests
import yaml

from data_prep.masking import masked_url, masked_words
from recipe.run.versions import commit

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("recipe", "rewards", "advantage", "data_prep", "conf", "launch")
#: Seconds within which the cluster's dashboard must answer.
PATIENCE = 5


class SubmitError(ValueError):
    """The cluster cannot be asked as wanted; the message says why and what to do."""


def check_address(address: str) -> str:
    """The address of a dashboard, without a trailing slash; nothing is asked yet.

    Raises:
        SubmitError: it is missing or no such address.
    """
    remedy = "give the cluster's dashboard, for instance RAY_ADDRESS=http://head:8265"
    if not address:
        raise SubmitError(f"RAY_ADDRESS is not set; {remedy}")
    if not address.startswith(("http://", "https://")):
        raise SubmitError(
            f"RAY_ADDRESS={address} does not start with http:// or https://; jobs go to the dashboard, "
            f"not to the port that nodes join at, so {remedy}"
        )
    return address.rstrip("/")


def check_version(address: str) -> None:
    """Ask the cluster for its version of Ray, which must be ours.

    Raises:
        SubmitError: nobody answers, or it is another version.
    """
    try:
        answer = requests.get(f"{address}/api/version", timeout=PATIENCE)
        refused = answer.status_code == requests.codes.unauthorized
        if not refused:
            answer.raise_for_status()
            found = answer.json()["ray_version"]
    except (requests.RequestException, ValueError, KeyError) as error:
        reason = "no answer" if isinstance(error, requests.ConnectionError | requests.Timeout) else error
        raise SubmitError(
            f"no Ray dashboard answers at RAY_ADDRESS={address} ({reason}); start the cluster, open the port "
            "(kubectl port-forward, ssh -L), or correct the address"
        ) from None
    if refused:
        _check_token(address)
    elif found != ray.__version__:
        raise SubmitError(
            f"the cluster at {address} runs Ray {found}, this environment Ray {ray.__version__}; every node "
            "needs the environment of `make setup`, see launch/README.md"
        )


def _check_token(address: str) -> None:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise SubmitError(
            f"the cluster at {address} asks for a token: set RAY_AUTH_MODE=token, and have the cluster's "
            "token in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )  # with it, Ray's own client sends the token, and compares the versions, too


def check_words(arguments: Sequence[str]) -> None:
    """Refuse credentials in a job's command, which the cluster's dashboard shows to everybody.

    Raises:
        SubmitError: which settings hold one.
    """
    if shown := [a.partition("=")[0].lstrip("+") for a in arguments if masked_words(a) != a]:
        raise SubmitError(
            f"{', '.join(shown)} would stand in the job's command, which the cluster's dashboard shows; set "
            "credentials in the environment of its nodes, where `ray start` runs (launch/README.md)"
        )


def entrypoint(run_root: str, arguments: Sequence[str], job: str) -> str:
    """The command of the job, for a shell.

    The code is first copied to the shared disk and run from there, without the job's runtime environment:
    Ray deletes a job's working directory when the first of its stages has left the cluster.

    Args:
        run_root: folder of the runs, on a disk that all nodes share.
        arguments: as for `make train`.
        job: its name.

    Raises:
        SubmitError: a folder is missing or relative, so that each node would take it for another one.
    """
    named = [a.partition("=") for a in arguments if a.startswith("RAW_DIR=")]
    for name, _, folder in [("RUN_ROOT", "=", run_root), *named]:
        if not folder.startswith("/"):
            raise SubmitError(
                f"{name}={folder or '(not set)'}: give the full path of a folder that all nodes share, for "
                f"instance {name}=/shared/{'runs' if name == 'RUN_ROOT' else 'raw'}"
            )
    code = shlex.quote(f"{run_root}/.code/{job}")
    command = shlex.join(["python", "-m", "recipe.main", *arguments, f"run.root={run_root}"])
    return (
        f"mkdir -p {code} && cp -r . {code} && cd {code} && "
        f"exec env -u RAY_JOB_CONFIG_JSON_ENV_VAR SELF_EMO_COMMIT={shlex.quote(commit())} {command}"
    )


@contextmanager
def _code(root: Path) -> Iterator[Path]:
    """What is sent: the checkout, or, where we are installed beside other packages, a copy of ours alone."""
    if (root / "pyproject.toml").is_file():
        yield root
        return
    with tempfile.TemporaryDirectory() as copy:
        for name in PACKAGES:
            shutil.copytree(root / name, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(copy)


def follow(client: Any, job: str, address: str) -> int:
    """Print a job's output until it ends; Ctrl-C leaves it running.

    Returns:
        The job's own exit status; 130 after Ctrl-C.
    """
    where = f"RAY_ADDRESS={masked_url(address)} JOB={job}"
    client.get_job_status(job)  # of an unknown job the log's own error is unreadable
    try:
        asyncio.run(_print_logs(client, job))
        while not (status := client.get_job_status(job)).is_terminal():
            time.sleep(2)
    except KeyboardInterrupt:
        print(f"\nthe job goes on; follow it again: make attach {where}; end it: make stop-job {where}")
        return 130
    info = client.get_job_info(job)
    print(f"{job}: {status}. {info.message or ''}".rstrip())
    if status == "SUCCEEDED":
        return 0
    return info.driver_exit_code or 1


async def _print_logs(client: Any, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is the job's, 2 where nothing could be asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["submit", "attach", "stop"])
    parser.add_argument("--address", default="")
    parser.add_argument("--run-root", default="")
    parser.add_argument("--job", default="")
    parser.epilog = "What follows -- is as for make train."
    own = list(sys.argv[1:] if arguments is None else arguments)
    cut = own.index("--") if "--" in own else len(own)
    args = parser.parse_args(own[:cut])
    try:
        return _act(args, own[cut + 1 :])
    except (SubmitError, RuntimeError) as error:  # Ray's client raises the latter, with the server's answer
        print(f"error: {masked_url(str(error).strip())}", file=sys.stderr)
        return 2


def _act(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    address = check_address(args.address)
    job = args.job or f"self-emo-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    command = None
    if args.action == "submit":
        check_words(arguments)
        command = entrypoint(args.run_root, arguments, job)
    if not command and not args.job:
        raise SubmitError("JOB is not set; `make submit` printed its name, and the dashboard lists all jobs")
    check_version(address)
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(address)
    if args.action == "stop":
        stopped = client.stop_job(args.job)
        print(f"{args.job}: {'is being stopped' if stopped else 'had ended already'}")
        return 0
    if args.action == "attach":
        return follow(client, args.job, address)
    environment = yaml.safe_load((ROOT / "launch/runtime_env.yaml").read_text())
    with _code(ROOT / environment["working_dir"]) as folder:
        environment["working_dir"] = str(folder)
        client.submit_job(entrypoint=command, runtime_env=environment, submission_id=job)
    print(f"submitted as {job}: {masked_words(command or '')}", flush=True)
    return follow(client, job, address)


if __name__ == "__main__":
    sys.exit(main())
