"""How sure a checkpoint is of each token of recognition, self-emotion and reply (Fig. 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipe.evaluation.spans import character_spans, token_ranges
from rewards.labels import corpus_labels
from rewards.parse import KEYS, parse_output


def measure(
    checkpoint: str | Path,
    rows: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[str]],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Mean entropy of the checkpoint's next-token distribution over the tokens of each part.

    Args:
        checkpoint: Hugging Face folder.
        rows: of `data_prep.rows.SCHEMA`, whose prompts were answered.
        answers: row_id -> answers of this checkpoint; the first one counts, if it keeps the rule.
        options: of the chat template.

    Returns:
        ``answers``: how many were measured; and per key of the dictionary the mean over answers of the mean
        over the span's tokens, in nats, None where no answer was valid.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    valid = list(_valid(rows, answers))
    means: dict[str, list[float]] = {key: [] for key in KEYS}
    if valid:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, trust_remote_code=False)
        model = model.to(device).eval()
        for prompt, answer in valid:
            text = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=False, **options
            )
            before = tokenizer(text, add_special_tokens=False)["input_ids"]
            said = tokenizer(
                answer, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
            )
            ids = torch.tensor([before + said["input_ids"]], device=device)
            with torch.inference_mode():
                logits = model(ids, logits_to_keep=len(said["input_ids"]) + 1).logits[0, :-1].float()
            entropy = torch.distributions.Categorical(logits=logits).entropy().cpu().numpy()
            for key, (start, end) in token_ranges(character_spans(answer), said["offset_mapping"]).items():
                means[key].append(float(entropy[start:end].mean()))
        del model
    return {"answers": len(valid)} | {k: float(np.mean(v)) if v else None for k, v in means.items()}


def _valid(
    rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[str]]
) -> Iterator[tuple[list[dict[str, str]], str]]:
    for row in rows:
        text = answers[row["extra_info"]["row_id"]][0]
        if parse_output(text, corpus_labels(row["data_source"])).valid:
            yield [dict(message) for message in row["prompt"]], text
