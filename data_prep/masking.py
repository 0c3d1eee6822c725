"""Credentials stay in the process: whatever is written or shown goes through here."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
#: A reference by a function of OmegaConf that reads more than the settings themselves, such as `oc.env`.
_OUTSIDE = re.compile(r"\$\{\s*(?!oc\.select\s*:)[\w.]+\s*:")

# Variables of the environment by any of these words; settings, of which many are called `..._key` and name
# a column, only by what can be nothing else.
_VARIABLE = re.compile(r"KEY|TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_SETTING = re.compile(
    r"(api|access|auth|secret|private|account)_?key$|(^|_|access|auth|api)token$|secret$|passw(or)?d$"
)
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^/\s@?#]*@)?(?P<rest>[^\s?#'\"]*)(?P<query>\?[^\s#'\"]*)?"
)


def is_secret(name: str) -> bool:
    """Is a variable or a setting of this name a credential?"""
    if name.isupper():
        return _VARIABLE.search(name) is not None
    return _SETTING.search(name.casefold()) is not None


def masked_url(text: str) -> str:
    """A text whose addresses have neither user nor password nor query."""
    return _URL.sub(lambda u: u["scheme"] + (f"{MASK}@" if u["user"] else "") + u["rest"]
                    + (f"?{MASK}" if u["query"] else ""), text)  # fmt: skip


def masked_words(command: str) -> str:
    """A command line whose ``name=value`` words that give a credential hide it."""
    hidden = re.sub(
        r"(?P<name>[\w.]*?(?P<last>\w+))=(?P<value>[^\s'\"]+)",
        lambda word: f"{word['name']}={MASK}" if is_secret(word["last"]) else word[0],
        command,
    )
    return masked_url(hidden)


def masked(value: Any, name: str = "") -> Any:
    """Plain containers without their credentials; references such as ``${oc.env:NAME}`` stay.

    Args:
        value: mappings, lists and values.
        name: of the setting that holds it.
    """
    if isinstance(value, dict):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if not isinstance(value, str) or not value or value.startswith("${"):
        return value
    return MASK if is_secret(name) else masked_url(value)


def without_outside(value: Any) -> Any:
    """Plain containers in which nothing refers to the reader's environment; such a text is `MASK`."""
    if isinstance(value, dict):
        return {key: without_outside(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_outside(item) for item in value]
    return MASK if isinstance(value, str) and _OUTSIDE.search(value) else value
