"""A checkpoint behind vLLM's own OpenAI-compatible server, on this machine only, while it is wanted."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipe.run.process import environment

#: How long a server may take to load its model, in seconds.
PATIENCE = 600.0
#: What the server calls every checkpoint.
MODEL = "checkpoint"


class ServeError(RuntimeError):
    """vLLM's server did not start; the message holds the end of its log."""


@contextmanager
def served(
    checkpoint: str | Path,
    config: Any,
    log: Path,
    key: str | None = None,
    name: str = MODEL,
    longest: int | None = None,
) -> Iterator[str]:
    """Serve a checkpoint for the length of the block.

    Args:
        checkpoint: a Hugging Face folder or hub id.
        config: the composed configuration: lengths, data type and environment are the run's.
        log: where the server's output goes.
        key: that requests must bring; None: none.
        name: what the server calls the checkpoint.
        longest: tokens of a request and its answer; None: of the run's prompt and response.

    Yields:
        The base URL of the interface, up to and including its version.

    Raises:
        ServeError: the server ended or did not answer in time.
    """
    port = _free_port()
    rollout = config.actor_rollout_ref.rollout
    longest = longest or config.data.max_prompt_length + config.data.max_response_length
    server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    options: dict[str, Any] = {
        "model": checkpoint,
        "served-model-name": name,
        "host": "127.0.0.1",
        "port": port,
        "dtype": rollout.dtype,
        "max-model-len": longest,
        "max-num-batched-tokens": max(rollout.max_num_batched_tokens, longest),
        "tensor-parallel-size": rollout.tensor_model_parallel_size,
        "gpu-memory-utilization": rollout.gpu_memory_utilization,
        "seed": config.run.seed,
        "allowed-origins": "[]",  # no page of another site
    }
    command = [sys.executable, "-m", "recipe.run.supervise", "--", *server]
    command += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    if rollout.enforce_eager:
        command.append("--enforce-eager")
    variables = environment() | {name: str(value) for name, value in config.get("env", {}).items()}
    if key:  # not as an argument, which everybody on the machine sees
        variables["VLLM_API_KEY"] = key
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=variables)
        try:
            _wait_until_ready(process, port, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()  # the supervisor ends all that the server started
            process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait_until_ready(process: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None or time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            raise ServeError(f"vLLM's server did not start; the end of {log}:\n{tail}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
