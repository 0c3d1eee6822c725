"""The page of a run: what stands on it, what a broken run says, and that a browser can use it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recipe.evaluation.gold_probability import gold_probability
from recipe.evaluation.measures import MEASURES
from recipe.evaluation.results import MEASURE_NAMES, read_evaluation, read_summaries
from recipe.evaluation.rl_stages import groups_of, read_rl_stages
from recipe.pages import clusters as persona_table
from recipe.pages import report
from recipe.pages.report import print_results, step_parts, write_report
from recipe.pages.rollout_browser import shown_groups
from recipe.run.files import run_folder
from recipe.run.table12 import against_paper
from tests.unit.fake_run import make_run, without_a_model


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "fake")
    with pytest.MonkeyPatch.context() as patch:
        without_a_model(patch)
        persona_table.write(folder / "data", folder, folder, None)
    return folder


@pytest.fixture(scope="module")
def page(run) -> str:
    return write_report(run).read_text(encoding="utf-8")


def test_the_page_stands_alone_and_starts_with_the_headline_table(page):
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page) and "@import" not in page
    first = page[page.index("<table") : page.index("</table>")]
    for name in ("majority class", "TF-IDF, logistic regression", "macro F1", "keeps the rule"):
        assert name in first
    assert page.index('<figure class="course">') < page.index('class="sentence"') < page.index("<table")
    folded = page[page.index('<details id="splits">') :]
    assert "after RL" in folded and "weighted F1" in folded and "avg" in folded
    assert page.count("<figure") == page.count("<figcaption>") == page.count("<svg") >= 10
    for part in ("same mistake again", "wrong consensus", "distinct-2", "label divergence", "support", "ECE"):
        assert part in page
    assert "dev: meld/acc/mean@1" in page and "A step of iter_1/rl takes" in page
    assert (
        "verl" in page and "torch" in page and "<th>this run</th></tr>\n<tr><td>self-emo (git commit)" in page
    )


def test_the_page_takes_rewards_apart(run, page):
    """Recognition or confidence, pass@n, r2's information, own emotions, replies and B's own accuracy."""
    part = page[page.index('<h2 id="gains">') : page.index('<h2 id="circularity">')]
    table = read_summaries(run, read_evaluation(run, "records"))["rl"]["avg"]
    for key in ("twin", "sharp_one", "sharp_three", "top_weight", "gold_weight", "majority_share"):
        assert f"<td>{table[key]:.3f}</td>" in part
    for words in ("pass@n", "majority vote right", "r2 of right minus wrong", "Cohen", "always neutral"):
        assert words in part
    assert part.count("<figure>") == 6  # per RL step
    p_gold = part[part.index("<tr><th>p(gold)") :]
    for name in ("records", "records_train"):
        records = [r for r in read_evaluation(run, name)["rl"] if r["corpus"] == "meld"]
        assert f"<td>{gold_probability(records)['meld'].mean:.3f}<span" in p_gold
    assert f"</td><td>{sum(r['acc'] for r in records) / len(records):.3f}</td></tr>" in p_gold
    own = json.loads((run / "eval/rl/own_emotions.json").read_text())
    for corpus in ("meld", "iemocap", "emorynlp"):
        row = own["understanding"][corpus]
        assert f'<td class="t">{corpus}</td><td>{row["n"]}</td><td>{row["mine"]:.3f}</td>' in part
    stages = read_rl_stages(run)
    gold = [group for group in stages[0].groups if not group.self_labelled]
    assert f"<td>{sum(group.passed for group in gold) / len(gold):.3f}</td>" in part
    kept = json.loads((run / "eval/training.json").read_text())
    assert [len(kept["steps"][name]) for name in ("iter_1/rl", "iter_2/rl")] == [6, 6]
    assert len(kept["buffers"]) == 3
    for key in ("pass_at_n", "twin", "sharp_one", "sharp_three", "gold_weight", "top_weight", "named", "ece"):
        assert kept["steps"]["iter_1/rl"][0][key] is not None
    rows = page[page.index("responses right on gold rows") :]
    assert "rollout 2" in rows and "<td>iter_2</td>" in rows


def test_tests_on_the_page_permute_dialogues(page):
    assert "McNemar" not in page and "p of permutations of whole dialogues" in page


def test_what_the_reader_found_is_kept_beside_the_records(tmp_path, run, monkeypatch):
    kept = shutil.copytree(run, tmp_path / "kept")
    write_report(kept)
    monkeypatch.setattr(report.gains_section, "readers", lambda rows: pytest.fail("trained once more"))
    before = write_report(kept).read_text()
    assert "Cohen" in before
    (kept / "data/train.parquet").unlink()  # an older run that has kept no training prompts
    (kept / "eval/rl/own_emotions.json").unlink()
    assert "Cohen" not in write_report(kept).read_text()


def test_a_collapse_stands_on_the_page(tmp_path, run):
    """Planted: after RL every answer is the corpus's first label, and earns more."""
    planted = shutil.copytree(run, tmp_path / "planted")
    for stage, score in (("cold", 0.1), ("rl", 0.9)):
        path = planted / f"eval/{stage}/records.json"
        records = json.loads(path.read_text())
        for r in records:
            if stage == "rl":
                r |= {"pred": "Neutral" if r["corpus"] == "emorynlp" else "neutral"}
            else:
                r |= {"pred": r["gold"]}
            r |= {"acc": float(r["pred"] == r["gold"]), "valid": 1.0, "reason": "", "score": score}
            r["parsed"] = json.dumps(json.loads(r["parsed"]) | {"last_emotions": {r["pred"]: 1.0}})
        path.write_text(json.dumps(records))
    text = html.unescape(write_report(planted).read_text())
    titles = [alarm["title"] for alarm in json.loads((planted / "eval/alarms.json").read_text())]
    assert any(title.startswith("the answers collapse") for title in titles)
    assert "WARNING</b>: the answers collapse: reward up, macro-F1 down" in text[: text.index("<h2")]
    assert "From after cold start to after RL the mean reward rose from 0.100 to 0.900" in text


