"""The card of a published checkpoint: what it is, how it was made, what it is worth, where it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data_prep.corpora import agreement_of
from data_prep.prompt import load_templates, render
from recipe.evaluation.results import BASELINE_NAMES, MEASURE_NAMES, NEAREST_NAMES, STAGE_NAMES
from recipe.publishing import citation
from recipe.publishing.cards import render_card
from recipe.publishing.evidence import Evidence
from recipe.publishing.finished import Finished, base_of_run, template_options
from recipe.publishing.licences import base_terms, closed_corpora, corpus_terms, licence_fields
from recipe.publishing.model_folder import parameters_of
from recipe.publishing.predictions import predicted_corpora
from recipe.run.files import read_json
from recipe.run.flatten import flatten
from recipe.run.table12 import against_paper
from rewards.labels import corpus_labels

#: Measures of the front matter: ours -> the hub's type and name.
_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "weighted_f1": ("f1", "Weighted F1"),
    "macro_f1": ("f1", "Macro F1"),
}
#: Our own settings that decide what a run is; a node stands for all below it.
_SETTINGS = (
    "run.seed", "flywheel", "self_emo.lambda_max", "self_emo.min_named_weight", "labels", "personas",
    "decontaminate", "train_rows", "test_rows", "samples", "evaluate.samples", "sft.optim.lr",
    "sft.trainer.total_epochs", "sft.data.train_batch_size", "sft.model.lora_rank", "profile",
)  # fmt: skip
#: A conversation of the project's own, for the example prompt.
_TURNS = (
    {"speaker": "Ilan", "text": "Any news from the bakery?"},
    {"speaker": "Nora", "text": "They called. I start on Monday!"},
)
_PERSONA = {"name": "Ilan", "profile": "A patient and good-humoured friend."}


def model_card(run: Finished, found: Evidence, repo: str | None, dataset: str | None) -> str:
    """The text of ``README.md``.

    Args:
        run: the checkpoint.
        found: what it is worth.
        repo: hub id that it is to have; None: not known yet.
        dataset: hub id of the buffer that is published with it.
    """
    config, corpora = run.config, [name for name in run.results[run.scored] if name != "avg"]
    noted = base_of_run(run.folder)
    base = base_terms(run.base_path, noted.get("hub_id"))
    link = f"https://huggingface.co/{base.hub_id}" if base.hub_id else None
    name = repo or f"{run.folder.name}-{run.stage}"
    metadata = {
        "language": ["en"],
        **licence_fields(base.licence, link),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [
            "self-emo",
            "emotion-recognition-in-conversation",
            "grpo",
            "verl",
            f"arxiv:{citation.ARXIV}",
        ],
        **({"base_model": base.hub_id, "base_model_relation": "finetune"} if base.hub_id else {}),
        **({"datasets": [dataset]} if dataset and run.learnt_buffer else {}),
        "metrics": ["accuracy", "f1"],
        "model-index": [{"name": name.rpartition("/")[2], "results": list(_model_index(run, corpora))}],
    }
    return render_card(
        "model_card.md.j2",
        metadata,
        run=run,
        found=found,
        name=name,
        place=repo or "path/to/this/folder",
        dataset=dataset,
        config=config,
        base=base,
        revision=noted.get("revision"),
        parameters=parameters_of(run.model),
        corpora=corpora,
        rows=read_json(run.folder / "data/counts.json", {}),
        terms=corpus_terms(corpora),
        predicted=predicted_corpora(run),
        ceilings={} if run.made_up else {c: said for c in corpora if (said := agreement_of(c))},
        closed=[] if run.made_up else closed_corpora(corpora),
        stages=list(_stages(run.folder, config.flywheel.iterations)),
        baselines=[stage for stage in run.results if stage in BASELINE_NAMES],
        nearest=NEAREST_NAMES,
        columns={"accuracy": MEASURE_NAMES["accuracy"], "macro_f1": "macro F1"} | MEASURE_NAMES,
        better=_better_baselines(run),
        limits=list(limits(run)),
        example=_example(config, corpora),
        options=template_options(config),
        expert=OmegaConf.select(config, "expert.kind") or "offline",
        table12=[line for line in against_paper(config) if not _is_path(line["here"])],
        settings=list(_settings(config)),
        versions=read_json(run.folder / "versions.json", []),
        bibtex=citation.BIBTEX,
        arxiv=citation.ARXIV,
    )


def _model_index(run: Finished, corpora: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The scores of the published checkpoint, a data set each, in the hub's form."""
    for corpus in corpora:
        made_up = f"made-up dialogues with the labels of {corpus}"
        yield {
            "task": {"type": "text-generation", "name": "Emotion recognition in conversation"},
            "dataset": {
                "type": f"self-emo-samples-{corpus}" if run.made_up else corpus,
                "name": made_up if run.made_up else f"{corpus}, test split",
                "split": "test",
            },
            "metrics": [
                {"type": kind, "name": title, "value": round(run.results[run.scored][corpus][measure], 4)}
                for measure, (kind, title) in _METRICS.items()
            ],
        }


