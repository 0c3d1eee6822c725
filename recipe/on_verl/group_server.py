"""veRL's vLLM server that also answers a whole group in one call of it."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica


class GroupServer(vLLMHttpServer):
    """Beside veRL's own methods: `generate_group`."""

    async def generate_group(
        self, n: int, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str
    ) -> list[TokenOutput]:
        """``n`` answers to one prompt, each a request of its own, as of ``n`` calls of `generate`."""
        answers = (self.generate(prompt_ids, dict(sampling_params), f"{request_id}_{i}") for i in range(n))
        return await asyncio.gather(*answers)


class GroupReplica(vLLMReplica):
    """To be registered as the replica of ``rollout.name: vllm``."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(GroupServer)
