"""What an OpenAI-compatible endpoint sent back, read whole: text in every form, reasoning, errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.parse import THINK_CLOSE, THINK_OPEN, mended, spoken

#: So much of an endpoint's own words is shown.
_MOST_WORDS = 300

#: A count of tokens from here on is none.
_MOST_TOKENS = 1e12
#: How types of parts begin that hold reasoning; fields of a message that hold it, the first with a text;
#: fields of a part that hold its text. Names of Anthropic, DeepSeek, Google, Mistral, Ollama, OpenAI,
#: OpenRouter and vLLM.
_THOUGHTS = ("thinking", "reasoning", "thought")
_BESIDE = ("reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks")
_TEXTS = ("text", "thinking", "reasoning", "content", "summary", "parts", "value")
#: Reasons why an answer ended that is not whole: a fault of the endpoint's, or (the others) its filter.
_BROKEN_OFF = re.compile("(error|abort|resource)|content.?filter|safety|recitation|sensitive|prohibited")
#: What an answer took, as we and as endpoints call it.
TAKEN = {"prompt_tokens": "prompt_tokens", "answer_tokens": "completion_tokens"}


@dataclass(frozen=True)
class Said:
    """One answer.

    Attributes:
        text: what was written; reasoning that came beside it is its think block, where it has none.
        cut: was it ended by the limit on its length?
        refused: why there is no answer, in the endpoint's words; None if there is one.
        fault: did the endpoint break the answer off for a reason of its own, that may be gone?
        status: of an error that came with status 200, where it names one.
        wait: when to ask again (the header Retry-After, seconds or a date), in the endpoint's words.
    """

    text: str = ""
    cut: bool = False
    refused: str | None = None
    fault: bool = False
    status: int | None = None
    wait: str = ""

    @property
    def later(self) -> str:
        """What to do about an error that passes, for whoever started the command."""
        if self.wait in ("", "0"):  # the client itself waits for up to a minute
            return "run the same command again later"
        unit = " seconds" if self.wait.isdigit() else ""
        return (
            f"it asks to be left alone for or until {self.wait}{unit} (Retry-After): run the same command "
            "again then; a smaller expert.concurrency asks less at once"
        )

    @property
    def passes(self) -> bool:
        """May the refusal be gone after a while? What the client retries by itself."""
        return self.fault or (
            self.status is not None and (self.status in (408, 409, 429) or self.status >= 500)
        )


def read_completion(completion: Any) -> Said | None:
    """The answer in a chat completion; None if it is no chat completion at all.

    Args:
        completion: as the client returns it: it checks nothing, so that any field may be of any type.
    """
    error, choices = getattr(completion, "error", None), getattr(completion, "choices", None)
    if isinstance(choices, list) and choices:  # routers say there that the answer broke off
        error = error or getattr(choices[0], "error", None)
    if choices in (None, [None]) and _gives(completion, "choices"):
        choices = []  # null, as some send it of a text that they block
    reason = ""
    if isinstance(choices, list) and choices:
        reason = str(getattr(choices[0], "finish_reason", None) or "").lower()
    broken = _BROKEN_OFF.search(reason)
    fault = bool(broken and broken[1])
    if error or (error is not None and not choices):
        words = words_of(error) or "an error without a word"
        return Said(refused=words, fault=fault, status=_status_of(error))
    if not isinstance(choices, list):
        return None
    if choices and not _gives(choices[0], "message"):
        return None
    message = choices[0].message if choices else None
    written, thought, refusal = _written(message)
    if not written and refusal.strip():
        return Said(refused=short(refusal))
    if broken:
        who = "a fault" if fault else "its content filter"
        return Said(refused=f"{who} ended the answer (finish_reason={short(reason)})", fault=fault)
    cut = "length" in reason or reason.startswith("max_")  # max_tokens, model_length and their like
    if not written.strip() and not cut:
        ended = f" (finish_reason={short(reason)})" if reason not in ("", "stop") else ""
        none = f"it sent no text{ended}" if choices else f"it sent no choices{_others_of(completion)}"
        return Said(refused=none)
    return Said(mended(_with_think_block(written, thought)), cut)


def _with_think_block(written: str, thought: str) -> str:
    """An answer whose reasoning came beside it, or whose block was opened by the endpoint's chat template."""
    if THINK_OPEN in written:
        return written
    begun, closed, rest = written.partition(THINK_CLOSE)
    if not closed:
        if not thought.strip():
            return written
        begun, rest = "", written
    bare = f"{thought}\n{begun}".replace(THINK_OPEN, "").replace(THINK_CLOSE, "").strip()
    return f"{THINK_OPEN}{bare}{THINK_CLOSE}\n{rest.lstrip()}"


