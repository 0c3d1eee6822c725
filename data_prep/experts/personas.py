"""One sentence per speaker and the theme of a dialogue, from expert LLMs (Eq. 4, Table 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from data_prep.corpora.dialogue import Dialogue
from data_prep.experts import forms
from data_prep.experts.client import Answers, Request, Settings, ask_all
from data_prep.experts.reading import read_dictionary
from rewards.parse import has_visible, spoken

THEME = "Theme"
_TEMPLATES = Path(__file__).parents[1] / "prompts/extract"
_MOST_CHARACTERS = 600


def key(dialogue: Dialogue) -> str:
    """Identifies a dialogue over all corpora and splits."""
    return f"{dialogue.corpus}:{dialogue.split}:{dialogue.dialogue_id}"


def seen_by(dialogue: Dialogue, i: int, scope: str) -> Dialogue:
    """What personas of the row of utterance ``i`` may be made from: the dialogue, or its past (``scope``)."""
    if scope != "past":
        return dialogue
    name = f"{dialogue.dialogue_id}@{dialogue.utterances[i].utterance_id}"
    return replace(dialogue, dialogue_id=name, utterances=dialogue.utterances[: i + 1])


def request(dialogue: Dialogue) -> Request:
    """What is asked about one dialogue."""
    speakers = list(dict.fromkeys(u.speaker for u in dialogue.utterances))
    lines = "\n".join(f"{u.speaker}: {u.text}" for u in dialogue.utterances)
    system = (_TEMPLATES / "system.txt").read_text(encoding="utf-8").strip()
    user = (_TEMPLATES / "user.txt").read_text(encoding="utf-8").strip()
    # str.replace and not str.format: the templates show a dictionary, and dialogues hold braces.
    user = user.replace("{speakers}", ", ".join(speakers)).replace("{dialogue}", lines)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    form = forms.of_profiles([*speakers, THEME])
    return Request(f"persona:{key(dialogue)}", messages, lambda text: complaint(text, speakers), form)


def complaint(text: str, speakers: Sequence[str]) -> str | None:
    """What is wrong with an answer; None if every speaker and the theme have their sentence."""
    try:
        found = read_profiles(text)
    except ValueError as error:
        return str(error)
    names = [*speakers, THEME]
    if missing := [name for name in names if name not in found]:
        return f"the dictionary lacks {', '.join(missing)}"
    if unknown := [name for name in found if name not in names]:
        return f"the dictionary names {', '.join(unknown)}, who does not speak"
    if empty := [name for name in names if not has_visible(found[name])]:
        return f"the text of {', '.join(empty)} is empty"
    if long := [name for name in names if len(found[name]) > _MOST_CHARACTERS]:
        return f"the text of {', '.join(long)} is longer than one sentence"
    return None


def read_profiles(text: str) -> dict[str, str]:
    """The dictionary that an answer ends with: name -> sentence. Nothing is evaluated.

    Raises:
        ValueError: there is none, or it holds something else than text.
    """
    found = read_dictionary(text)
    if not all(isinstance(sentence, str) for sentence in found.values()):
        raise ValueError("the dictionary must map names to text")
    return found


def ask_personas(
    dialogues: Iterable[Dialogue], settings: Settings, cache: str | Path, needed: bool = True
) -> tuple[dict[str, dict[str, str]], Answers]:
    """Ask the experts about dialogues.

    Args:
        dialogues: to be asked about.
        settings: how to ask.
        cache: folder of the answers on disk.
        needed: whether it is an error that nothing passed; the offline stand-in's sentences take their place.

    Returns:
        Dialogue key -> (speaker or `THEME` -> sentence), without the dialogues whose answers never
        passed; and what the asking cost and rejected.

    Raises:
        ExpertError: as `data_prep.experts.client.ask_all`, and where no answer passed that is needed.
    """
    answers = ask_all([request(dialogue) for dialogue in dialogues], settings, cache, "personas")
    if needed:
        answers.check_some("personas")
    profiles = {}
    for name, (_, text) in answers.texts.items():
        found = read_profiles(text)
        profiles[name.removeprefix("persona:")] = {k: spoken(v) for k, v in found.items()}
    return profiles, answers
