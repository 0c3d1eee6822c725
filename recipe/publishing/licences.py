"""On what terms a model and its data are handed on: the base model's licence, the corpora's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from data_prep.corpora import may_be_passed_on, terms_of

_OWN = "apache-2.0"  # this project's, and so that of its sample dialogues


@dataclass(frozen=True)
class Base:
    """A base model as a card names it: its licence by the hub's identifiers, and its hub id if it has one."""

    licence: str
    hub_id: str | None


_KNOWN = {
    "builtin:tiny": Base(_OWN, None),
    "builtin:smollm2-135m": Base("apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    "Qwen/Qwen3-1.7B": Base("apache-2.0", "Qwen/Qwen3-1.7B"),
    "Qwen/Qwen3-4B": Base("apache-2.0", "Qwen/Qwen3-4B"),
    "Qwen/Qwen3-8B": Base("apache-2.0", "Qwen/Qwen3-8B"),
}


def base_terms(path: str, hub_id: str | None) -> Base:
    """What is known of a base model; of one that we do not know, the licence is ``other``.

    Args:
        path: the setting ``base.path``.
        hub_id: of the hub's model that it was fetched as, if it was.
    """
    return _KNOWN.get(path) or Base("other", hub_id)


def licence_fields(licence: str, link: str | None) -> dict[str, str]:
    """The licence as the front matter of a card has it; ``other`` takes a name and a link."""
    if licence != "other":
        return {"license": licence}
    fields = {"license": "other", "license_name": "see-card"}
    return fields | ({"license_link": link} if link else {})


def data_licence(corpora: Iterable[str], made_up: bool) -> str:
    """Of a dataset made from these corpora: the project's own where nobody else's text is in it."""
    return _OWN if made_up or not list(corpora) else "other"


def corpus_terms(corpora: Iterable[str]) -> dict[str, str]:
    """corpus -> on what terms it is given out."""
    return {corpus: terms_of(corpus) for corpus in corpora}


def closed_corpora(corpora: Iterable[str]) -> list[str]:
    """Those whose text nobody may pass on."""
    return [corpus for corpus in corpora if not may_be_passed_on(corpus)]
