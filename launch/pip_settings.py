"""pip's own configuration, and the same said to uv, which reads none of it.

Both installers must look in the same places: a machine's indexes, folders of wheels, certificates and
proxies are set for pip, in its files or in the environment (``PIP_*``).
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Mapping
from pathlib import Path

#: From weak to strong: what pip lets overrule what.
SECTIONS = ("global", "install", ":env:")
#: Settings that change what is installed and that uv would have to be told package by package.
PIP_ONLY = ("only-binary", "no-binary", "require-hashes")


def read(python: Path) -> dict[str, str]:
    """The settings of ``pip install``, by their long option's name.

    Args:
        python: the interpreter whose pip is asked.

    Raises:
        subprocess.CalledProcessError: pip does not start, or cannot read its own configuration.
    """
    command = [str(python), "-m", "pip", "config", "list"]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse(listed: str) -> dict[str, str]:
    """The same from the text of ``pip config list``; like pip, it passes over what is empty."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found and (text := ast.literal_eval(value)):
            found[section][key] = text
    return {key: value for section in SECTIONS for key, value in found[section].items()}


def for_uv(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv does as pip would; what the user said to uv itself (UV_*) stays.

    It goes through the environment because an index's address may hold a password, which a command line
    would show to everybody on the machine.

    Args:
        pip: see `read`.
        environment: the present one.
    """
    wanted = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": _words(pip, "extra-index-url"),
        "UV_FIND_LINKS": _places(pip),
        "UV_CONSTRAINT": _words(pip, "constraint"),
        "UV_INSECURE_HOST": _words(pip, "trusted-host"),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "UV_HTTP_RETRIES": pip.get("retries"),
        "UV_KEYRING_PROVIDER": "subprocess"
        if pip.get("keyring-provider") in ("subprocess", "import")
        else None,
        # pip takes the best version of all indexes; uv alone would stop at the first that knows the name.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    if any(name in environment for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX")):
        wanted["UV_DEFAULT_INDEX"] = None  # the old name and the new one must not meet
    told = {name: value for name, value in wanted.items() if value and name not in environment}
    return {**environment, **told, **_network(pip, environment)}


def options_for_uv(pip: Mapping[str, str]) -> list[str]:
    """What of it uv takes on its command line alone."""
    return ["--no-index"] if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else []


def _network(pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Certificates and proxies: pip's setting counts before the environment's, as it does for pip."""
    found = {}
    bundle = pip.get("cert")
    if not bundle and "SSL_CERT_FILE" not in environment:  # where pip's HTTP library looks next
        bundle = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if bundle:
        found["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    if client := pip.get("client-cert"):
        found["SSL_CLIENT_CERT"] = client
    if proxy := pip.get("proxy"):
        address = proxy if "://" in proxy else f"http://{proxy}"
        found |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
    return found


def _places(pip: Mapping[str, str]) -> str:
    """Where ``find-links`` points; not to folders that are gone: pip passes over them, uv stops there."""
    places = [
        place if "://" in place else str(Path(place).expanduser())
        for place in _words(pip, "find-links").split()
    ]
    return ",".join(place for place in places if "://" in place or Path(place).exists())


def _words(pip: Mapping[str, str], key: str) -> str:
    return " ".join(pip.get(key, "").split())