def test_what_a_model_wrote_stays_text(page):
    assert "&lt;script&gt;throw 1" in page and "<script>throw" not in page


def test_settings_that_differ_from_the_paper_are_marked(page):
    assert re.search(r'class="differs"><td>data.train_batch_size</td><td>64</td><td>4</td>', page)
    assert "<tr><td>actor_rollout_ref.actor.kl_loss_coef</td><td>0.001</td><td>0.001</td>" in page
    assert re.search(r'class="differs"><td>trainer.save_freq</td><td>480</td><td>–</td>', page)


def test_the_papers_own_settings_agree_with_table_12(root):
    from omegaconf import OmegaConf

    config = OmegaConf.merge(
        OmegaConf.load(root / "conf/experiment/paper_exact.yaml"), {"base": {"name": "Qwen3-8B"}}
    )
    lines = against_paper(config)
    assert all(line["same"] for line in lines) and len(lines) == 26
    values = {line["name"]: line["paper"] for line in lines}
    assert values["actor_rollout_ref.actor.optim.lr"] == 1e-6 and values["trainer.test_freq"] == 10


def test_groups_on_the_page(run):
    stages = read_rl_stages(run)
    assert [stage.name for stage in stages] == ["iter_1/rl", "iter_2/rl"]
    everything = shown_groups(stages, most=1000)
    assert len(everything) == sum(len(stage.groups) for stage in stages)
    few = shown_groups(stages, most=5)
    assert [g["place"] for g in few][:: len(few) - 1] == ["iter_2/rl/6", "iter_1/rl/1"]
    for group in everything:
        assert sum(r["best"] for r in group["rollouts"]) == 1 and group["rollouts"][0]["best"]
    entered = [r for g in everything if g["stage"] == "iter_2/rl" for r in g["rollouts"] if r["enters_b"]]
    rows = pq.read_table(run / "iter_2/buffer/buffer.parquet").to_pylist()
    kept = {row["response"] for row in rows if (row["response_from"] or {}).get("iteration") == 2}
    assert {r["response"] for r in entered} == kept
    assert any(r["think"] and r["rest"].startswith("{") for r in everything[0]["rollouts"])


def test_an_older_run_is_shown_too(tmp_path, run):
    """Its summaries lack what was added later; without records there is nothing to add."""
    old = shutil.copytree(run, tmp_path / "old")
    for path in old.glob("eval/*/summary.json"):
        table = json.loads(path.read_text())
        path.write_text(
            json.dumps({c: {k: row[k] for k in ("n", *MEASURES, "reasons")} for c, row in table.items()})
        )
    records = read_evaluation(old, "records")
    assert read_summaries(old, records) == read_summaries(run, records)
    for path in old.glob("eval/*/records.json"):
        path.unlink()
    (old / "versions.json").unlink()
    shutil.rmtree(old / "iter_1")
    shutil.rmtree(old / "iter_2")
    page = write_report(old).read_text()
    assert "No checkpoint has been scored with records" in page and "No RL stage has rollouts" in page
    assert "after cold start" in page and "now (the run kept none)" in page


