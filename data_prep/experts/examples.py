"""Worked examples of this project's own, for a model that writes the cold start's responses itself.

Their dialogues come from no corpus. Their emotions are written in the words of the corpus that is asked
about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from data_prep.experts.offline import names_of


@dataclass(frozen=True)
class _Example:
    dialogue: str
    name: str
    thought: str
    last: Mapping[str, float]  # feelings as `data_prep.experts.offline` calls them
    mine: Mapping[str, float]
    reply: str


_EXAMPLES = (
    _Example(
        "Nora: The bakery called.\nIlan: And? Tell me!\nNora: They want me. I start on Monday!",
        "Ilan",
        "Nora has just been told that she got the work she hoped for; she is proud and a little overwhelmed. "
        "As her friend Ilan I am happy for her, and I want her to tell more.",
        {"joy": 0.9, "excitement": 0.5},
        {"joy": 0.8},
        "That's wonderful, Nora! I knew they would. What did they say exactly?",
    ),
    _Example(
        "Teo: You said you would water them.\nMara: I know. I was away longer than I thought.\n"
        "Teo: They are all dead. Every single one.",
        "Mara",
        "Teo cared for those plants; he blames Mara, but the loss weighs more than the anger. As Mara I feel "
        "guilty, and should say so without excuses.",
        {"sadness": 0.7, "anger": 0.6},
        {"sadness": 0.8},
        "I'm so sorry, Teo. It was my fault. Let me get you new seedlings tomorrow.",
    ),
    _Example(
        "Clerk: Next, please.\nVera: Good morning. Which form do I need for a parking permit?",
        "Clerk",
        "Vera only asks for information. As the clerk I feel nothing in particular, and answer.",
        {"neutral": 1.0},
        {"neutral": 1.0},
        "Good morning. That would be form seven, over there by the window.",
    ),
)


def worked_examples(corpus: str) -> str:
    """The examples as text to be put behind the instructions, in the labels of ``corpus``."""
    names = names_of(corpus)
    parts = []
    for example in _EXAMPLES:
        last, mine = (
            {names[feeling]: weight for feeling, weight in e.items()} for e in (example.last, example.mine)
        )
        said = {"last_emotions": last, "my_emotions": mine, "my_output": example.reply}
        parts.append(
            f"Dialogue:\n{example.dialogue}\nAnswer as "
            f"{example.name}:\n<think>{example.thought}</think>\n{said!r}"
        )
    return "Examples, of other people in other dialogues:\n\n" + "\n\n".join(parts)
