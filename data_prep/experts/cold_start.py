"""D_0: expert responses to training prompts, through the same rule as rollouts (Table 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.experts import forms
from data_prep.experts.client import Answers, Request, Settings, ask_all
from data_prep.experts.examples import worked_examples
from data_prep.prompt import load_templates, render
from rewards.parse import parse_output

#: What an expert is told about an answer that breaks the rule, by the rule's reason.
COMPLAINTS = {
    "no_think": "the reasoning must stand between <think> and </think>",
    "many_think": "there must be exactly one <think>...</think> block, and no such tag in the reply",
    "leading_text": "<think> must be the very first thing, without a code fence or any word before it",
    "text_between": "the dictionary must follow </think>, without a code fence or any word between",
    "no_dict": "after </think> there must be one Python dictionary of plain texts and decimal numbers, "
    "without comments, signs, prefixes or brackets around it",
    "trailing_text": "the dictionary must be the very last thing, without a code fence or any word after it",
    "bad_key": "the dictionary must have the keys last_emotions, my_emotions and my_output, and no other",
    "bad_map": "last_emotions and my_emotions must be dictionaries of label and weight",
    "no_emotion": "last_emotions and my_emotions must each hold at least one label",
    "too_many": "last_emotions and my_emotions may hold at most three labels each",
    "bad_label": "only the allowed labels may be used, each as plain text",
    "duplicate_label": "a label may occur only once in a dictionary",
    "bad_weight": "every weight must be a plain decimal number from 0.000001 to 1",
    "empty_reply": "my_output must be the reply as text that can be seen",
    "long_reply": "my_output must be at most 2,000 characters long",
}


def complaint(text: str, labels: Sequence[str]) -> str | None:
    """What is wrong with an expert's response, in words; None if it keeps the rule."""
    reason = parse_output(text, labels).reason
    return None if reason is None else f"{COMPLAINTS[reason]} ({reason})"


def ask_responses(
    rows: Sequence[Mapping[str, Any]], settings: Settings, cache: str | Path, examples: bool = False
) -> tuple[dict[str, tuple[str, str]], Answers]:
    """Ask the experts for responses to prompts.

    The experts get the built-in full instructions, whatever wording the model is trained with.

    Args:
        rows: of `data_prep.rows.SCHEMA`.
        settings: how to ask.
        cache: folder of the answers on disk.
        examples: show worked ones behind the instructions, for a model that is no expert.

    Returns:
        row_id -> (expert, response), without the rows whose answers never kept the rule; and what the
        asking cost and rejected.

    Raises:
        ExpertError: as `data_prep.experts.client.ask_all`, and where no answer kept the rule.
    """
    templates = load_templates("full")
    requests = []
    for row in rows:
        info = row["extra_info"]
        labels = list(info["labels"])
        prompt = render(info["context"], info["persona"], labels, templates, info.get("theme") or "")
        if examples:
            prompt[0]["content"] += "\n\n" + worked_examples(row["data_source"])
        check = lambda text, labels=labels: complaint(text, labels)  # noqa: E731
        form = forms.of_response(labels, settings.max_tokens_cap)
        requests.append(Request(f"respond:{info['row_id']}", prompt, check, form))
    answers = ask_all(requests, settings, cache, "responses")
    answers.check_some("responses")
    found = {
        name.removeprefix("respond:"): (expert, text.strip())
        for name, (expert, text) in answers.texts.items()
    }
    return found, answers