def test_a_run_that_has_scored_nothing_yet_has_a_page(tmp_path, run):
    young = shutil.copytree(run, tmp_path / "young")
    for name in ("eval", "iter_0", "iter_1", "iter_2"):
        shutil.rmtree(young / name)
    page = write_report(young).read_text()
    assert "Unfinished: no score yet" in page and "No RL stage has rollouts" in page


def test_what_is_broken_is_named(tmp_path, run):
    broken = shutil.copytree(run, tmp_path / "broken")
    (broken / "iter_2/rl/rollouts/step_000006.parquet").write_bytes(b"half")
    (broken / "iter_1/rl/train.parquet").unlink()
    stages = read_rl_stages(broken)
    assert "step_000006.parquet cannot be read" in stages[1].problems[0] and len(stages[1].groups) == 5 * 6
    assert stages[0].problems == ["iter_1/rl has no train.parquet, so no rollout is shown"]
    (broken / "eval/rl/summary.json").write_text("{")
    with pytest.raises(ValueError, match="eval/rl/summary.json: no JSON"):
        write_report(broken)
    with pytest.raises(ValueError, match="nowhere: no run"):
        run_folder(str(tmp_path / "nowhere"))


def test_rollouts_of_another_run_are_refused(tmp_path, run):
    mixed = shutil.copytree(run, tmp_path / "mixed")
    rows = pq.read_table(mixed / "iter_1/rl/train.parquet")
    pq.write_table(rows.slice(0, 1), mixed / "iter_1/rl/train.parquet")
    with pytest.raises(ValueError, match="is not in iter_1/rl/train.parquet"):
        read_rl_stages(mixed)


def test_the_warning_stands_on_the_page(tmp_path, run, monkeypatch):
    """Planted: in the last RL stage gold prompts go wrong while self-labelled ones earn more and more."""
    planted = shutil.copytree(run, tmp_path / "planted")
    for path in sorted((planted / "iter_2/rl/rollouts").glob("*.parquet")):
        records = pq.read_table(path).to_pylist()
        late = records[0]["step"] > 3
        for r in records:
            if ":self:" in r["row_id"]:
                r["score"] = 1.1 if late else 0.1
            else:
                r["acc"] = 0.0 if late else 1.0
        pq.write_table(pq.read_table(path).schema.empty_table().from_pylist(records), path)
    monkeypatch.setattr(report, "shown_groups", lambda stages: [])  # quicker
    text = write_report(planted).read_text()
    assert text.count("<b>WARNING</b>") >= 2  # on top, and where it is explained
    assert (
        "From the first steps of iter_2/rl to its last steps accuracy on gold labels fell from 1.000" in text
    )
    assert "R on self-labelled prompts rose from 0.100 to 1.100" in text


def test_no_warning_where_none_is_due(page):
    assert "WARNING" not in page and "No warning" in page


def test_the_terminal_says_the_names_of_the_page(page, run, capsys):
    print_results(run)
    text = capsys.readouterr().out
    head = text.strip().splitlines()[0]
    for name in ("checkpoint", "accuracy", "weighted F1", "keeps the rule", "mean reward"):
        assert name in head and f">{name}</th>" in page
    sentence = text.strip().splitlines()[-1]
    assert sentence.startswith("On 36 held-out utterances accuracy went from")
    assert sentence in html.unescape(page)
    assert list(MEASURE_NAMES) == ["accuracy", "weighted_f1", "valid", "reward"]


def test_broken_answers_are_told_in_both_ways(page, run, capsys):
    table = read_summaries(run, read_evaluation(run, "records"))["cold"]["avg"]
    assert (
        table["accuracy_nearest"] > table["accuracy"]
    )  # one answer in ten names a label and breaks the rule
    part = page[page.index('<details id="splits">') : page.index('<h2 id="labels">')]
    print_results(run)
    said = capsys.readouterr().out
    for name, measure in (
        ("accuracy, nearest", "accuracy_nearest"),
        ("weighted F1, nearest", "weighted_f1_nearest"),
    ):
        assert f"<th>{name}</th>" in part and f"<td>{table[measure]:.3f}</td>" in part
        assert name in said.splitlines()[1] and f"{table[measure]:.3f}" in said
    assert "kappa 0.43" not in part  # the dialogues are made up


