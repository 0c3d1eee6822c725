"""Rollouts of whole groups at once, for models so small that the way to them costs more than they do.

veRL's agent loop handles every rollout by itself: a configured object, a tokenised prompt, a request to
the server, one to the reward worker and one to TransferQueue each. That suits answers of minutes and many
nodes; with a model of half a million parameters it is four fifths of a step. This manager asks the same
vLLM servers, chosen by veRL's own balancer, a group at a time, scores with the reward function that the
configuration names, and hands the step's rollouts to TransferQueue in one piece, with the fields and tags
that veRL's trainer reads.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import torch
import transfer_queue as tq
from tensordict import NonTensorData, TensorDict
from transformers import AutoTokenizer
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from vllm.sampling_params import RequestOutputKind

from recipe.on_verl.sft_dataset import encode_prompt


class GroupedRollouts:
    """What `actor_rollout_ref.rollout.agent.agent_loop_manager_class` may name in place of veRL's own.

    Single-turn text prompts only; `generate_sequences` returns when the rollouts are there.
    """

    def __init__(self, config: Any, llm_client: Any):
        self._config = config
        self._rollout = config.actor_rollout_ref.rollout
        self._client = llm_client
        self._tokenizer = AutoTokenizer.from_pretrained(
            config.actor_rollout_ref.model.path, trust_remote_code=False
        )
        self._compute_score = get_custom_reward_fn(config)

    @classmethod
    def create(cls, config: Any, llm_client: Any, **_: Any) -> GroupedRollouts:
        """Called by veRL's task runner, which has handles of more workers than are needed here."""
        return cls(config, llm_client)

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Sample, score and store ``rollout.n`` rollouts of every prompt (``val_kwargs.n`` in validation)."""
        shared = {key: value.data for key, value in prompts.items() if isinstance(value, NonTensorData)}
        validate = bool(shared.pop("validate", False))
        columns = {key: value for key, value in prompts.items() if key not in shared and key != "validate"}
        rows = [
            shared | {key: getattr(column[i], "data", column[i]) for key, column in columns.items()}
            for i in range(len(prompts))
        ]
        groups = asyncio.run(self._sample(rows, self._rollout.val_kwargs if validate else self._rollout))
        keys, fields, tags = [], [], []
        for row, (prompt_ids, outputs) in zip(rows, groups, strict=True):
            for i, output in enumerate(outputs):
                keys.append(f"{row['uid']}_{i}_0")
                fields.append(self._fields(row, prompt_ids, output))
                tags.append(_tag(fields[-1], row))
        partition = "val" if validate else "train"
        tq.kv_batch_put(
            keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id=partition
        )
        uids = [row["uid"] for row in rows]
        tq.kv_batch_put(keys=uids, tags=[{"status": "finished"}] * len(uids), partition_id=partition)

    async def _sample(self, rows: list[dict[str, Any]], how: Any) -> list[tuple[list[int], list[Any]]]:
        """For every row its prompt's token ids and the answers to it."""
        template = dict(self._config.data.apply_chat_template_kwargs)
        sampling = {
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "repetition_penalty": 1.0,
            "logprobs": self._rollout.calculate_log_probs,
            "output_kind": RequestOutputKind.FINAL_ONLY,  # else the server is handed every token by itself
            "detokenize": False,  # the rollout's text is made here, of all of its tokens
        }

        async def group(row: dict[str, Any]) -> tuple[list[int], list[Any]]:
            ids = encode_prompt(self._tokenizer, list(row["raw_prompt"]), template)
            request = uuid4().hex
            name, server = await self._client._acquire_server(request, prompt_ids=ids)
            try:
                outputs = await server.generate_group.remote(how.n, ids, sampling, request)
            finally:
                self._client._release_server(name, request_id=request)
            return ids, outputs

        return await asyncio.gather(*(group(row) for row in rows))

    def _fields(self, row: dict[str, Any], prompt_ids: list[int], output: Any) -> dict[str, Any]:
        """A rollout as the trainer reads it; its reward stands on the last token."""
        longest = self._rollout.response_length
        prompt, response = torch.tensor(prompt_ids), torch.tensor(output.token_ids[:longest])
        scored = self._compute_score(
            data_source=row["data_source"],
            solution_str=self._tokenizer.decode(response, skip_special_tokens=True),
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row["extra_info"],
        )
        rewards = torch.zeros(len(response))
        rewards[-1] = scored["score"]
        weights = output.extra_fields["global_steps"]  # the step whose weights have sampled it
        known = {
            "min_global_steps": weights,
            "max_global_steps": weights,
            "turn_scores": [],
            "tool_rewards": [],
            "reward_extra_info": scored,
        }
        fields = {key: value for key, value in row.items() if key != "agent_name"} | {
            "prompts": prompt,
            "responses": response,
            "response_mask": torch.ones_like(response),
            "loss_mask": torch.ones_like(response),
            "input_ids": torch.cat([prompt, response]),
            "position_ids": torch.arange(len(prompt) + len(response)),
            "rm_scores": rewards,
            "num_turns": 2,
            "metrics": {},
            "multi_modal_inputs": {},
            "extra_fields": dict(output.extra_fields) | known,
        }
        if output.log_probs:
            fields["rollout_log_probs"] = torch.tensor(output.log_probs[:longest])
        return fields


def _tag(fields: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """What veRL's replay buffer and its balancing know of a rollout."""
    sizes = {"prompt_len": len(fields["prompts"]), "response_len": len(fields["responses"])}
    versions = {key: fields["extra_fields"][key] for key in ("min_global_steps", "max_global_steps")}
    steps = {"global_steps": row["global_steps"]} | versions
    return {"status": "success", "seq_len": len(fields["input_ids"])} | sizes | steps
