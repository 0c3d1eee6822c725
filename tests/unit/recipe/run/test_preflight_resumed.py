"""A resumed run keeps its settings, but for what is not done yet."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from data_prep.prompt import load_templates
from recipe.run.preflight import check
from tests.unit.recipe.run.refusals import refused
from tests.unit.samples import SAMPLES

pytestmark = pytest.mark.settings


def test_settings_that_cannot_be_read(configured):
    folder = check(configured("run.name=first"))
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"first/config.yaml: no YAML .*; restore it"):
        check(configured("run.name=first", "run.resume=true"))


def test_resuming(configured, tmp_path):
    refused(configured("run.name=first", "run.resume=true"), "no run", "to resume")
    folder = check(configured("run.name=first"))
    again = ("run.name=first", "run.resume=true")
    assert check(configured(*again)) == folder
    # What is not done yet may change.
    more = ("flywheel.iterations=2", "evaluate.stages=[rl]", "cluster.num_cpus=24", "env.OMP_NUM_THREADS=1")
    assert check(configured(*again, *more)) == folder
    refused(configured(*again, "run.seed=2"), "keeps its settings", "run.seed: 1 -> 2")
    refused(configured(*again, *more, "sft.optim.lr=0.5"), "sft.optim.lr")
    refused(configured(*again, *more, "+trainer.more=1"), "trainer.more: None -> 1")
    refused(configured(*again, *more, "flywheel.mix.original=5"), "flywheel.mix.original: 15000 -> 5")
    refused(configured(*again, *more, f"raw_dir={SAMPLES}"), "raw_dir")


def test_resuming_with_other_prompts(configured, tmp_path):
    for name in ("system", "user"):
        (tmp_path / f"{name}.txt").write_text("{name}")
    prompts = f"prompts.dir={tmp_path}"
    folder = check(configured("run.name=first", prompts))
    first = OmegaConf.load(folder / "config.yaml").prompts.digest
    assert first == load_templates(tmp_path).digest
    assert check(configured("run.name=first", "run.resume=true", prompts)) == folder
    (tmp_path / "user.txt").write_text("Hello {name}")
    refused(
        configured("run.name=first", "run.resume=true", prompts),
        f"prompts.dir={tmp_path} are not those the run began with (digest {first} then, ",
        "restore system.txt and user.txt",
    )
    assert OmegaConf.load(folder / "config.yaml").prompts.digest == first


def test_resuming_a_folder_that_is_no_run(configured, tmp_path):
    (tmp_path / "runs/first").mkdir(parents=True)
    (tmp_path / "runs/first/holiday.jpg").touch()
    refused(configured("run.name=first", "run.resume=true"), str(tmp_path / "runs/first"))


def test_what_may_differ_in_a_resumed_run(configured, monkeypatch):
    for name, value in {"BASE_URL": "http://h/v1", "MODEL": "m", "API_KEY": "k"}.items():
        monkeypatch.setenv(f"EXPERT_{name}", value)
    first = ("run.name=first", "expert=endpoint")
    refused(configured(*first, "expert.max_cost=5"), "needs prices", error=ValueError)
    refused(configured(*first, "expert.concurrency=0"), "concurrency=0 must be", error=ValueError)
    folder, again = check(configured(*first)), (*first, "run.resume=true")
    free = ("expert.max_cost=5", "expert.timeout=9", "expert.concurrency=1", "evaluate.samples=3")
    prices = "expert.endpoints=[{name: expert, base_url: '${oc.env:EXPERT_BASE_URL,null}', "
    prices += "model: '${oc.env:EXPERT_MODEL,null}', key: EXPERT_API_KEY, prompt_price: 1, answer_price: 2}]"
    assert check(configured(*again, *free, prices)) == folder
    refused(configured(*again, "expert.temperature=0.1"), "keeps its settings", "expert.temperature")
    refused(configured(*again, prices.replace("name: expert", "name: x")), "expert.endpoints")


def test_what_is_written_of_a_run_holds_no_credential_and_it_can_be_resumed(configured):
    given = ("run.name=first", "+env.HF_TOKEN=planted", "+trainer.tracker='https://u:planted@h/x'")
    folder = check(configured(*given))
    assert "planted" not in (folder / "config.yaml").read_text()
    config = configured(*given, "run.resume=true")
    assert check(config) == folder and config.env.HF_TOKEN == "planted"


def test_how_checkpoints_are_scored_may_differ_and_whose_they_are_may_not(configured, tmp_path, capsys):
    folder, again = check(configured("run.name=first")), ("run.name=first", "run.resume=true")
    capsys.readouterr()
    other = ("paraphrases=2", "samples=3", "train_rows=7", "entropy_rows=0", "batch_rows=9", "stages=[rl]")
    changed = [f"evaluate.{setting}" for setting in other]
    assert check(configured(*again, *changed)) == folder and "delete" not in capsys.readouterr().out
    (folder / "eval/cold").mkdir(parents=True)
    (folder / "eval/cold/answers_of.json").touch()
    assert check(configured(*again, "evaluate.batch_rows=5", *changed[:4])) == folder
    assert "delete" not in capsys.readouterr().out  # as it was scored
    assert check(configured(*again)) == folder
    said = capsys.readouterr().out
    assert "cold stay as they are scored" in said and "evaluate.samples" in said and str(folder) in said
    refused(configured(*again, f"evaluate.of={tmp_path}"), "keeps its settings", "evaluate.of: None -> ")


def test_a_setting_that_has_come_up_since_the_run_was_begun(configured, capsys):
    folder, again = check(configured("run.name=first")), ("run.name=first", "run.resume=true")
    path = folder / "config.yaml"
    old = OmegaConf.load(path)
    since = ("evaluate.paraphrases", "flywheel.turns", "self_emo.min_named_weight", "samples")
    for name in since:
        node, _, last = name.rpartition(".")
        del (OmegaConf.select(old, node) if node else old)[last]
    OmegaConf.save(old, path)
    refused(configured(*again, "flywheel.turns=5"), "flywheel.turns: None -> 5")
    refused(configured(*again, "+trainer.more=1"), "trainer.more: None -> 1")
    (folder / "eval/cold").mkdir(parents=True)
    (folder / "eval/cold/answers_of.json").touch()
    capsys.readouterr()
    assert check(configured(*again)) == folder
    said = capsys.readouterr().out
    assert "goes on with flywheel.turns=2, samples.dev=400" in said and "stay as they are scored" not in said
    assert OmegaConf.load(path).flywheel.turns == 2  # from now on it has been begun with it
    refused(configured(*again, "flywheel.turns=5"), "flywheel.turns: 2 -> 5")
