"""vLLM with a checkpoint: in this process, or several of them at once, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

#: Chat messages of each prompt -> the answers to each.
Ask = Callable[[Sequence[Sequence[Mapping[str, str]]]], list[list[str]]]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: ``n`` to a prompt at ``temperature``, 0 being greedy."""

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0


class Engine:
    """One replica.

    Args:
        config: the composed configuration.
        checkpoint: Hugging Face folder or hub id.
        sampling: how to draw answers.
        number: which replica this is; draws with a seed of its own.
        replicas: how many share this machine's threads.
    """

    def __init__(self, config: Any, checkpoint: str, sampling: Sampling, number: int = 0, replicas: int = 1):
        from vllm import LLM, SamplingParams

        if replicas > 1:
            import torch

            torch.set_num_threads(max(1, torch.get_num_threads() // replicas))
        rollout = config.actor_rollout_ref.rollout
        longest = config.data.max_prompt_length + config.data.max_response_length
        self._engines = [
            LLM(
                model=checkpoint,
                trust_remote_code=False,
                dtype=rollout.dtype,
                enforce_eager=rollout.enforce_eager,
                gpu_memory_utilization=rollout.gpu_memory_utilization,
                tensor_parallel_size=rollout.tensor_model_parallel_size,
                max_model_len=longest,
                max_num_batched_tokens=max(rollout.max_num_batched_tokens, longest),
                seed=config.run.seed + number,
                disable_log_stats=True,
            )
        ]
        self._parameters = SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=config.data.max_response_length,
        )  # no seed: vLLM cannot seed single requests on a CPU; the engine has one
        self._template = dict(config.data.apply_chat_template_kwargs)

    def answer(self, prompts: Sequence[Any]) -> list[list[str]]:
        """The answers to each of some chat messages."""
        outputs = self._engines[0].chat(
            list(prompts), self._parameters, use_tqdm=False, chat_template_kwargs=self._template
        )
        return [[answer.text for answer in output.outputs] for output in outputs]

    def close(self) -> None:
        """Give its memory back, which is wanted for the next checkpoint."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._engines.clear()
        cleanup_dist_env_and_memory()


@contextmanager
def loaded(config: Any, checkpoint: str, sampling: Sampling) -> Iterator[Ask]:
    """Have a checkpoint at hand for the length of the block; on a CPU in ``evaluate.replicas`` replicas.

    A small model keeps one core busy with what vLLM does for each answer in Python, and leaves the others
    idle. On GPUs, and where a replica is several processes itself (``rollout.tensor_model_parallel_size``),
    one answers: eight processes on two cores took seven times as long as four.

    Args:
        config: the composed configuration.
        checkpoint: Hugging Face folder or hub id.
        sampling: how to draw answers.
    """
    alone = config.trainer.device != "cpu" or config.actor_rollout_ref.rollout.tensor_model_parallel_size > 1
    replicas = 1 if alone else config.evaluate.get("replicas", 1)
    if replicas == 1:
        engine = Engine(config, checkpoint, sampling)
        try:
            yield engine.answer
        finally:
            engine.close()
        return

    import ray

    remote = ray.remote(num_cpus=0)(Engine)  # what a CPU counts here is logical
    engines = [remote.remote(config, checkpoint, sampling, number, replicas) for number in range(replicas)]

    def ask(prompts: Sequence[Any]) -> list[list[str]]:
        parts = ray.get([engine.answer.remote(prompts[i::replicas]) for i, engine in enumerate(engines)])
        return in_turn(parts)

    try:
        yield ask
    finally:
        for engine in engines:
            ray.kill(engine)


def in_turn(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """What was dealt out as ``items[i::n]``, in the order of ``items``."""
    return [parts[place % len(parts)][place // len(parts)] for place in range(sum(map(len, parts)))]
