"""How experts are asked (``conf/expert``), checked before the first request."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, PlainValidator, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from data_prep.masking import masked_url
from data_prep.setting_types import Count, Text, faults, number, one_of, whole

_STRICT = ConfigDict(extra="forbid")
_ADDRESS = re.compile(r"https?://[!-~]+", re.ASCII)
_TAILS = ("/chat/completions", "/completions", "/responses")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class ExpertError(ValueError):
    """An endpoint cannot be used, or the budget is spent; the message names the remedy."""


def _variable(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        wanted = "must be the name of the environment variable that holds the key, not the key"
        raise PydanticCustomError("secret", wanted)
    return value


def _address(value: Any) -> str:
    if fault := _fault_of_address(value):
        raise PydanticCustomError("secret", fault)  # it may hold a user's password
    return value


def _fault_of_address(value: Any) -> str | None:
    """Why the client could ask nothing there."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        return "must be an address that begins with http:// or https://, without white space"
    if value.count("://") > 1:
        return "must be one address; every expert of expert.endpoints has its own"
    if "\\" in value:
        return "has a backslash in it"
    try:
        url = urlsplit(value)
        if url.port == 0:
            raise ValueError
    except ValueError:
        return "is no address that can be asked: its host or its port is wrong"
    if not url.hostname:
        return "names no host, as http://localhost:8000/v1 does"
    if "?" in value or "#" in value:
        return "must end with its path: what follows ? or # cannot be kept behind it"
    for tail in _TAILS:
        if url.path.rstrip("/").endswith(tail):
            return f"goes up to its version (.../v1), without {tail}, which is added"
    return None


def _plain_text(value: Any) -> Any:
    if isinstance(value, str) and (value != value.strip() or not value.isprintable()):
        raise PydanticCustomError("setting", "has white space or line ends around it or in it")
    return value


def _short(value: str) -> str:
    if len(value.encode()) > 60:
        raise PydanticCustomError("setting", "is too long for a file of verdicts; 60 bytes at most")
    return value


Price = Annotated[float, number(0)]
_Text = Annotated[Text, AfterValidator(_plain_text)]


@dataclass(frozen=True, config=_STRICT)
class Endpoint:
    """One expert.

    Attributes:
        name: for people and for the files of its verdicts.
        base_url: of the OpenAI-compatible interface, up to and including its version.
        model: as the endpoint calls it.
        key: name of the environment variable that holds the key; None where none is needed.
        prompt_price, answer_price: for a million tokens, in any currency; 0 if unknown.
        limit_name: what the endpoint calls the most tokens of an answer.
    """

    name: Annotated[_Text, AfterValidator(_short)]
    base_url: Annotated[str, PlainValidator(_address)]
    model: _Text
    key: Annotated[str, PlainValidator(_variable)] | None = None
    prompt_price: Price = 0.0
    answer_price: Price = 0.0
    limit_name: Annotated[str, one_of("max_tokens", "max_completion_tokens")] = "max_tokens"

    @property
    def address(self) -> str:
        """``base_url`` as it may be shown: without a user's name, password or query."""
        return masked_url(self.base_url)

    def cost(self, prompt_tokens: float, answer_tokens: float) -> float:
        """Price of so many tokens."""
        return (prompt_tokens * self.prompt_price + answer_tokens * self.answer_price) / 1e6


