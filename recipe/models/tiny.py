"""`builtin:tiny`: a base with prior knowledge, made on the spot: a small Qwen3 that has read dialogues.

The paper starts from a model that knows language. Random weights do not, so what cold start and RL can
show with them is mostly that: `pretrain` teaches a model of half a million parameters to continue
dialogues, in plain PyTorch and in three minutes on two cores. It sees no label and no answer form.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import write_folder

#: Sizes of the model; the vocabulary is the tokenizer's, rounded up to a multiple of 64.
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
}
MAX_VOCABULARY = 2048
#: About so many, for what is checked before the model is made; and its attention heads, key-value heads.
PARAMETERS, HEADS = 550_000, (SIZES["num_attention_heads"], SIZES["num_key_value_heads"])
#: The tokenizer is trained on so many of the texts: they say the same again and again.
_TOKENIZER_TEXTS = 6_000
_PIECES = r" ?\d+(?:\.\d+)?| ?\w+|[^\w\s]+(?: [^\w\s]+)*|\s+"
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(texts: Iterable[str]) -> Any:
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


def make_model(tokenizer: Any, seed: int) -> Any:
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
    model: Any,
    sequences: Sequence[Sequence[int]],
    *,
    steps: int,
    batch: int,
    seed: int,
    lr: float,
    warmup: float = 0.05,
    shown: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Next-token training on whole sequences: AdamW (0.9, 0.95), warm-up, then cosine to a tenth.

    Args:
        sequences: token ids.
        steps: batches; the sequences are drawn in shuffled rounds.
        batch: sequences a step; sequences of like length stand together.
        lr: the highest learning rate.
        warmup: share of the steps.
        shown: told of every step and its loss.

    Returns:
        The loss of every step, in nats a token.
    """
    import torch

    draw = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    model.train()
    losses: list[float] = []
    batches: list[list[int]] = []
    for step in range(steps):
        if not batches:
            order = sorted(
                draw.sample(range(len(sequences)), len(sequences)), key=lambda i: len(sequences[i])
            )
            batches = [order[i : i + batch] for i in range(0, len(order), batch)]
            draw.shuffle(batches)
        done = (step + 1) / steps
        scale = done / warmup if done < warmup else 0.1 + 0.45 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        chosen = [torch.tensor(sequences[i]) for i in batches.pop()]
        ids = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        known = torch.arange(ids.shape[1])[None] < torch.tensor([len(c) for c in chosen])[:, None]
        # No attention mask: what pads a sequence stands behind it, where causal attention does not look.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][known[:, 1:]])
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][known[:, 1:]])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        shown(step + 1, losses[-1])
    return losses


def as_chat(messages: Sequence[Mapping[str, str]]) -> str:
    """Messages in the model's chat form, special tokens written out, the end of the last one included."""
    return "\n".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>" for m in messages)


def make_tiny(texts: Iterable[str], folder: Path, seed: int) -> None:
    """Write a tokenizer trained on ``texts`` and a model of random weights as a Hugging Face folder."""
    tokenizer = make_tokenizer(texts)
    _write(make_model(tokenizer, seed), tokenizer, folder)


def pretrain(
    texts: Sequence[str],
    folder: Path,
    seed: int,
    *,
    more_texts: Iterable[str] = (),
    steps: int,
    batch: int,
    lr: float,
    shown: Callable[[int, float], None] = lambda step, loss: None,
) -> list[float]:
    """Write a Hugging Face folder: a tokenizer, and a Qwen3 that has read ``texts``.

    Args:
        texts: unlabelled dialogues, each as one string; some in the chat form of the prompts (special tokens
            written out), so that the base has met them.
        folder: where the model goes.
        seed: of weights and order.
        more_texts: the tokenizer is trained on these, too (answers, so that they are short).
        steps, batch, lr, shown: see `train`.

    Returns:
        The loss of every step.
    """
    tokenizer = make_tokenizer([*texts[:_TOKENIZER_TEXTS], *more_texts])
    model = make_model(tokenizer, seed)
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    losses = train(model, ids, steps=steps, batch=batch, lr=lr, seed=seed, shown=shown)
    _write(model, tokenizer, folder)
    return losses


def _write(model: Any, tokenizer: Any, folder: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    write_folder(folder, lambda part: (model.save_pretrained(part), tokenizer.save_pretrained(part)))