def _gives(answered: Any, name: str) -> bool:
    """Was there such a field, even with null in it? The client has None for those that were not."""
    return name in getattr(answered, "model_fields_set", ())


def _status_of(error: Any) -> int | None:
    code = str(error.get("code")) if isinstance(error, Mapping) else ""
    return int(code) if re.fullmatch("[45][0-9]{2}", code) else None


def _written(message: Any) -> tuple[str, str, str]:
    """What a message says, thinks and refuses: ``content`` is a text, a part, a list of them, or nothing."""
    content = getattr(message, "content", None)
    said: list[str] = []
    thought: list[str] = []
    refused = [_text_in(getattr(message, "refusal", None))]
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, Mapping):
            kind = str(part.get("type")).lower()
            into = thought if kind.startswith(_THOUGHTS) or part.get("thought") is True else said
            into.append(_text_in(part))
            refused.append(_text_in(part.get("refusal")))
        else:
            said.append(_text_in(part))
    if not any(thought):
        beside = (_text_in(getattr(message, name, None)) for name in _BESIDE)
        thought = [next(filter(None, beside), "")]
    return "".join(said), "".join(thought), "".join(refused)


def _text_in(value: Any, deep: int = 5) -> str:
    """The text of a part, at most so ``deep`` in it: itself, a list's, or its first field's with some."""
    if isinstance(value, str) or not deep:
        return value if isinstance(value, str) else ""
    if isinstance(value, list):
        return "".join(_text_in(one, deep - 1) for one in value)
    if not isinstance(value, Mapping):
        return ""
    return next(filter(None, (_text_in(value.get(name), deep - 1) for name in _TEXTS)), "")


def words_of(body: Any, deep: int = 5) -> str:
    """The words in the body of an error, at most so ``deep`` in it, in one line; empty if there are none."""
    for name in ("error", "message", "detail", "msg") if deep else ():
        if isinstance(body, Mapping) and name in body and body[name]:
            return words_of(body[name], deep - 1)
    if isinstance(body, list) and deep:
        return short("; ".join(filter(None, (words_of(part, deep - 1) for part in body[:5]))))
    if isinstance(body, Mapping | list) and not deep:
        return "an error that is nested too deep"
    return short(body if isinstance(body, str) else "" if body is None else str(body))


def short(text: str) -> str:
    """An endpoint's words in one line, as many of them as are shown."""
    line = spoken(text)
    return line if len(line) <= _MOST_WORDS else line[:_MOST_WORDS] + "..."


def _others_of(completion: Any) -> str:
    """The fields that no chat completion has, in brackets: some endpoints say there what is wrong."""
    extra = getattr(completion, "model_extra", None) or {}
    others = {name: value for name, value in extra.items() if value}
    return f" ({words_of(others)})" if others else ""


def kind_of(body: Any) -> str:
    """What came where a chat completion should be; what is no JSON comes as text."""
    if not isinstance(body, str):
        return f"JSON of another form{_others_of(body)}"
    return "a web page" if body.lstrip().startswith("<") else "text that is no JSON" if body else "nothing"


def tokens_of(completion: Any) -> dict[str, Any]:
    """``prompt_tokens`` and ``answer_tokens`` of a completion, as far as it counts them."""
    usage = getattr(completion, "usage", None)
    taken = {name: getattr(usage, key, None) for name, key in TAKEN.items()}
    return {name: value for name, value in taken.items() if is_count(value)}


def is_count(value: Any) -> bool:
    """Can it be a count of tokens?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST_TOKENS
