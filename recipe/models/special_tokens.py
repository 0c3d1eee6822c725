"""What a corpus, an expert or a model writes is text: a tokenizer must not find its own tokens in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.prompt import broken_up
from rewards.parse import THINK_CLOSE, THINK_OPEN

_TAG = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")


def plain_messages(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> list[dict[str, str]]:
    """Chat messages in whose content the tokenizer finds none of its control tokens.

    Such a token is broken up by a space behind its first character, which any reader of the text still
    understands. Whole messages go to vLLM and veRL, so that their tokens cannot be handed over instead. The
    tags of the think block stay: the instructions name them, and `data_prep.prompt.render` breaks them up
    in all that is filled in.

    Args:
        messages: with ``role`` and ``content``.
        tokenizer: a Hugging Face tokenizer.
    """
    tokens = _control_tokens(tokenizer)
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)

    def plain(text: str) -> str:
        text = broken_up(text, tokens)
        # Some tokens are looked for in what the tokenizer makes of a text: small letters, plain forms.
        normal = normalizer.normalize_str(text) if normalizer and tokens else text
        return broken_up(normal, tokens) if tokens and tokens.search(normal) else text

    return [{**message, "content": plain(message["content"])} for message in messages]


def _control_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """The special tokens, and whatever else is one token because it looks like a tag."""
    added = tokenizer.added_tokens_decoder.values()
    found = {token.content for token in added if token.special or _TAG.fullmatch(token.content)}
    # Without the white space around them: a space that breaks them up would be found with them.
    found = {token.strip() for token in found | set(tokenizer.all_special_tokens)}
    found -= {THINK_OPEN, THINK_CLOSE, ""}
    longest_first = sorted(found, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first))) if found else None
