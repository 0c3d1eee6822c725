"""Make prompts fit the model: over-long ones lose whole utterances, the oldest first; all are plain text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.prompt import PromptTemplates, render
from recipe.models.special_tokens import plain_messages


class TooLongError(ValueError):
    """A prompt does not fit even with its last utterance alone; the message names row and remedy."""


def fit_rows(
    rows: Sequence[dict[str, Any]], model: str | Path, config: Any, templates: PromptTemplates
) -> tuple[list[dict[str, Any]], int]:
    """Rows whose prompts have at most ``data.max_prompt_length`` tokens.

    Args:
        rows: rows of `data_prep.rows.SCHEMA`.
        model: whose tokenizer and chat template count.
        config: the composed configuration.
        templates: to render a shortened prompt again.

    Returns:
        The rows, their prompts without the tokenizer's control tokens (`recipe.models.special_tokens`), and
        how many had to be cut. The last utterance is never cut.

    Raises:
        TooLongError: a prompt does not fit even with its last utterance alone.
    """
    return fit_with(load_tokenizer(model), rows, config, templates)


def load_tokenizer(model: str | Path) -> Any:
    """The tokenizer of a model's folder or hub id; no code of the model's own is run."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(model), trust_remote_code=False)


def fit_with(
    tokenizer: Any, rows: Sequence[dict[str, Any]], config: Any, templates: PromptTemplates
) -> tuple[list[dict[str, Any]], int]:
    """`fit_rows` with a tokenizer that is loaded: for many calls, each with a few rows."""
    options, limit = dict(config.data.apply_chat_template_kwargs), config.data.max_prompt_length

    def lengths(prompts: list[list[dict[str, str]]]) -> list[int]:
        texts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False, **options)
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    plain = [plain_messages(row["prompt"], tokenizer) for row in rows]
    fitted = [
        row if row["prompt"] == prompt else {**row, "prompt": prompt}
        for row, prompt in zip(rows, plain, strict=True)
    ]
    cut = 0
    for i, tokens in enumerate(lengths(plain) if rows else []):
        if tokens <= limit:
            continue
        cut += 1
        info = rows[i]["extra_info"]
        more = (info["persona"], info["labels"], templates, info.get("theme") or "")
        # A shorter context never has more tokens, so the longest one that fits is found by halving.
        low, high = 1, len(info["context"])
        while low < high:
            middle = (low + high + 1) // 2
            prompt = plain_messages(render(info["context"][-middle:], *more), tokenizer)
            low, high = (middle, high) if lengths([prompt])[0] <= limit else (low, middle - 1)
        prompt = plain_messages(render(info["context"][-low:], *more), tokenizer)
        if (tokens := lengths([prompt])[0]) > limit:
            raise TooLongError(
                f"{info['row_id']}: the prompt has {tokens} tokens with its last utterance alone, more than "
                f'data.max_prompt_length={limit}; raise it, ARGS="data.max_prompt_length={tokens}" or more'
            )
        fitted[i] = {**rows[i], "prompt": prompt}
    return fitted, cut
