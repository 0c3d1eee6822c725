"""Credentials stay in the process: whatever is written or shown goes through here."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# Variables of the environment by any of these words; settings, of which many are called `..._key` and name
# a column, only by what can be nothing else.
_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL")
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
