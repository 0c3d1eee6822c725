"""A base model with prior knowledge, made on the spot: a small Qwen3 that has read unlabelled dialogues.

The paper starts from a model that knows language. Random weights do not, so what cold start and RL can
show with them is mostly that: `pretrain` teaches a model of about a million parameters to continue
dialogues, in plain PyTorch and in a minute on two cores. It sees no label and no answer form.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

#: Sizes of the model; the vocabulary is the tokenizer's, rounded up to a multiple of 64.
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
MAX_VOCABULARY = 2048
_PIECES = r" ?\d+(?:\.\d+)?| ?\w+|[^\w\s]+(?: [^\w\s]+)*|\s+"
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(texts: Iterable[str]):
    """A byte-level BPE tokenizer trained on ``texts``, with Qwen's special tokens and a chat template.

    Like Qwen's, but a weight such as 0.7 and a run of punctuation may become one token. ``<think>`` and
    ``</think>`` are one token each, but text, so that decoding keeps them.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=MAX_VOCABULARY - 2,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHATML
    )


def make_model(tokenizer, seed: int):
    """A random Qwen3 of `SIZES` for a tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=math.ceil(len(tokenizer) / 64) * 64,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **SIZES,
        )
    )


def train(
    model,
    sequences: Sequence[Sequence[int]],
    *,
    steps: int,
    batch: int,
    seed: int,
    lr: float = 4e-3,
    warmup: float = 0.05,
    max_seconds: float | None = None,
) -> list[float]:
    """Next-token training on whole sequences: AdamW (0.9, 0.95), warm-up, then cosine to a tenth.

    Args:
        sequences: token ids.
        steps: batches; the sequences are drawn in shuffled rounds.
        batch: sequences a step; sequences of like length stand together.
        lr: the highest learning rate.
        warmup: share of the steps.
        max_seconds: of training; the schedule ends there if the steps would take longer.

    Returns:
        The loss of every step, in nats a token.
    """
    import torch

    draw = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    model.train()
    losses: list[float] = []
    batches: list[list[int]] = []
    started = time.monotonic()

    def done() -> float:
        spent = (time.monotonic() - started) / max_seconds if max_seconds else 0.0
        return max(len(losses) / steps, spent)

    while (share := done()) < 1:
        if not batches:
            order = sorted(
                draw.sample(range(len(sequences)), len(sequences)), key=lambda i: len(sequences[i])
            )
            batches = [order[i : i + batch] for i in range(0, len(order), batch)]
            draw.shuffle(batches)
        scale = share / warmup if share < warmup else 0.55 + 0.45 * math.cos(math.pi * share)
        for group in optimizer.param_groups:
            group["lr"] = lr * max(scale, 0.01)
        chosen = [torch.tensor(sequences[i]) for i in batches.pop()]
        ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        known = torch.arange(ids.shape[1])[None] < torch.tensor([len(c) for c in chosen])[:, None]
        hidden = model.model(input_ids=ids, attention_mask=known.long()).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][known[:, 1:]])
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][known[:, 1:]])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses


def pretrain(
    texts: Sequence[str],
    folder: Path,
    seed: int,
    *,
    more_texts: Iterable[str] = (),
    steps: int = 1200,
    batch: int = 32,
    max_seconds: float | None = None,
) -> list[float]:
    """Write a Hugging Face folder: a tokenizer, and a Qwen3 that has read ``texts``.

    Args:
        texts: unlabelled dialogues, each as one string, in the chat form of the prompts (special tokens
            written out), so that the base has met them.
        folder: where the model goes; it must not exist.
        seed: of weights and order.
        more_texts: the tokenizer is trained on these, too (answers, so that they are short).
        steps, batch, max_seconds: see `train`.

    Returns:
        The loss of every step.
    """
    from transformers.utils import logging

    tokenizer = make_tokenizer([*texts, *more_texts])
    model = make_model(tokenizer, seed)
    losses = train(
        model, tokenizer(list(texts), add_special_tokens=False)["input_ids"],
        steps=steps, batch=batch, seed=seed, max_seconds=max_seconds,
    )  # fmt: skip
    logging.disable_progress_bar()
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)
    return losses
