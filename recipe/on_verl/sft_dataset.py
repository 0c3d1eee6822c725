"""Prompt and response as the policy will see and write them, for veRL's SFT trainer.

veRL's own dataset renders the assistant's turn through the chat template, which in thinking models
rewrites the think block. Here the prompt is rendered exactly as for rollouts and the response is
appended as text, so that SFT trains the very tokens that RL will sample.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from recipe.models.special_tokens import plain_messages


class ResponseDataset(Dataset):
    """Rows with ``prompt`` (chat messages) and ``response`` (text)."""

    def __init__(
        self,
        parquet_files: Any,
        tokenizer: Any,
        config: Any,
        processor: Any = None,
        max_samples: int = -1,
    ):
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        table = pa.concat_tables(pq.read_table(f, columns=["prompt", "response"]) for f in files)
        if max_samples > 0:
            table = table.slice(0, max_samples)
        template = dict(config.get("apply_chat_template_kwargs") or {})
        self._rows = [encode(tokenizer, r["prompt"], r["response"], template) for r in table.to_pylist()]
        limit = config.get("max_length")
        for i, (ids, _) in enumerate(self._rows):
            if len(ids) > limit:
                raise ValueError(
                    f"{', '.join(files)}, row {i}: {len(ids)} tokens, more than sft.data.max_length={limit}"
                )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        ids, response_start = self._rows[i]
        positions = torch.arange(len(ids))
        return {
            "input_ids": torch.tensor(ids),
            "position_ids": positions,
            "loss_mask": (positions >= response_start).long(),
        }


def encode_prompt(tokenizer: Any, prompt: list[dict[str, str]], template: dict[str, Any]) -> list[int]:
    """Token ids of a prompt, up to where the response starts: in training and for rollouts the same."""
    text = tokenizer.apply_chat_template(
        plain_messages(prompt, tokenizer), add_generation_prompt=True, tokenize=False, **template
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode(
    tokenizer: Any, prompt: list[dict[str, str]], response: str, template: dict[str, Any]
) -> tuple[list[int], int]:
    """Token ids of a prompt and its response with the end-of-turn token, and where the response starts.

    Neither has a control token of what is written in it: `recipe.models.fit_prompts` makes the prompts so.
    """
    prompt_ids = encode_prompt(tokenizer, prompt, template)
    response_ids = tokenizer(response, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*prompt_ids, *response_ids, tokenizer.eos_token_id], len(prompt_ids)
