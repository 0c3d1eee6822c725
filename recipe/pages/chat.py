"""`make chat`: talk with a persona that one or two checkpoints play, on a page of this machine only; the page
also reads the emotions of text that is pasted into it (`recipe.pages.pasted`).

vLLM serves each checkpoint; this process renders the prompts, as for training, and hands the answers on
as they are generated. `python -m recipe.pages.chat [--run NAME[:STAGE] ...] [--model MODEL ...]`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from omegaconf import DictConfig
from pydantic import BaseModel, Field

from data_prep.corpora import read_corpora
from data_prep.prepare import dialogue_rows
from data_prep.prompt import load_templates, render
from data_prep.rows import make_row, read_rows
from data_prep.sample_dialogues import sample_corpora
from recipe.pages.pasted import Pasted, annotated, pasted_dialogues
from recipe.run.files import run_checkpoint
from recipe.run.scoring_config import scoring_config
from recipe.run.shortcuts import CONF, expand
from rewards.labels import corpus_labels, known_corpora
from rewards.parse import parse_output

_PAGE = Path(__file__).with_name("chat.html")
_PERSONAS_OFFERED = 40


@dataclass(frozen=True)
class Checkpoint:
    """What is talked to.

    Attributes:
        name: for people.
        path: Hugging Face folder or hub id.
        config: of the run that made it, or the composed one of the model.
        personas: to choose from.
    """

    name: str
    path: str
    config: DictConfig
    personas: Sequence[dict[str, str]]


class Persona(BaseModel):
    """Whom the model plays."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    profile: Annotated[str, Field(max_length=600)]


class Turn(BaseModel):
    """One utterance of the conversation so far."""

    speaker: Annotated[str, Field(min_length=1, max_length=80)]
    text: Annotated[str, Field(min_length=1, max_length=4000)]


class Question(BaseModel):
    """A conversation that ends with the line to answer."""

    checkpoint: Annotated[int, Field(ge=0)]
    corpus: str
    persona: Persona
    context: Annotated[list[Turn], Field(min_length=1, max_length=400)]


def from_run(name: str) -> Checkpoint:
    """A run's checkpoint: ``NAME`` (the last one) or ``NAME:STAGE`` with cold, rl_1,
    retrained_1, ...; rl and retrained are those of the last iteration.

    Raises:
        ValueError: there is no such run, or it has not got that far.
    """
    folder, stage, model = run_checkpoint(name)
    rows = read_rows(folder / "data/test.parquet")
    config = scoring_config(folder)
    return Checkpoint(f"{folder.name}:{stage}", str(model.resolve()), config, _personas(rows))


def from_model(model: str) -> Checkpoint:
    """A model that no run has made: MODEL as `make train` takes it.

    Raises:
        ValueError: it is not known, or has no weights yet.
    """
    from hydra import compose, initialize_config_dir

    from recipe.models import named

    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("self_emo", overrides=expand([f"MODEL={model}"], os.environ))
    path = named.resolve(config.base.path)
    if path == "builtin:tiny":
        raise ValueError("the tiny model is made by a run; name that run instead: make chat RUN=<name>")
    templates = load_templates(config.prompts.dir)
    rows = [
        row for dialogue in read_corpora(sample_corpora(), None) for row in dialogue_rows(dialogue, templates)
    ]
    return Checkpoint(config.base.name, path, config, _personas(rows))


