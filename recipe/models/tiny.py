"""`builtin:tiny`: a random Qwen3 of 0.7 million parameters and a byte-level BPE tokenizer, made on the spot.

The tokenizer is trained on the run's own prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_prep.files import write_folder

VOCABULARY = 2048
PARAMETERS = 655_000
HEADS = (4, 2)
_PIECES = r" ?\d+(?:\.\d+)?| ?\w+|[^\w\s]+(?: [^\w\s]+)*|\s+"
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny(texts: Iterable[str], folder: Path, seed: int) -> None:
    """Write a random Qwen3 and a tokenizer trained on ``texts`` as a Hugging Face folder."""
    import torch
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import logging

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    # Like Qwen's, but a weight such as 0.9 and a run of punctuation may become one token: short
    # answers, and few places where a random model that has seen a thousand of them can slip.
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - 2,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    # As in Qwen3: one token each, but text, so that decoding keeps them.
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHATML
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=HEADS[0],
            num_key_value_heads=HEADS[1],
            head_dim=32,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    logging.disable_progress_bar()
    write_folder(folder, lambda part: (model.save_pretrained(part), tokenizer.save_pretrained(part)))
