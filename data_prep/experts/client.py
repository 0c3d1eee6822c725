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
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.experts.completion import (
    TAKEN,
    Said,
    is_count,
    kind_of,
    read_completion,
    short,
    tokens_of,
    words_of,
)
from data_prep.experts.settings import Endpoint, ExpertError, Settings, load_experts, settings_of
from data_prep.files import write_json, write_text
from rewards.parse import spoken

__all__ = [
    "Answers", "Endpoint", "ExpertError", "Request", "Settings", "ask_all", "load_experts", "settings_of"
]  # fmt: skip

#: Characters of a token, for the estimate before anything is asked; only a guess.
_CHARS_PER_TOKEN = 3.5
#: How many times as much room a cut answer is given, and after how many refusals without one answer an
#: endpoint is given up.
_MORE_ROOM, _REFUSALS = 4, 5
#: What is said of a field that an endpoint does not take.
_UNKNOWN = re.compile(
    r"\bun(supported|recognized|known|expected)|\bnot (supported|permitted|allowed)|\bextra", re.IGNORECASE
)


@dataclass(frozen=True)
class Request:
    """One thing to ask.

    Attributes:
        name: identifies it among the others, and chooses its endpoint.
        messages: chat messages.
        check: says what is wrong with an answer, None if nothing is.
        form: what an answer that passes looks like (`data_prep.experts.forms`), for servers that can hold
            a model to it; empty: unknown.
    """

    name: str
    messages: Sequence[Mapping[str, str]]
    check: Callable[[str], str | None]
    form: str = ""


