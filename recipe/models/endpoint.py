"""A model that is served elsewhere, behind an OpenAI-compatible endpoint, in place of a checkpoint here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.experts.client import ExpertError, Request, Settings, ask_all
from data_prep.files import cache_dir
from recipe.run.flatten import plain


def endpoint_of(config: Any) -> Settings | None:
    """Checked settings of the endpoint that is scored; None where a model here is.

    Raises:
        ExpertError: it cannot be asked.
    """
    if not config.evaluate.get("endpoint"):
        return None
    if config.evaluate.samples > 1:
        raise ExpertError(
            f"evaluate.samples={config.evaluate.samples}: an endpoint is asked once for each prompt, at "
            "temperature 0; leave it at 1"
        )
    if config.expert.kind == "self":
        raise ExpertError(
            "expert=self asks the base model, and with ENDPOINT=... there is none here; choose "
            "expert=offline, endpoint or mixed"
        )
    try:
        return Settings.of(plain(config.evaluate.endpoint))
    except ExpertError as error:
        raise ExpertError(str(error).replace("expert.", "evaluate.endpoint.")) from None


def answers_of(rows: Sequence[Mapping[str, Any]], settings: Settings, target: Path) -> dict[str, list[str]]:
    """An endpoint's answer to every prompt, whatever it says; what it refuses to answer is empty.

    Args:
        rows: of `data_prep.rows.SCHEMA`.
        settings: of `endpoint_of`.
        target: beside it stands what the asking took (`Answers.write`).

    Returns:
        row_id -> the one answer, as checkpoints' are.

    Raises:
        ExpertError: as `data_prep.experts.client.ask_all`, or the endpoint broke answers off for reasons of
            its own, which say nothing of the model; what was answered is kept, and not asked again.
    """
    requests = [Request(row["extra_info"]["row_id"], row["prompt"], lambda text: None) for row in rows]
    answers = ask_all(requests, settings, cache_dir() / "endpoints", target.name)
    answers.check_some(target.name)
    if broken := answers.faulted:
        reason = next(reject["reason"] for reject in answers.rejects if reject["name"] == broken[0])
        raise ExpertError(
            f"{target.name}: {len(broken):,} of {len(requests):,} answers were broken off by faults of the "
            f"endpoint at {settings.endpoints[0].address} ({reason}). That is no answer of the model's, so "
            "none is scored yet: every other answer is kept; run the same command again"
        )
    found = {request.name: [answers.texts.get(request.name, ("", ""))[1]] for request in requests}
    answers.write(target, {})
    print(answers.summary(target.name), flush=True)
    return found