def test_other_wordings_and_what_a_corpus_allows_stand_on_the_page(tmp_path, run, capsys):
    told = shutil.copytree(run, tmp_path / "told")
    values = {
        measure: {"mean": 0.5, "low": 0.25, "high": 0.75, "values": [0.25, 0.75]} for measure in MEASURES
    }
    (told / "eval/rl/summary_paraphrases.json").write_text(json.dumps({"meld": values, "avg": values}))
    config = (told / "config.yaml").read_text()
    (told / "config.yaml").write_text(config.replace("raw_dir: null", "raw_dir: /raw"))
    text = html.unescape(write_report(told).read_text())
    assert '<td>after RL</td><td class="t">meld</td><td>2</td><td>0.500<span' in text
    assert "0.250 to 0.750" in text
    assert "worth: its three annotators agree with Fleiss' kappa 0.43 (Poria et al. 2019" in text
    print_results(told)
    assert "after RL, in 2 other wordings of the prompt:" in capsys.readouterr().out


def test_the_page_says_what_a_run_cost(tmp_path, run, page):
    assert "No GPU. Nothing was asked of an endpoint" in page
    paid = shutil.copytree(run, tmp_path / "paid")
    config = (paid / "config.yaml").read_text().replace("profile: cpu", "profile: gpu")
    trainer = "trainer: {n_gpus_per_node: 8, nnodes: 2, "
    (paid / "config.yaml").write_text(config.replace("trainer: {", trainer))
    (paid / "state.json").write_text(
        json.dumps({"steps": {name: {"seconds": 900.0} for name in ("data", "iter_1/rl")}})
    )
    usage = {"asked": 3, "cached": 4, "prompt_tokens": 7000, "answer_tokens": 800, "price": 12.345}
    for name in ("data/personas", "judge/cold_rl/verdicts-one"):
        path = paid / f"{name}.usage.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(usage))
    text = write_report(paid).read_text()
    assert "16 GPUs, held for 8.00 GPU-hours (<code>plan.dollars" in text  # 16 of them for half an hour
    row = "<td>7</td><td>7000</td><td>800</td><td>12.35</td>"
    assert f"<td>data/personas</td>{row}" in text and f"<td>judge/cold_rl/verdicts-one</td>{row}" in text
    with (paid / "config.yaml").open("a") as file:
        file.write("plan: {dollars_per_gpu_hour: 2.5}\n")
    assert "8.00 GPU-hours: 20.00 dollars." in write_report(paid).read_text()


def test_what_is_missing_or_broken_is_said_and_the_rest_is_shown(run, tmp_path, capsys):
    hurt = shutil.copytree(run, tmp_path / "hurt")
    assert not any(stage.problems for stage in read_rl_stages(hurt))
    (hurt / "eval/rl/records.json").unlink()
    (hurt / "iter_1/rl/counts.json").write_text('{"steps": 9}')
    steps = len(list((hurt / "iter_1/rl/rollouts").glob("step_*.parquet")))
    (hurt / "judge/cold_rl").mkdir(parents=True)
    (hurt / "judge/cold_rl/summary.json").write_text("{")
    metrics = hurt / "iter_1/rl/metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])  # half of the last step's
    summary = json.loads((hurt / "eval/rl/summary.json").read_text())
    summary["avg"]["valid"] = 0.25
    (hurt / "eval/rl/summary.json").write_text(json.dumps(summary))
    text = html.unescape(write_report(hurt).read_text())
    said = capsys.readouterr().err
    for words in (
        "eval/rl/records.json is missing, and with it the intervals and tests of it: delete eval/rl and",
        f"iter_1/rl/rollouts lacks {9 - steps} of 9 steps; the others are shown",
        "judge/cold_rl/summary.json: no JSON",
        "make judge writes it again",
        "after RL: 25% of the test answers keep the rule, the others earn nothing",
        "iter_1/rl has no metrics of step 6, 7, 8, 9: it was ended between the step's checkpoint and its",
        "iter_1/rl/metrics.jsonl: 1 broken line(s), which a kill leaves, are left out",
    ):
        assert words in text and words in said
    (hurt / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"hurt/state.json: no JSON .*; write {\"steps\": {}} to it"):
        write_report(hurt)


def test_judged_pairs_are_shown_with_the_judges_reasoning(run, tmp_path):
    judged = shutil.copytree(run, tmp_path / "judged")
    folder = judged / "judge/early_1_late_1"
    folder.mkdir(parents=True)
    shares = {"n": 1, "a": 0.0, "b": 1.0, "tie": 0.0, "p": 1.0, "first_place": 0.5}
    aspect = {"judges": {"one": shares}, "kappa": {}, "alike": 3}
    verdict = {"verdict": "b", "texts": ["First the person <b>.", "Once more."]}
    content = {
        "summary": {"a": "early_1", "b": "late_1", "pairs": 4, "left_out": 2, "set_aside": {},
                    "aspects": {"expression": aspect}},
        "pairs": {"meld:x": {"persona": {"name": "Ann", "profile": "is glad"}, "label": {"joy": 1.0},
                             "context": [{"speaker": "Bob", "text": "Hi there."}],
                             "a": "<think>hm</think>{early}", "b": "<think>so</think>{late}"}},
        "verdicts-one": {"meld:x": {"expression": verdict}},
    }  # fmt: skip
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    text = write_report(judged).read_text()
    assert "A/B judge: early in RL 1 against late in RL 1" in text
    assert "Not asked about expression: 3 pairs that are alike in it." in text
    assert "meld:x, label joy 1.00: expression late in RL 1 (one)" in text
    for shown in (
        "Bob: Hi there.",
        "<pre>{early}</pre>",
        "<pre>First the person &lt;b&gt;.</pre>",
        "Once more.",
    ):
        assert shown in text