@dataclass
class Answers:
    """What came back.

    Attributes:
        texts: request name -> (endpoint name, answer), of the answers that passed their check.
        rejects: name, endpoint, reason and last answer of those that did not.
        faulted: names of those among them that the endpoint broke off for reasons of its own.
        held: how many of the texts the server had to hold to their form.
        asked: requests that went over the network.
        cached: answers that were on disk.
        cost: of the requests that went over the network.
        prompt_tokens, answer_tokens, price: of all of them, whenever they were asked: what had to be
            bought for these answers.
    """

    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    rejects: list[dict[str, str]] = field(default_factory=list)
    faulted: list[str] = field(default_factory=list)
    held: int = 0
    asked: int = 0
    cached: int = 0
    cost: float = 0.0
    prompt_tokens: float = 0.0
    answer_tokens: float = 0.0
    price: float = 0.0

    def summary(self, title: str) -> str:
        """A line for people."""
        held = f", {self.held:,} of them held to their form" if self.held else ""
        return (
            f"{title}: {len(self.texts):,} answers{held} ({self.asked:,} requests sent, {self.cached:,} "
            f"answers on disk before), {len(self.rejects):,} set aside, cost {self.cost:.2f} by the stated "
            "prices"
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
        counted = "asked", "cached", "held", "prompt_tokens", "answer_tokens"
        usage = {name: round(getattr(self, name)) for name in counted}
        write_json(f"{target}.usage.json", usage | {"price": self.price})
        write_json(f"{target}.json", content)

    def count(self, answer: Mapping[str, Any], endpoint: Endpoint, messages: Sequence[Mapping]) -> float:
        """Add what an answer took; guessed from its letters where the endpoint does not say. Its price."""
        guess = sum(len(m["content"]) for m in messages), len(answer["text"])
        names = "prompt_tokens", "answer_tokens"
        prompt, written = (answer.get(k) or g / _CHARS_PER_TOKEN for k, g in zip(names, guess, strict=True))
        self.prompt_tokens += prompt
        self.answer_tokens += written
        price = endpoint.cost(prompt, written)
        self.price += price
        return price


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
        self.before = 0.0  # price of what the same requests were answered in earlier commands
        self.answered: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.bar: tqdm[Any]
        self.clients: dict[str, Any] = {}
        self.denied = ""  # what was said with status 403: of one request, or of the key

    async def ask_all(self, requests: Sequence[Request], title: str) -> Answers:
        import openai

        settings = self.settings
        settings.check_keys()
        self.clients = {
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
        with tqdm(total=len(requests), desc=f"  {title}", unit="answer", mininterval=1, miniters=0) as bar:
            self.bar = bar

            async def one(request: Request) -> None:
                async with gate:
                    endpoint = self._endpoint(request)
                    await self._ask(request, endpoint)
                    bar.update()

            tasks = [asyncio.create_task(one(request)) for request in requests]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for client in self.clients.values():
                    await client.close()
        if self.denied and not self.answers.texts:
            raise ExpertError(self.denied)
        return self.answers

    def _endpoint(self, request: Request) -> Endpoint:
        """Chosen by the request's name, so that a run that goes on asks the same one."""
        number = int(hashlib.sha256(request.name.encode()).hexdigest(), 16)
        return self.settings.endpoints[number % len(self.settings.endpoints)]

    def _estimate(self, requests: Sequence[Request], title: str) -> str:
        new, prompt, cost = 0, 0.0, 0.0
        for request in requests:
            endpoint = self._endpoint(request)
            asked = self._path(endpoint, self.settings.sent(request.messages), self.settings.max_tokens)
            if known := _kept(asked):
                self.before += Answers().count(known, endpoint, request.messages)
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

    async def _ask(self, request: Request, endpoint: Endpoint) -> None:
        asked = self.settings.sent(request.messages)
        messages, text, complaint = asked, "", None
        for time in range(self.settings.reasks + 1):
            form: dict[str, Any] = {}
            if time and time == self.settings.reasks and (form := self.settings.held_to(request.form)):
                messages = asked  # what it said against the form would only mislead it
            answer, complaint_now = await self._uncut(request, endpoint, messages, form)
            if "refused" in answer:  # the endpoint will not answer this request, whatever is said
                complaint = "; asked again: ".join(filter(None, [complaint, answer["refused"]]))
                if answer["fault"]:
                    self.answers.faulted.append(request.name)
                break
            text, complaint = answer["text"], complaint_now
            if complaint is None:
                self.answers.texts[request.name] = (endpoint.name, text)
                self.answers.held += bool(form)
                return
            again = f"That cannot be used: {spoken(complaint)}. Answer again, completely."
            said = [{"role": "assistant", "content": text or "(nothing)"}, {"role": "user", "content": again}]
            messages = messages + self.settings.sent(said)
        reason = spoken(complaint or "")  # it may quote the answer, and is shown
        self.answers.rejects.append(
            {"name": request.name, "endpoint": endpoint.name, "reason": reason, "answer": text}
        )

    async def _uncut(
        self, request: Request, endpoint: Endpoint, messages: list[dict[str, str]], form: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str | None]:
        """An answer and what is wrong with it; a cut one is asked for with more room, up to the cap."""
        room = self.settings.max_tokens
        answer, complaint = await self._checked(request, endpoint, messages, room, form)
        while complaint is not None and answer.get("cut"):
            name = "max_tokens" if room == self.settings.max_tokens else "max_tokens_cap"
            why = f"it was cut at expert.{name}={room}, and {complaint}"
            larger = min(_MORE_ROOM * room, self.settings.max_tokens_cap)
            if larger <= room:
                return answer, why
            again, complaint = await self._checked(request, endpoint, messages, larger, form)
            if "refused" in again:
                return answer, f"{why}; with more room {again['refused']}"
            answer, room = again, larger
        return answer, complaint

    async def _checked(
        self,
        request: Request,
        endpoint: Endpoint,
        messages: list[dict[str, str]],
        room: int,
        form: Mapping[str, Any],
    ) -> tuple[dict[str, Any], str | None]:
        answer = await self._answer(endpoint, messages, room, form)
        return answer, None if "refused" in answer else request.check(answer["text"])

    async def _answer(
        self, endpoint: Endpoint, messages: list[dict[str, str]], room: int, form: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The answer to ``messages`` in at most ``room`` tokens, from disk or from the endpoint: ``text`` and
        whether it was ``cut``; or why it was ``refused``, which is not kept."""
        path = self._path(endpoint, messages, room, form)
        if known := _kept(path):
            self.answers.cached += 1
            self.answers.count(known, endpoint, messages)
            return known
        tokens = sum(len(m["content"]) for m in messages) / _CHARS_PER_TOKEN
        most = endpoint.cost(tokens, room)
        cap, spent = self.settings.max_cost, self.before + self.answers.cost
        if cap is not None and spent + self.reserved + most > cap:
            raise ExpertError(
                f"the next request could take the cost over expert.max_cost={cap:g} ({spent:.2f} spent, "
                f"{self.before:.2f} of it by earlier commands); every answer so far is kept: raise it and "
                "run the same command again"
            )
        self.reserved += most
        try:
            answer = await self._request(endpoint, messages, room, form)
        finally:
            self.reserved -= most
        self.answers.asked += 1
        self.bar.set_postfix(sent=self.answers.asked, refresh=False)  # also while all are asked again
        self.bar.update(0)
        if "refused" in answer:
            self._give_up_on(endpoint, answer["refused"])
            return answer
        self.answered[endpoint.name] += 1
        self.answers.cost += self.answers.count(answer, endpoint, messages)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, answer)
        return answer

    def _give_up_on(self, endpoint: Endpoint, words: str) -> None:
        """Raises `ExpertError` where an endpoint has only ever refused: it will refuse the others, too."""
        self.refusals[endpoint.name] += 1
        if self.refusals[endpoint.name] >= _REFUSALS and not self.answered[endpoint.name]:
            raise ExpertError(
                f"expert {endpoint.name} at {endpoint.address} refused the first {_REFUSALS} requests, the "
                f"last of them because {words}"
            )

    async def _request(
        self, endpoint: Endpoint, messages: list[dict[str, str]], room: int, form: Mapping[str, Any]
    ) -> dict[str, Any]:
        import openai

        where = f"expert {endpoint.name} at {endpoint.address}"
        options: dict[str, Any] = {endpoint.limit_name: room}
        if self.settings.temperature is not None:
            options["temperature"] = self.settings.temperature
        problem = ""
        said: Said | None
        for attempt in range(self.settings.retries + 1):
            if attempt:
                await asyncio.sleep(min(0.5 * 2**attempt, 20.0))
            try:
                completion = await self.clients[endpoint.name].chat.completions.create(
                    model=endpoint.model, messages=messages, extra_body=form or None, **options
                )
            except openai.APIStatusError as error:
                said = Said(
                    refused=words_of(error.body or error.response.text[:2_000]),
                    status=error.status_code,
                    wait=short(error.response.headers.get("retry-after", "")),
                )
                retried = True  # by the client itself
            except openai.APIConnectionError as error:  # time-outs, too
                raise ExpertError(
                    f"{where} cannot be reached ({type(error).__name__}, {self.settings.retries} retries). "
                    "Every answer so far is kept: check address and network, then run the same command again"
                ) from None
            except (ValueError, RecursionError, openai.APIResponseValidationError):
                problem = "no JSON"  # cut off on the way: ask again
                continue
            else:
                said, retried = read_completion(completion), False
            if said is None:
                problem = kind_of(completion)
                continue
            if said.refused is None:
                return _as_kept(said, completion)
            # Here and not above: the client's exception holds the key where the endpoint repeats it.
            if retried or attempt == self.settings.retries or not said.passes:
                return self._refused(endpoint, where, said)
        problem = self._blanked(endpoint, problem)
        raise ExpertError(
            f"{where} answers with {problem} instead of a chat completion; is base_url the address of an "
            "OpenAI-compatible interface, up to its version (.../v1)?"
        )

    def _refused(self, endpoint: Endpoint, where: str, answer: Said) -> dict[str, Any]:
        """What is said of a request that was refused.

        Raises:
            ExpertError: every other request would be, too.
        """
        status, words = answer.status, self._blanked(endpoint, answer.refused or "")
        said = ": ".join(filter(None, [f"status {status}" if status else "", words]))
        key = f"the key in {endpoint.key}" if endpoint.key else "a request without a key"
        if status == 401:
            raise ExpertError(f"{where} refuses {key} ({said}); check it")
        if status == 402:
            raise ExpertError(
                f"{where} wants to be paid ({said}). Every answer so far is kept: top up the account, then "
                "run the same command again"
            )
        if status == 404:
            raise ExpertError(
                f"{where} knows no model {endpoint.model!r}, or the address is wrong ({said}); check both"
            )
        if answer.passes and not answer.fault:  # of a fault, other requests may know nothing
            raise ExpertError(
                f"{where} still answers status {status} after {self.settings.retries} retries ({said}); "
                f"every answer so far is kept: {answer.later}"
            )
        remedy = ""
        if status == 403:
            self.denied = f"{where} denies it ({said}): the text may be blocked, or {key} may not do this"
        elif other := _other_limit(endpoint.limit_name, words):
            remedy = f"; set limit_name of expert.endpoints to {other}"
        elif "temperature" in words:
            remedy = "; expert.temperature=null sends none"
        return {"refused": f"the endpoint refused the request ({said}){remedy}", "fault": answer.fault}

    def _blanked(self, endpoint: Endpoint, words: str) -> str:
        """An endpoint's words without the key, which some repeat, or its begin where they were shortened."""
        key = os.environ.get(endpoint.key) if endpoint.key else None
        if not key:
            return words
        words = words.replace(key, "[the key]")
        begun = next((n for n in range(len(key) - 1, 3, -1) if words.endswith(f"{key[:n]}...")), 0)
        return f"{words[: -begun - 3]}[the key]..." if begun else words

    def _path(
        self,
        endpoint: Endpoint,
        messages: Sequence[Mapping[str, str]],
        room: int,
        form: Mapping[str, Any] | None = None,
    ) -> Path:
        asked = {
            "base_url": self.settings.kept_under(endpoint),
            "model": endpoint.model,
            "messages": [dict(m) for m in messages],
            "max_tokens": room,
            "temperature": self.settings.temperature,
        } | dict(form or {})
        name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        return self.cache / name[:2] / f"{name}.json"


def _other_limit(name: str, words: str) -> str | None:
    """What the endpoint calls the most tokens of an answer, if its words say that it is not ``name``."""
    (other,) = {"max_tokens", "max_completion_tokens"} - {name}
    named = re.findall(r"\w+", words)
    unknown = name in named and _UNKNOWN.search(words)
    return other if other in named or unknown else None


def _kept(path: Path) -> dict[str, Any] | None:
    """An answer on disk; None where there is none, the file is broken, or it holds a refusal."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        return None
    return {name: value for name, value in found.items() if name not in TAKEN or is_count(value)}


def _as_kept(said: Said, completion: Any) -> dict[str, Any]:
    return {"text": said.text} | tokens_of(completion) | ({"cut": True} if said.cut else {})
