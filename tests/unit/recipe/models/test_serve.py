"""How vLLM's server is started, for chat and for the base model as its own expert; none starts here."""

from __future__ import annotations

import pytest

from recipe.models import serve
from tests.unit.composed import composed


@pytest.mark.parametrize(("hardware", "size"), [("8gpu", 8), ("1gpu", 1)])
def test_a_server_has_the_run_s_variables_and_gpus(monkeypatch, tmp_path, hardware, size):
    started = []

    class Process:
        def __init__(self, command, stdout, stderr, env):
            started.append((command, env))

        def terminate(self):
            started.append("ended")

        def wait(self):
            pass

    monkeypatch.setattr(serve.subprocess, "Popen", Process)
    monkeypatch.setattr(serve, "_wait_until_ready", lambda *_: None)
    config = composed("model=qwen3-8b", "experiment=paper", f"hardware={hardware}")
    with serve.served("/m", config, tmp_path / "log.txt", key="sk-secret", longest=8192) as url:
        assert len(started) == 1 and url.startswith("http://127.0.0.1:")
    command, variables = started[0]
    first = command.index("--model")
    options = dict(zip(command[first::2], command[first + 1 :: 2], strict=False))
    assert (options["--tensor-parallel-size"], options["--max-model-len"]) == (str(size), "8192")
    assert (options["--host"], options["--dtype"]) == ("127.0.0.1", "bfloat16")
    # Nothing is compiled at its start, and its workers are no forks of a process that has opened CUDA.
    assert variables["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert variables["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert variables["VLLM_API_KEY"] == "sk-secret" and not any("sk-secret" in word for word in command)
    assert started[1:] == ["ended"]
