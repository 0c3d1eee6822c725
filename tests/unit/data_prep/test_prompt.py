"""Templates and rendering; over-long prompts lose whole utterances, the oldest first."""

from __future__ import annotations

import copy
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from data_prep.prompt import (
    BUILT_IN,
    PromptTemplates,
    load_paraphrases,
    load_templates,
    render,
    render_again,
)
from recipe.models.fit_prompts import fit_rows
from rewards.labels import LABELS

MELD = LABELS["meld"]
CONTEXT = [{"speaker": "Ann", "text": "I {won}!"}, {"speaker": "Bob", "text": "100 % {name}"}]
PERSONA = {"name": "Cy{d}", "profile": "A {labels} person."}


def write_templates(folder, system: str = "You are {name}.", user: str = "{history}"):
    (folder / "system.txt").write_text(system, encoding="utf-8")
    (folder / "user.txt").write_text(user, encoding="utf-8")
    return folder


# ---- templates ----


@pytest.mark.parametrize("name", ["full", "compact"])
def test_built_in_templates_use_every_field(name):
    templates = load_templates(name)
    for field in ("{name}", "{profile}", "{labels}"):
        assert field in templates.system
    for field in ("{history}", "{last_speaker}", "{name}"):
        assert field in templates.user
    assert load_templates(str(BUILT_IN / name)) == templates


def fields(text: str) -> set[str]:
    """The fields that a template names."""
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


@pytest.mark.parametrize("name", ["full", "compact"])
def test_a_paraphrase_asks_for_the_same_in_other_words(name):
    own, others = load_templates(name), load_paraphrases(name, 3)
    assert len({own, *others}) == 4
    for other in others:
        assert other.system != own.system and other.user != own.user
        # A field may stand in the other message, but none is lost.
        assert fields(other.system) | fields(other.user) == fields(own.system) | fields(own.user)
        for word in ("<think>", "</think>", "last_emotions", "my_emotions", "my_output"):
            assert (word in other.system) == (word in own.system)


def test_a_paraphrase_that_is_not_there_is_named(tmp_path):
    write_templates(tmp_path)
    assert load_paraphrases(tmp_path, 0) == []
    with pytest.raises(ValueError, match=r"paraphrases/1/system.txt is missing"):
        load_paraphrases(tmp_path, 1)


def test_rows_are_rendered_again(make_prompt_row):
    row, (other,) = make_prompt_row(), load_paraphrases("compact", 1)
    (again,) = render_again([row], other)
    assert again["prompt"][0]["content"].startswith("Your name is Bob. Bob is Bob.")
    assert again | {"prompt": row["prompt"]} == row
    assert render_again([row], load_templates("compact")) == [row]


def test_the_default_is_full():
    assert load_templates() == load_templates(None) == load_templates("full")
    assert load_templates("full") != load_templates("compact")
    for key in ("<think>", "</think>", "last_emotions", "my_emotions", "my_output"):
        assert key in load_templates().system


def test_own_templates(tmp_path):
    write_templates(tmp_path, " {{literal}} {name}, caf\u00e9 \n", "{history}\n{last_speaker} {name}")
    for folder in (tmp_path, str(tmp_path)):
        templates = load_templates(folder)
        assert templates == PromptTemplates(
            "{{literal}} {name}, caf\u00e9", "{history}\n{last_speaker} {name}"
        )
    assert render(CONTEXT, PERSONA, MELD, templates)[0]["content"] == "{literal} Cy{d}, caf\u00e9"


def test_own_templates_in_the_current_folder(tmp_path, monkeypatch):
    write_templates(tmp_path / ".", "Mine, {name}.")
    monkeypatch.chdir(tmp_path)
    assert load_templates(".").system == "Mine, {name}."


@pytest.mark.parametrize("missing", ["system.txt", "user.txt"])
def test_a_missing_template(tmp_path, missing):
    (write_templates(tmp_path) / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing} is missing; prompts.dir needs"):
        load_templates(tmp_path)
    with pytest.raises(ValueError, match="is missing"):
        load_templates("no-such-folder")


