"""Prompts for generation, from template files that a user can replace (`prompts.dir`)."""

from __future__ import annotations

import functools
import hashlib
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.parse import THINK_CLOSE, THINK_OPEN, has_visible

#: Folders of templates that come with the project: `full` says all that the paper asks for, `compact`
#: leaves the instructions out, for a model that learns the task from examples alone.
BUILT_IN = Path(__file__).parent / "prompts"
_FIELDS = {
    "system": {"name", "profile", "labels", "theme"},
    "user": {"history", "last_speaker", "name", "theme"},
}


_TAGS = re.compile(f"{THINK_OPEN}|{THINK_CLOSE}")


@dataclass(frozen=True)
class PromptTemplates:
    """The two templates of a generation prompt, and a hash that identifies them."""

    system: str
    user: str

    @property
    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 over both templates."""
        return hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()[:12]


def load_templates(folder: str | Path | None = None) -> PromptTemplates:
    """Read ``system.txt`` and ``user.txt`` of a folder, or of a built-in one by its name (default: full).

    Raises:
        ValueError: a file is missing, or names a field that the prompt does not have.
    """
    folder = _folder(folder)
    texts = {}
    for part, allowed in _FIELDS.items():
        path = folder / f"{part}.txt"
        if not path.is_file():
            raise ValueError(f"prompt template {path} is missing; prompts.dir needs system.txt and user.txt")
        try:
            texts[part] = path.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ValueError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
        if not has_visible(texts[part]):
            raise ValueError(f"prompt template {path} is empty; write what the prompt says")
        try:
            fields = [field[1:] for field in string.Formatter().parse(texts[part]) if field[1] is not None]
        except ValueError as error:
            raise ValueError(f"{path}: {error}; write a literal brace as {{{{ or }}}}") from None
        for field, form, conversion in fields:
            if field not in allowed or form or conversion:
                raise ValueError(f"{path}: unknown field {{{field}}}; known: {sorted(allowed)}, as they are")
    return PromptTemplates(**texts)


def load_paraphrases(folder: str | Path | None, count: int) -> list[PromptTemplates]:
    """The prompt in other words: the first ``count`` of ``paraphrases/{1,2,...}`` in a folder of templates.

    Raises:
        ValueError: as `load_templates`, of the folder of a paraphrase.
    """
    return [load_templates(_folder(folder) / f"paraphrases/{i}") for i in range(1, count + 1)]


def _folder(name: str | Path | None) -> Path:
    built_in = BUILT_IN / str(name or "full")
    return built_in if built_in.parent == BUILT_IN and built_in.is_dir() else Path(name or "full")


def render_again(rows: Iterable[Mapping[str, Any]], templates: PromptTemplates) -> list[dict[str, Any]]:
    """Rows of `data_prep.rows.SCHEMA` whose prompts say the same by other templates."""
    again = []
    for row in rows:
        info = row["extra_info"]
        more = (info["persona"], info["labels"], templates, info.get("theme") or "")
        again.append({**row, "prompt": render(info["context"], *more)})
    return again


def render(
    context: Sequence[Mapping[str, str]],
    persona: Mapping[str, str],
    labels: Sequence[str],
    templates: PromptTemplates,
    theme: str = "",
) -> list[dict[str, str]]:
    """Chat messages for one prompt x = (C, PI, labels).

    Args:
        context: utterances in order, each with ``speaker`` and ``text``; the last one is recognised.
        persona: ``name`` and one-sentence ``profile`` of the speaker that the model plays.
        labels: the corpus's label list.
        templates: what the prompt says.
        theme: of the dialogue; if empty, the templates' lines that name it are left out.

    Returns:
        A system and a user message.
    """
    history = "\n".join(f"{turn['speaker']}: {turn['text']}" for turn in context)
    values = {
        "name": persona["name"],
        "profile": persona["profile"],
        "labels": ", ".join(labels),
        "history": history,
        "last_speaker": context[-1]["speaker"],
        "theme": theme,
    }
    texts = {"system": templates.system, "user": templates.user}
    if not theme:
        texts = {role: _without_theme(text) for role, text in texts.items()}
    # Many tokenizers have a token for such a tag, and only an answer may open or close its block.
    values = {name: broken_up(value, _TAGS) for name, value in values.items()}
    return [{"role": role, "content": text.format(**values)} for role, text in texts.items()]


def broken_up(text: str, tokens: re.Pattern[str] | None) -> str:
    """A text in which none of ``tokens`` stands: a space goes behind the first character of each."""
    while tokens and tokens.search(text):  # a token may end like another one
        text = tokens.sub(lambda found: f"{found[0][0]} {found[0][1:]}" if found[0][1:] else " ", text)
    return text


@functools.cache
def _without_theme(template: str) -> str:
    lines = template.split("\n")
    kept = [line for line in lines if "theme" not in (field[1] for field in string.Formatter().parse(line))]
    return "\n".join(kept).strip() if len(kept) < len(lines) else template
