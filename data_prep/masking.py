"""Credentials stay in the process: whatever is written or shown goes through here."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
#: An innermost reference of OmegaConf that reads the settings alone; others, such as `oc.env`, read more.
_INSIDE = re.compile(r"\$\{(\s*oc\.select\s*:)?[^${}:]*\}")

# Variables of the environment by any of these words; settings, of which many are called `..._key` and name
# a column, only by what can be nothing else.
_VARIABLE = re.compile(r"KEY|TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|CREDENTIAL")
_SETTING = re.compile(
    r"(api|access|auth|secret|private|account)_?key$|(^|_|access|auth|api)token$|secret$|passw(or)?d$"
)
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<user>[^/\s@?#]*@)?(?P<rest>[^\s?#'\"]*)(?P<query>\?[^\s#'\"]*)?"
)

_NAMED = re.compile(r"(?P<name>\w+)[\"']?\s*[=:]\s*")
_VALUE = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s'\"]+")


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
    """A command line without the credentials that its words give, as ``name=value`` or ``{name: value}``."""
    found, at = [], 0
    for word in _NAMED.finditer(command):
        value = _VALUE.match(command, word.end())
        if value and word.start() >= at and is_secret(word["name"]):
            found += [command[at : word.end()], MASK]
            at = value.end()
    return masked_url("".join([*found, command[at:]]))


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
    return MASK if isinstance(value, str) and _reads_outside(value) else value


def _reads_outside(text: str) -> bool:
    """Is a reference left when those to settings are taken out? They may stand in the name of another."""
    while (less := _INSIDE.sub("", text)) != text:
        text = less
    return "${" in text
