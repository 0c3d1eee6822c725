"""What the unit tests share: hypothesis settings, a small dialogue, a small tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rewards.labels import LABELS

settings.register_profile(
    "unit", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unit")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A byte-level BPE tokenizer with the ChatML template, as a Hugging Face folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["system user assistant Ann Bob joy neutral hello there again"] * 3, trainer)
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    """The tokenizer of ``tokenizer_folder``."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tokenizer_folder))


@pytest.fixture(scope="session")
def make_prompt_row():
    """Builds an original row from (speaker, text) turns, whom the model plays, and a label."""
    from data_prep.prompt import load_templates, render
    from data_prep.rows import make_row

    templates = load_templates("compact")

    def make(
        row_id: str = "meld:d1:3",
        turns: tuple[tuple[str, str], ...] = (("Ann", "Hello."), ("Bob", "Hi."), ("Ann", "I won!")),
        persona: str = "Bob",
        label: dict[str, float] | None = None,
        corpus: str = "meld",
        personas: tuple[str, ...] | None = None,
        **more,
    ):
        names = personas if personas is not None else tuple(dict.fromkeys(name for name, _ in turns))
        profiles = [{"name": name, "profile": f"{name} is {name}."} for name in names]
        context = [{"speaker": speaker, "text": text} for speaker, text in turns]
        played = {"name": persona, "profile": f"{persona} is {persona}."}
        return make_row(
            corpus=corpus,
            prompt=render(context, played, LABELS[corpus], templates),
            ground_truth=label or {LABELS[corpus][0]: 1.0},
            row_id=row_id,
            split="train",
            dialogue_id="d1",
            utterance_id="3",
            context=context,
            persona=played,
            personas=profiles,
            labels=LABELS[corpus],
            **more,
        )

    return make