def test_parts_of_a_step_are_means_without_the_first():
    def entry(**seconds):
        return {"data": {f"timing_s/{name}": value for name, value in seconds.items()}}

    entries = [
        entry(gen=90.0, step=99.0),
        {"data": {"self_emo/reward": 0.5}},  # ended by a kill between its checkpoint and its times
        entry(gen=2.0, step=5.0, save_checkpoint=2.0),
        entry(gen=4.0, step=5.0),
    ]
    parts = step_parts(entries)
    assert parts == {"generation and reward": 3.0, "checkpoints": 1.0, "everything else": 1.0}
    assert step_parts(entries[:1]) == {} == step_parts([])


# ---- in a browser ----

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page in")


def dumped(path: Path, fragment: str = "") -> str:
    """The page's DOM after its script has run; fails on anything that the script complains about."""
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
            "--virtual-time-budget=5000", "--dump-dom", f"file://{path}{fragment}",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    return done.stdout


def shown(dom: str) -> list[tuple[dict[str, str], list[dict[str, str]]]]:
    """The groups that a DOM does not hide, with the rollouts that it does not hide."""
    found = []
    for group in re.split(r'(?=<details class="group")', dom)[1:]:
        tag = group[: group.index(">")]
        rollouts = [
            dict(re.findall(r'data-(\w+)="([^"]*)"', tag)) | {"text": text}
            for tag, text in re.findall(r'(<div class="rollout[^>]*>)(.*?)</div>', group, flags=re.S)
            if "hidden" not in tag
        ]
        if "hidden" not in tag:
            found.append((dict(re.findall(r'data-(\w+)="([^"]*)"', tag)), rollouts))
    return found


@needs_browser
def test_the_filters_work_in_a_browser(run, page):
    everything = shown(page)
    rollouts = sum(len(r) for _, r in everything)
    assert len(everything) == page.count('<details class="group"') > 20 and rollouts == 4 * len(everything)
    dom = dumped(run / "report.html", "#corpus=meld&valid=0")
    some = shown(dom)
    assert some and {group["corpus"] for group, _ in some} == {"meld"}
    assert {r["valid"] for _, part in some for r in part} == {"0"}
    expected = [r for g, part in everything if g["corpus"] == "meld" for r in part if r["valid"] == "0"]
    assert sum(len(part) for _, part in some) == len(expected)
    assert f"{len(expected)} rollouts of {len(some)} prompts</output>" in dom
    best = shown(dumped(run / "report.html", "#step=iter_1%2Frl%2F2&best=1&q=ZOË"))
    expected = [
        r for g, part in everything if g["step"] == "iter_1/rl/2" for r in part
        if r["best"] == "1" and "zoë" in r["text"].lower()
    ]  # fmt: skip
    assert sum(len(part) for _, part in best) == len(expected) > 0


@needs_browser
def test_the_page_fits_a_phone(run, page, tmp_path):
    """In a frame of 390 pixels the page, all of it unfolded, is not wider than the frame."""
    measure = (
        "<script>addEventListener('load', () => setTimeout(() => {"
        "const page = document.querySelector('iframe').contentDocument.documentElement;"
        "page.querySelectorAll('details').forEach((details) => { details.open = true; });"
        "document.title = 'width ' + page.scrollWidth;}, 500))</script>"
    )
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "phone.html").write_text(f'<iframe src="report.html" width=390 height=800></iframe>{measure}')
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--allow-file-access-from-files",
            "--virtual-time-budget=5000", "--dump-dom", f"file://{tmp_path}/phone.html",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    (width,) = re.findall(r"<title>width (\d+)</title>", done.stdout)
    assert int(width) <= 390


def test_a_file_holds_its_groups(run):
    groups = dict(groups_of(run / "iter_1/rl/rollouts/step_000001.parquet", without=("response",)))
    assert all(len(rollouts) == 4 and "response" not in rollouts[0] for rollouts in groups.values())