def _personas(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    found = {row["extra_info"]["persona"]["name"]: dict(row["extra_info"]["persona"]) for row in rows}
    return list(found.values())[:_PERSONAS_OFFERED]


def application(checkpoints: Sequence[Checkpoint], urls: Sequence[str], key: str = "none") -> Any:
    """The page and its questions as an ASGI application.

    Args:
        checkpoints: to talk to.
        urls: base URL of the OpenAI-compatible server of each.
        key: of these servers.
    """
    import openai
    from fastapi import FastAPI, HTTPException
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from transformers import AutoTokenizer

    from recipe.models.serve import MODEL
    from recipe.pages.guard import Guard

    # Now: two first requests at once would import transformers half.
    tokenizers = [AutoTokenizer.from_pretrained(c.path, trust_remote_code=False) for c in checkpoints]

    app = FastAPI(title="SELF-EMO", docs_url=None, redoc_url=None)
    # A page of another site must not reach this one through a name that points here.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app.add_middleware(Guard)
    clients = [openai.AsyncOpenAI(base_url=url, api_key=key) for url in urls]

    def greedily(checkpoint: Checkpoint) -> dict[str, Any]:
        """How a checkpoint is asked, beside the messages."""
        data = checkpoint.config.data
        return {
            "model": MODEL,
            "temperature": 0.0,
            "max_tokens": data.max_response_length,
            "extra_body": {"chat_template_kwargs": dict(data.apply_chat_template_kwargs)},
        }

    @app.exception_handler(RequestValidationError)
    def invalid(_: Any, error: RequestValidationError) -> JSONResponse:
        # Without the input, which may be a number or half a character that JSON cannot say.
        said = [{"loc": list(fault["loc"]), "msg": fault["msg"]} for fault in error.errors()]
        return JSONResponse({"detail": json.loads(json.dumps(said))}, 422)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(_PAGE, media_type="text/html")

    @app.get("/choices")
    def choices() -> dict[str, Any]:
        return {
            "checkpoints": [checkpoint.name for checkpoint in checkpoints],
            "corpora": known_corpora(),
            "personas": checkpoints[0].personas,
        }

    @app.post("/answer")
    def answer(question: Question) -> StreamingResponse:
        if question.corpus not in known_corpora() or question.checkpoint >= len(checkpoints):
            raise HTTPException(422, "no such corpus or checkpoint")
        checkpoint, client = checkpoints[question.checkpoint], clients[question.checkpoint]
        try:
            messages = fitted_prompt(question, checkpoint)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None

        async def lines() -> AsyncIterator[str]:
            text = ""
            try:
                stream = await client.chat.completions.create(
                    messages=messages, stream=True, **greedily(checkpoint)
                )
                async for chunk in stream:
                    if chunk.choices and (piece := chunk.choices[0].delta.content):
                        text += piece
                        yield json.dumps({"piece": piece}) + "\n"
            except openai.OpenAIError as error:
                yield json.dumps({"error": f"the model's server failed: {error}"}) + "\n"
                return
            yield json.dumps({"answer": asdict(parse_output(text, corpus_labels(question.corpus)))}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.post("/annotate")
    def annotate(pasted: Pasted) -> StreamingResponse:
        if pasted.checkpoint >= len(checkpoints):
            raise HTTPException(422, "no such checkpoint")
        checkpoint, client = checkpoints[pasted.checkpoint], clients[pasted.checkpoint]
        tokenizer = tokenizers[pasted.checkpoint]
        try:
            dialogues, labels = pasted_dialogues(pasted, checkpoint.config)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None

        async def ask(messages: list[dict[str, str]]) -> str:
            said = await client.chat.completions.create(messages=messages, **greedily(checkpoint))
            return said.choices[0].message.content or ""

        async def lines() -> AsyncIterator[str]:
            try:
                async for found in annotated(dialogues, labels, tokenizer, checkpoint.config, ask):
                    yield json.dumps({"dialogue": [asdict(one) for one in found]}) + "\n"
            except openai.OpenAIError as error:
                yield json.dumps({"error": f"the model's server failed: {error}"}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return app


def fitted_prompt(question: Question, checkpoint: Checkpoint) -> list[dict[str, str]]:
    """The chat messages for a question, without the oldest utterances where they do not fit.

    Raises:
        ValueError: not even the last utterance fits.
    """
    from recipe.models.fit_prompts import fit_rows

    context = [turn.model_dump() for turn in question.context]
    persona, labels = question.persona.model_dump(), corpus_labels(question.corpus)
    templates = load_templates(checkpoint.config.prompts.dir)
    row = make_row(
        corpus=question.corpus,
        prompt=render(context, persona, labels, templates),
        ground_truth={},
        row_id="this line",
        split="chat",
        dialogue_id="chat",
        utterance_id="0",
        context=context,
        persona=persona,
        personas=[persona],
        labels=labels,
    )
    return fit_rows([row], checkpoint.path, checkpoint.config, templates)[0][0]["prompt"]


def main() -> int:
    """Command line of `make chat`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", nargs="*", default=[], help="NAME or NAME:cold, NAME:rl, NAME:retrained")
    parser.add_argument("--model", nargs="*", default=[], help="as MODEL of make train")
    parser.add_argument("--port", type=int, default=7860)
    args = parser.parse_args()
    from recipe.models.serve import ServeError, served
    from recipe.models.weights import ModelError

    try:
        checkpoints = [from_run(name) for name in args.run] + [from_model(name) for name in args.model]
        if not 1 <= len(checkpoints) <= 2:
            raise ValueError("name one or two checkpoints: make chat RUN=<name> or MODEL=<model>")
        _check_port(args.port)
        with contextlib.ExitStack() as servers:
            logs = Path(servers.enter_context(tempfile.TemporaryDirectory()))
            urls, key = [], secrets.token_urlsafe(32)
            for i, checkpoint in enumerate(checkpoints):
                print(f"loading {checkpoint.name} ...", flush=True)
                urls.append(
                    servers.enter_context(served(checkpoint.path, checkpoint.config, logs / f"{i}.log", key))
                )
            _listen(application(checkpoints, urls, key), args.port)
    except (ValueError, ModelError, ServeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _check_port(port: int) -> None:
    """Before models are loaded, which takes long.

    Raises:
        ValueError: nothing can listen there.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on port {port} ({error}); PORT=... names another") from None


def _listen(app: Any, port: int) -> None:
    import uvicorn

    print(f"open http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    sys.exit(main())