@pytest.mark.parametrize(
    ("system", "problem"),
    [
        ("{mood}", "mood"),
        ("{history}", "history"),  # of the other template
        ("{}", "unknown field"),
        ("{0}", "unknown field"),
        ("{name.__class__}", "name.__class__"),
        ("{name[0]}", "unknown field"),
        ("{name", "literal brace"),
        ("name}", "literal brace"),
        ("{'my_output': '...'}", "my_output"),
        ("{name: 'Ann'}", "system.txt"),  # a brace that was meant literally, after a field's name
        ("{name:{mood}}", "system.txt"),
        ("{name!q}", "system.txt"),
        ("{name:d}", "system.txt"),
    ],
)
def test_a_bad_field_is_named_when_the_templates_are_read(tmp_path, system, problem):
    write_templates(tmp_path, system)
    with pytest.raises(ValueError) as caught:
        load_templates(tmp_path)
    assert "system.txt" in str(caught.value) and problem in str(caught.value)


def test_the_digest_tells_templates_apart():
    assert load_templates().digest == load_templates("full").digest != load_templates("compact").digest
    assert PromptTemplates("ab", "c").digest != PromptTemplates("a", "bc").digest
    assert len(load_templates().digest) == 12


def test_render():
    templates = PromptTemplates("{name}|{profile}|{labels}", "{history}|{last_speaker}|{name}")
    assert render(CONTEXT, PERSONA, ["joy", "fear"], templates) == [
        {"role": "system", "content": "Cy{d}|A {labels} person.|joy, fear"},
        {"role": "user", "content": "Ann: I {won}!\nBob: 100 % {name}|Bob|Cy{d}"},
    ]


def test_a_theme_has_its_place_and_leaves_none_behind():
    system = "{name}.\n\nAbout {theme}, {{theme}} and {labels}\n{profile}"
    templates = PromptTemplates(system, "{history}\nTheme: {theme}")
    about = render(CONTEXT, PERSONA, ["joy"], templates, "loss {and} hope")
    assert about[0]["content"] == "Cy{d}.\n\nAbout loss {and} hope, {theme} and joy\nA {labels} person."
    assert about[1]["content"].endswith("{name}\nTheme: loss {and} hope")
    without = render(CONTEXT, PERSONA, ["joy"], templates)
    assert without == render(CONTEXT, PERSONA, ["joy"], templates, "")
    assert [m["content"] for m in without] == [
        "Cy{d}.\n\nA {labels} person.", "Ann: I {won}!\nBob: 100 % {name}"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["full", "compact"])
def test_the_built_in_templates_say_nothing_of_the_theme(name):
    templates = load_templates(name)
    assert render(CONTEXT, PERSONA, MELD, templates, "loss") == render(CONTEXT, PERSONA, MELD, templates)
    literal = PromptTemplates("{{theme}}\n{name}", "{history}")  # a brace meant literally is no field
    assert render(CONTEXT, PERSONA, MELD, literal)[0]["content"] == "{theme}\nCy{d}"


def test_the_default_runs_train_on_the_text_they_always_had():
    # A changed digest means that runs before and after are not comparable: change it on purpose only.
    assert {name: load_templates(name).digest for name in ("compact", "full")} == {
        "compact": "8335800fb9e5", "full": "77a4e29331d3"
    }  # fmt: skip


def test_undecodable_templates_are_named(tmp_path):
    write_templates(tmp_path)
    (tmp_path / "user.txt").write_bytes(b"{history}\nCaf\xe9")
    with pytest.raises(ValueError, match="user.txt, line 2: not UTF-8"):
        load_templates(tmp_path)


def test_a_mark_of_byte_order_is_no_part_of_a_prompt_and_an_empty_one_is_none(tmp_path):
    write_templates(tmp_path)
    (tmp_path / "user.txt").write_bytes(b"\xef\xbb\xbf{history}\n")
    assert load_templates(tmp_path).user == "{history}"
    for empty in ("", " \n", "\u200b"):
        (tmp_path / "user.txt").write_text(empty, encoding="utf-8")
        with pytest.raises(ValueError, match="user.txt is empty"):
            load_templates(tmp_path)


# ---- fitting ----

TEMPLATES = load_templates("compact")


