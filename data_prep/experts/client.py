"""Expert LLMs behind OpenAI-compatible endpoints: bounded, cached, within a budget, and never lost.

Every answer is kept on disk under the hash of what was asked, so a stopped run goes on without asking
twice. An answer that its check refuses is asked for again with the complaint, then set aside. Keys are
read from the environment and stand in no file, message or log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.files import write_json, write_text

#: Characters of a token, for the estimate before anything is asked; only a guess.
_CHARS_PER_TOKEN = 3.5


class ExpertError(ValueError):
    """An endpoint cannot be used, or the budget is spent; the message names the remedy."""


@dataclass(frozen=True)
class Endpoint:
    """One expert.

    Attributes:
        name: for people and for the cache.
        base_url: of the OpenAI-compatible interface, up to and including its version.
        model: as the endpoint calls it.
        key: name of the environment variable that holds the key; None where none is needed.
        prompt_price, answer_price: for a million tokens, in any currency; 0 if unknown.
    """

    name: str
    base_url: str
    model: str
    key: str | None = None
    prompt_price: float = 0.0
    answer_price: float = 0.0

    def cost(self, prompt_tokens: float, answer_tokens: float) -> float:
        """Price of so many tokens."""
        return (prompt_tokens * self.prompt_price + answer_tokens * self.answer_price) / 1e6


@dataclass(frozen=True)
class Settings:
    """How the experts are asked (``conf/expert``)."""

    endpoints: Sequence[Endpoint]
    concurrency: int = 8  # requests at once, over all endpoints
    timeout: float = 120.0  # seconds of one request
    retries: int = 5  # of a request that failed on the way: 429, 5xx, time-out, cut connection
    reasks: int = 2  # of an answer that its check refused
    max_tokens: int = 1024  # of one answer
    temperature: float = 0.7
    max_cost: float | None = None  # of all requests together; None: no cap

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """From the configuration's ``expert`` node (without ``kind``).

        Raises:
            ExpertError: there is no endpoint, or one of them lacks its key in the environment.
        """
        values = {k: v for k, v in config.items() if k != "kind"}
        endpoints = tuple(Endpoint(**e) for e in values.pop("endpoints", ()))
        if not endpoints:
            raise ExpertError("expert.endpoints is empty; name one, or use expert=offline")
        if unset := [e.name for e in endpoints if not e.base_url or not e.model]:
            raise ExpertError(
                f"expert {', '.join(unset)} has no base_url or no model; set EXPERT_BASE_URL and "
                "EXPERT_MODEL, or write them into conf/expert"
            )
        if missing := sorted({e.key for e in endpoints if e.key and not os.environ.get(e.key)}):
            raise ExpertError(
                f"the experts need keys in the environment, and {', '.join(missing)} is not set; set it, "
                "choose another expert=..., or expert=offline for the stand-in that is no expert"
            )
        return cls(endpoints, **values)


@dataclass(frozen=True)
class Request:
    """One thing to ask.

    Attributes:
        name: identifies it among the others, and chooses its endpoint.
        messages: chat messages.
        check: says what is wrong with an answer, None if nothing is.
    """

    name: str
    messages: Sequence[Mapping[str, str]]
    check: Callable[[str], str | None]


@dataclass
class Answers:
    """What came back.

    Attributes:
        texts: request name -> (endpoint name, answer), of the answers that passed their check.
        rejects: name, endpoint, reason and last answer of those that did not.
        asked: requests that went over the network.
        cached: answers that were on disk.
        cost: of the requests that went over the network.
        prompt_tokens, answer_tokens, price: of all of them, whenever they were asked: what had to be
            bought for these answers.
    """

    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    rejects: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0
    cached: int = 0
    cost: float = 0.0
    prompt_tokens: float = 0.0
    answer_tokens: float = 0.0
    price: float = 0.0

    def summary(self, title: str) -> str:
        """A line for people."""
        return (
            f"{title}: {len(self.texts):,} answers ({self.asked:,} requests sent, {self.cached:,} answers on "
            f"disk before), {len(self.rejects):,} set aside, cost {self.cost:.2f} by the stated prices"
        )

    def check_some(self, title: str) -> None:
        """Raises `ExpertError` where everything was set aside: such an expert is none."""
        if self.rejects and not self.texts:
            first = self.rejects[0]
            raise ExpertError(
                f"{title}: none of {len(self.rejects):,} answers can be used; {first['endpoint']} ended with "
                f"{first['answer'][-80:]!r}: {first['reason']}. Name another expert"
            )

    def write(self, target: Path, content: Mapping[str, Any]) -> None:
        """Write what was made of the answers to ``<target>.json``, and beside it what was set aside
        (``<target>.rejects.jsonl``) and what it took (``<target>.usage.json``)."""
        lines = "".join(json.dumps(reject, ensure_ascii=False) + "\n" for reject in self.rejects)
        write_text(f"{target}.rejects.jsonl", lines)
        usage = {k: round(getattr(self, k)) for k in ("asked", "cached", "prompt_tokens", "answer_tokens")}
        write_json(f"{target}.usage.json", usage | {"price": self.price})
        write_json(f"{target}.json", content)

    def count(self, answer: Mapping[str, Any], endpoint: Endpoint, messages: Sequence[Mapping]) -> float:
        """Add what an answer took; guessed from its letters where the endpoint does not say. Its price."""
        if "refused" in answer:
            return 0.0
        guess = sum(len(m["content"]) for m in messages), len(answer["text"])
        names = "prompt_tokens", "answer_tokens"
        prompt, written = (answer.get(k) or g / _CHARS_PER_TOKEN for k, g in zip(names, guess, strict=True))
        self.prompt_tokens += prompt
        self.answer_tokens += written
        price = endpoint.cost(prompt, written)
        self.price += price
        return price


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

    if config.kind == "offline":
        return None
    content: Any = OmegaConf.to_container(config, resolve=True)
    return Settings.of(content)


def ask_all(requests: Sequence[Request], settings: Settings, cache: str | Path, title: str) -> Answers:
    """Ask every request its endpoint; the endpoints share them evenly.

    Args:
        requests: with names that differ.
        settings: how to ask.
        cache: folder of the answers on disk.
        title: for the estimate and the progress bar.

    Raises:
        ExpertError: an endpoint refuses the key, answers something else than the interface, stays
            unreachable after all retries, or the budget is spent. What was answered is kept.
    """
    return asyncio.run(_Asker(settings, Path(cache)).ask_all(requests, title))


class _Asker:
    def __init__(self, settings: Settings, cache: Path):
        self.settings, self.cache = settings, cache
        self.answers = Answers()
        self.reserved = 0.0  # cost of requests on their way, at most

    async def ask_all(self, requests: Sequence[Request], title: str) -> Answers:
        import openai

        settings = self.settings
        clients = {
            e.name: openai.AsyncOpenAI(
                base_url=e.base_url,
                api_key=os.environ[e.key] if e.key else "none",
                timeout=settings.timeout,
                max_retries=settings.retries,
            )
            for e in settings.endpoints
        }
        print(self._estimate(requests, title), file=sys.stderr, flush=True)
        gate = asyncio.Semaphore(settings.concurrency)
        with tqdm(total=len(requests), desc=f"  {title}", unit="answer", mininterval=1) as bar:

            async def one(request: Request) -> None:
                async with gate:
                    endpoint = self._endpoint(request)
                    await self._ask(request, endpoint, clients[endpoint.name])
                    bar.update()

            tasks = [asyncio.create_task(one(request)) for request in requests]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for client in clients.values():
                    await client.close()
        return self.answers

    def _endpoint(self, request: Request) -> Endpoint:
        """Chosen by the request's name, so that a run that goes on asks the same one."""
        number = int(hashlib.sha256(request.name.encode()).hexdigest(), 16)
        return self.settings.endpoints[number % len(self.settings.endpoints)]

    def _estimate(self, requests: Sequence[Request], title: str) -> str:
        new, prompt, cost = 0, 0.0, 0.0
        for request in requests:
            endpoint = self._endpoint(request)
            if self._path(endpoint, request.messages).exists():
                continue
            tokens = sum(len(m["content"]) for m in request.messages) / _CHARS_PER_TOKEN
            new, prompt = new + 1, prompt + tokens
            cost += endpoint.cost(tokens, self.settings.max_tokens)
        cap = "" if self.settings.max_cost is None else f", stopped at {self.settings.max_cost:g}"
        return (
            f"  {title}: {len(requests)} requests to {', '.join(e.name for e in self.settings.endpoints)}, "
            f"{len(requests) - new} answered before; about {prompt:,.0f} tokens to read, at most "
            f"{new * self.settings.max_tokens:,} to write, at most about {cost:.2f} by the stated prices{cap}"
        )

    async def _ask(self, request: Request, endpoint: Endpoint, client: Any) -> None:
        messages = [dict(m) for m in request.messages]
        text, complaint = "", None
        for _ in range(self.settings.reasks + 1):
            answer = await self._answer(endpoint, client, messages)
            if "refused" in answer:  # the endpoint will not answer this request, whatever is said
                complaint = "; asked again: ".join(filter(None, [complaint, answer["refused"]]))
                break
            text = answer["text"]
            complaint = request.check(text)
            if complaint is None:
                self.answers.texts[request.name] = (endpoint.name, text)
                return
            messages += [
                {"role": "assistant", "content": text or "(nothing)"},
                {"role": "user", "content": f"That cannot be used: {complaint}. Answer again, completely."},
            ]
        self.answers.rejects.append(
            {"name": request.name, "endpoint": endpoint.name, "reason": complaint or "", "answer": text}
        )

    async def _answer(
        self, endpoint: Endpoint, client: Any, messages: list[dict[str, str]]
    ) -> dict[str, Any]:
        """The answer to ``messages``, from disk or from the endpoint: ``text``, or why it was ``refused``."""
        path = self._path(endpoint, messages)
        if path.exists():
            self.answers.cached += 1
            answer = json.loads(path.read_text(encoding="utf-8"))
            self.answers.count(answer, endpoint, messages)
            return answer
        tokens = sum(len(m["content"]) for m in messages) / _CHARS_PER_TOKEN
        most = endpoint.cost(tokens, self.settings.max_tokens)
        cap = self.settings.max_cost
        if cap is not None and self.answers.cost + self.reserved + most > cap:
            raise ExpertError(
                f"the next request could take the cost over expert.max_cost={cap:g} ({self.answers.cost:.2f} "
                "spent); every answer so far is kept: raise it and run the same command again"
            )
        self.reserved += most
        try:
            answer = await self._request(endpoint, client, messages)
        finally:
            self.reserved -= most
        self.answers.asked += 1
        self.answers.cost += self.answers.count(answer, endpoint, messages)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, answer)
        return answer

    async def _request(
        self, endpoint: Endpoint, client: Any, messages: list[dict[str, str]]
    ) -> dict[str, Any]:
        import openai

        where = f"expert {endpoint.name} at {endpoint.base_url}"
        problem = ""
        for attempt in range(self.settings.retries + 1):
            if attempt:
                await asyncio.sleep(min(0.5 * 2**attempt, 20.0))
            try:
                completion = await client.chat.completions.create(
                    model=endpoint.model,
                    messages=messages,
                    max_tokens=self.settings.max_tokens,
                    temperature=self.settings.temperature,
                )
            except (openai.AuthenticationError, openai.PermissionDeniedError):
                raise ExpertError(f"{where} refuses the key in {endpoint.key}; check it") from None
            except openai.NotFoundError:
                raise ExpertError(
                    f"{where} knows no model {endpoint.model!r}, or the address is wrong; check both"
                ) from None
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                return {"refused": f"the endpoint refused the request (status {error.status_code})"}
            except openai.APIStatusError as error:  # the client has retried it already
                raise ExpertError(
                    f"{where} still answers status {error.status_code} after {self.settings.retries} "
                    "retries; every answer so far is kept: run the same command again later"
                ) from None
            except openai.APIConnectionError as error:  # time-outs, too
                raise ExpertError(
                    f"{where} cannot be reached ({type(error).__name__}, {self.settings.retries} retries). "
                    "Every answer so far is kept: check address and network, then run the same command again"
                ) from None
            except (json.JSONDecodeError, openai.APIResponseValidationError, UnicodeDecodeError):
                problem = "no JSON"  # cut off on the way: ask again
                continue
            text = _text_of(completion)
            if text is not None:
                usage = getattr(completion, "usage", None)
                return {
                    "text": text,
                    "prompt_tokens": getattr(usage, "prompt_tokens", None),
                    "answer_tokens": getattr(usage, "completion_tokens", None),
                }
            problem = "a web page" if isinstance(completion, str) else "JSON of another form"
        raise ExpertError(
            f"{where} answers with {problem} instead of a chat completion; is base_url the address of an "
            "OpenAI-compatible interface, up to its version (.../v1)?"
        )

    def _path(self, endpoint: Endpoint, messages: Sequence[Mapping[str, str]]) -> Path:
        asked = {
            "base_url": endpoint.base_url,
            "model": endpoint.model,
            "messages": [dict(m) for m in messages],
            "max_tokens": self.settings.max_tokens,
            "temperature": self.settings.temperature,
        }
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return self.cache / name[:2] / f"{name}.json"


def _text_of(completion: Any) -> str | None:
    """The answer's text; None if the endpoint sent something else than a chat completion."""
    try:
        text = completion.choices[0].message.content
    except (AttributeError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else "" if text is None else None
