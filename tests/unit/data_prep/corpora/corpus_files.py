"""Small corpus files of the tests' own, and how an error about one is checked."""

from __future__ import annotations

from pathlib import Path

from data_prep.corpora.dialogue import DataError

MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
EMORY_HEADER = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode\n"
MELD_ROW = "1,Hello there,Ada,joy,positive,0,0\n"
EMORY_ROW = "Hello there,['Ada B'],Joyful,1,1,1,1\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def assert_error(error: DataError, name: str, line: int | None, problem: str) -> None:
    where = name if line is None else f"{name}, line {line}"
    assert f"{where}: " in str(error)
    assert problem in str(error)
    assert "Remedy: " in str(error)


HEADING = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
RATERS = "C-E1:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t(a [bracketed] note)\n\n"


def summary(turn: str, code: str) -> str:
    return f"[1.0000 - 2.0000]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]\n{RATERS}"


def write_dialogue(root: Path, name: str, transcript: str | bytes, evaluation: str | bytes) -> None:
    folder = root / f"Session{int(name[3:5])}" / "dialog"
    write(folder / "transcriptions" / f"{name}.txt", transcript)
    write(folder / "EmoEvaluation" / f"{name}.txt", evaluation)


def simple_dialogue(root: Path, name: str) -> None:
    turn = f"{name}_F000"
    write_dialogue(root, name, f"{turn} [001.0000-002.0000]: Hello.\n", HEADING + summary(turn, "neu"))