def config(limit: int):
    return OmegaConf.create({"data": {"max_prompt_length": limit, "apply_chat_template_kwargs": {}}})


def length(tokenizer, prompt) -> int:
    text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def speech(lengths) -> tuple[tuple[str, str], ...]:
    return tuple((("Ann", "Bob")[i % 2], f"{i} " + "hello " * n) for i, n in enumerate(lengths))


def cut_row(row, keep: int):
    info = row["extra_info"]
    return render(info["context"][-keep:], info["persona"], info["labels"], TEMPLATES)


def test_only_what_is_too_long_is_cut(make_prompt_row, tokenizer, tokenizer_folder):
    rows = [make_prompt_row("a"), make_prompt_row("b", speech([3] * 12)), make_prompt_row("c")]
    kept = copy.deepcopy(rows)
    limit = length(tokenizer, cut_row(rows[1], 5))
    fitted, cut = fit_rows(rows, tokenizer_folder, config(limit), TEMPLATES)
    assert cut == 1
    assert rows == kept  # the rows given are left alone
    assert fitted[0] is rows[0] and fitted[2] is rows[2]
    assert fitted[1]["prompt"] == cut_row(rows[1], 5)
    # Only the prompt is cut: the row keeps its whole dialogue for self-play.
    assert fitted[1] == {**rows[1], "prompt": fitted[1]["prompt"]}


def test_a_cut_prompt_keeps_the_theme(make_prompt_row, tokenizer, tokenizer_folder):
    templates = PromptTemplates("{name}, on {theme}.", "{history}")
    row = make_prompt_row("a", speech([3] * 12), theme="loss")
    row["prompt"] = render(
        row["extra_info"]["context"], row["extra_info"]["persona"], MELD, templates, "loss"
    )
    limit = length(tokenizer, row["prompt"]) - 1
    (fitted,), cut = fit_rows([row], tokenizer_folder, config(limit), templates)
    assert cut == 1 and fitted["prompt"][0]["content"] == "Bob, on loss."


def test_the_limit_itself_fits(make_prompt_row, tokenizer, tokenizer_folder):
    row = make_prompt_row()
    exact = length(tokenizer, row["prompt"])
    assert fit_rows([row], tokenizer_folder, config(exact), TEMPLATES) == ([row], 0)
    fitted, cut = fit_rows([row], str(tokenizer_folder), config(exact - 1), TEMPLATES)
    assert cut == 1 and fitted[0]["prompt"] == cut_row(row, 2)


@given(st.lists(st.integers(0, 8), min_size=2, max_size=10), st.data())
def test_the_longest_end_that_fits_is_kept(make_prompt_row, tokenizer, tokenizer_folder, lengths, data):
    row = make_prompt_row(turns=speech(lengths), persona="Bob")
    ends = {keep: length(tokenizer, cut_row(row, keep)) for keep in range(1, len(lengths) + 1)}
    limit = data.draw(st.integers(ends[1], ends[len(lengths)]))
    (fitted,), cut = fit_rows([row], tokenizer_folder, config(limit), TEMPLATES)
    keep = max(k for k, tokens in ends.items() if tokens <= limit)
    assert fitted["prompt"] == cut_row(row, keep)
    assert cut == (keep < len(lengths))
    assert length(tokenizer, fitted["prompt"]) <= limit
    assert row["extra_info"]["context"][-1]["text"] in fitted["prompt"][1]["content"]


def test_the_last_utterance_is_never_cut(make_prompt_row, tokenizer, tokenizer_folder):
    row = make_prompt_row("meld:d9:4", speech([1, 1, 30]))
    limit = length(tokenizer, cut_row(row, 1)) - 1
    with pytest.raises(ValueError, match=rf"meld:d9:4: .* {limit + 1} tokens .*max_prompt_length={limit}"):
        fit_rows([row], tokenizer_folder, config(limit), TEMPLATES)


def test_no_rows_are_no_error(tokenizer_folder):
    # flywheel.cold_start_rows=0 leaves no row with a response; the flywheel has its own message for that.
    assert fit_rows([], tokenizer_folder, config(10), TEMPLATES) == ([], 0)