def _with_names(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    names = [endpoint.name for endpoint in endpoints]
    if len(set(names)) < len(names):
        raise ValueError(f"expert.endpoints has the same name twice: {', '.join(names)}")
    return endpoints


@dataclass(frozen=True, config=_STRICT)
class Settings:
    """How the experts are asked.

    Attributes:
        endpoints: the experts.
        concurrency: requests at once, over all endpoints.
        timeout: seconds of one request.
        retries: of a request that failed on the way: 429, 5xx, time-out, cut connection.
        reasks: of an answer that its check refused.
        max_tokens: of one answer.
        max_tokens_cap: of an answer that was cut at ``max_tokens`` and is asked for with more room.
        temperature: None sends none, for endpoints that take no other than their own.
        max_cost: of all requests together, those that earlier commands had answered among them, at today's
            prices; None: no cap.
    """

    endpoints: Annotated[tuple[Endpoint, ...], AfterValidator(_with_names)]
    concurrency: Annotated[int, whole(1, 10_000)] = 8
    timeout: Annotated[float, number(0, 86_400, above=True)] = 120.0
    retries: Annotated[int, whole(0, 100)] = 5
    reasks: Annotated[int, whole(0, 100)] = 2
    max_tokens: Count = 1024
    max_tokens_cap: Count = 8192
    temperature: Annotated[float, number(0, 2)] | None = 0.7
    max_cost: Annotated[float, number(0)] | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """From the configuration's ``expert`` node (without ``kind``).

        Raises:
            ExpertError: a setting is unknown or out of its range, there is no endpoint, one of them lacks
                its key in the environment, or a cap has no prices.
        """
        values = {k: v for k, v in config.items() if k != "kind"}
        if not values.get("endpoints"):
            raise ExpertError("expert.endpoints is empty; name one, or use expert=offline")
        if unset := [
            str(e.get("name")) for e in _mappings(values) if not e.get("base_url") or not e.get("model")
        ]:
            raise ExpertError(
                f"no base_url or no model for {', '.join(unset)} (expert.endpoints); set EXPERT_BASE_URL and "
                "EXPERT_MODEL, or name a file of conf/expert that has them"
            )
        try:
            settings = cls(**values)
        except ValidationError as error:
            names = [f"expert.{field.name}" for field in dataclasses.fields(cls)]
            names += [f"expert.endpoints.0.{field.name}" for field in dataclasses.fields(Endpoint)]
            raise ExpertError("; ".join(faults(error, "expert.", names))) from None
        settings.check_keys()
        free = [e.name for e in settings.endpoints if not e.prompt_price and not e.answer_price]
        if settings.max_cost is not None and free:
            raise ExpertError(
                f"expert.max_cost={settings.max_cost:g} needs prices, and {', '.join(free)} has none: set "
                "prompt_price and answer_price of expert.endpoints, or expert.max_cost=null"
            )
        return settings

    def sent(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Chat messages as the endpoints get them."""
        return [dict(message) for message in messages]

    def kept_under(self, endpoint: Endpoint) -> str:
        """What an endpoint's answers on disk are known by, beside its model and what was asked."""
        return endpoint.base_url

    def held_to(self, form: str) -> dict[str, Any]:
        """Fields of a request that hold its answer to a form (a regular expression): none for endpoints in
        general, which have no common way to say it."""
        return {}

    def check_keys(self) -> None:
        """Raises `ExpertError` where a key is not in the environment, or can be none."""
        names = sorted({e.key for e in self.endpoints if e.key})
        if missing := [name for name in names if not os.environ.get(name)]:
            are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
            raise ExpertError(
                f"the experts need keys in the environment, and {', '.join(missing)} {are} not set; set "
                f"{them}, choose another expert=..., or expert=offline for the stand-in that is no expert"
            )
        for name in names:
            if fault := _fault_of_key(os.environ[name]):
                raise ExpertError(f"the key in {name} {fault}; set it again, the bare key alone")


def _mappings(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = values["endpoints"]
    return [e for e in given if isinstance(e, Mapping)] if isinstance(given, list | tuple) else []


def _fault_of_key(key: str) -> str | None:
    """Why a key can be none: it goes into a header, and what pasting adds would be refused there, or sent."""
    if key[0] in "\"'`" or key[-1] in "\"'`":
        return "has quotes around it"
    if any(char.isspace() for char in key):
        return "has a line end or white space in it"
    if not key.isascii() or not key.isprintable():
        return "has characters that no key has"
    return None


def load_experts(name: str) -> Settings | None:
    """The experts of a file of ``conf/expert``; None for the offline stand-in.

    Raises:
        ExpertError: there is no such file, or it cannot be used as it is.
    """
    from hydra import compose, initialize_config_dir

    folder = Path(__file__).parents[2] / "conf"
    known = sorted(path.stem for path in (folder / "expert").glob("*.yaml"))
    if name not in known:
        raise ExpertError(f"there is no expert {name!r}; choose {', '.join(known)}")
    with initialize_config_dir(str(folder), version_base=None):
        return settings_of(compose(f"expert/{name}").expert)


def settings_of(config: Any) -> Settings | None:
    """Checked settings of a composed ``expert`` node; None for the offline stand-in.

    Raises:
        ExpertError: as `Settings.of`.
    """
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(config, resolve=True)
    if content.get("kind") not in ("offline", "endpoint"):
        raise ExpertError(f"expert.kind={content.get('kind')!r} must be offline, endpoint or, in a run, self")
    return None if content["kind"] == "offline" else Settings.of(content)