def _stages(folder: Path, iterations: int) -> Iterator[dict[str, Any]]:
    """What every iteration trained on, as the steps counted it; None where a run kept no count."""
    for k in range(iterations + 1):
        here = folder / f"iter_{k}"
        counts = read_json(here / "buffer/counts.json", {})
        yield {
            "k": k,
            "rl_steps": read_json(here / "rl/counts.json", {}).get("steps"),
            "rows": counts.get("rows"),
            "responses": counts.get("with_response"),
            "self_play": counts.get("self_play_added"),
        }


def _better_baselines(run: Finished) -> list[str]:
    """Trivial baselines that name the right label more often than the checkpoint does."""
    own = run.results[run.scored]["avg"]["accuracy"]
    return [
        STAGE_NAMES[stage]
        for stage in BASELINE_NAMES
        if stage in run.results and run.results[stage]["avg"]["accuracy"] >= own
    ]


def limits(run: Finished) -> Iterator[str]:
    """Where the checkpoint ends, a sentence or two each, the gravest first."""
    config = run.config
    if run.base_path == "builtin:tiny":
        yield (
            "This is the project's tiny model: about half a million parameters, made on the spot, which has "
            "read made-up dialogues for a minute and knows no language beyond them. It is there to show that "
            "the method runs; it is of no use for anything else."
        )
    if run.made_up:
        yield (
            "All its dialogues, those that it was tested on included, are made up by the project's generator "
            "in the form of the corpora that are named here. Its numbers say nothing about these corpora, "
            "about people, or about the paper's results."
        )
    if config.profile == "cpu":
        yield "It was trained without a GPU, with settings that are far smaller than the paper's (below)."
    if (OmegaConf.select(config, "expert.kind") or "offline") == "offline":
        yield (
            "The answers that it first learnt from, and the personas, come from a list of cue words and not "
            "from the expert LLMs of the paper."
        )
    if (OmegaConf.select(config, "personas.scope") or "dialogue") == "dialogue":
        yield (
            "The personas in its prompts were made from whole dialogues, at test time their future included, "
            "as the paper's prompt asks; without such knowledge it may do worse."
        )
    if config.get("test_rows"):
        yield f"At most {config.test_rows} rows of each test split were scored, not the whole."
    yield "One seed: how far other seeds would scatter is not measured here, and no interval covers it."
    yield (
        "The reward pays for sure answers, and a policy can earn more by being surer without recognising "
        "more: R at fixed weights, beside R in the table, rises with recognition alone."
    )
    yield (
        "It guesses feelings from the words of written dialogues in English. It must not be used to judge "
        "what a real person feels, nor where a wrong guess would harm somebody."
    )


def _example(config: DictConfig, corpora: Sequence[str]) -> str | None:
    """A prompt as Python writes it; None where the templates are not those of the run any more."""
    prompts = OmegaConf.select(config, "prompts")
    try:
        templates = load_templates(prompts.dir if prompts else None)
    except ValueError:  # a folder of the user's own that has gone
        return None
    if not prompts or templates.digest != prompts.digest:
        return None
    messages = render(_TURNS, _PERSONA, corpus_labels(corpora[0]), templates)
    return json.dumps(messages, ensure_ascii=False, indent=4)


def _settings(config: DictConfig) -> Iterator[tuple[str, Any]]:
    for name in _SETTINGS:
        value = OmegaConf.select(config, name)
        whole: Mapping[str, Any] = {
            "node": OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        }
        for key, one in flatten(dict(whole)).items():
            if one is not None and not _is_path(one):
                yield name + key.removeprefix("node"), one


def _is_path(value: Any) -> bool:
    """Is it a place on the machine that trained the model, which is nobody's concern?"""
    return isinstance(value, str) and value.startswith(("/", "~", "."))
