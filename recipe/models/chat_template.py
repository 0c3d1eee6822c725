"""Whether a model's tokenizer and chat template can carry this recipe's prompts and answers."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from recipe.models.weights import ModelError
from rewards.parse import THINK_CLOSE, THINK_OPEN

#: Seconds within which a template must have written one prompt.
PATIENCE = 10.0
#: What a template that asks for the date is given.
_DATE = "(the date of today)"


class _TooSlow(BaseException):
    """No `Exception`: a template's own error handling must not take it for one of its own."""


def check_model(path: str, options: Mapping[str, Any], name: str) -> None:
    """The same for a model's folder or hub id."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # whatever transformers raises where files are missing or broken
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"MODEL={name} has no tokenizer that can be read: {reason}") from None
    check_template(tokenizer, options, name)


def check_template(tokenizer: Any, options: Mapping[str, Any], name: str) -> None:
    """Refuse a tokenizer with which no prompt could be written, or no answer could keep the rule of Eq. 8.

    Args:
        tokenizer: a Hugging Face tokenizer.
        options: ``data.apply_chat_template_kwargs``.
        name: of the model, for the message.

    Raises:
        ModelError: what stands in the way.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"MODEL={name} has no chat template; choose an instruct model, and if it is a folder, one that "
            "holds the tokenizer's files as well"
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of MODEL={name} has no end-of-text token (eos_token)")
    prompt = [{"role": "system", "content": "The persona."}, {"role": "user", "content": "The dialogue."}]
    try:
        with _at_most(PATIENCE):
            text = tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, tokenize=False, strftime_now=lambda form: _DATE, **options
            )
        lost = [message["role"] for message in prompt if message["content"] not in text]
    except _TooSlow:
        raise ModelError(
            f"the chat template of MODEL={name} does not end within {PATIENCE:g} s; choose another model, or "
            "mend its chat_template.jinja"
        ) from None
    except Exception as error:  # a template raises what it likes
        raise ModelError(
            f"the chat template of MODEL={name} takes no system and user message ({error}); the system "
            "message says whom the model plays, so choose a model whose template has one"
        ) from None
    if lost:
        raise ModelError(
            f"the chat template of MODEL={name} drops the {lost[0]} message; choose another model"
        )
    if THINK_OPEN in text or THINK_CLOSE in text:
        raise ModelError(
            f"the chat template of MODEL={name} writes {THINK_OPEN} into the prompt, and an answer must "
            "hold its think block whole. Leave data.apply_chat_template_kwargs.enable_thinking alone, or "
            "choose a model that opens the block itself"
        )
    if _DATE in text:
        print(
            f"note: the chat template of MODEL={name} writes the date into every prompt: prompts differ from "
            "day to day; data.apply_chat_template_kwargs.date_string names one, where the template asks "
            "for it",
            file=sys.stderr,
            flush=True,
        )
    answer = f"{THINK_OPEN}a{THINK_CLOSE}"
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") != answer:
        raise ModelError(
            f"the tokenizer of MODEL={name} counts {THINK_OPEN} among its special tokens, which answers are "
            "read without; choose a model whose tokenizer does not"
        )


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """End the block by `_TooSlow` after so long; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
