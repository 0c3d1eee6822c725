"""What a corpus file is refused with."""

from __future__ import annotations

from pathlib import Path

#: A cell that is quoted in a message may be a whole file.
_MOST_CHARS = 400


class DataError(ValueError):
    """Something in a corpus file cannot be used.

    Args:
        path: the file or folder at fault.
        line: its 1-based line (a CSV header is line 1), None if the fault has no line.
        problem: what is wrong; what is longer than 400 characters is cut.
        remedy: what the user can do about it.
    """

    def __init__(self, path: str | Path, line: int | None, problem: str, remedy: str) -> None:
        problem = problem if len(problem) <= _MOST_CHARS else problem[:_MOST_CHARS] + "..."
        # All four go to args, so that the error survives pickling between worker processes.
        super().__init__(str(path), line, problem, remedy)
        self.path, self.line, self.problem, self.remedy = str(path), line, problem, remedy

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        # A library's words, or a path, may have several lines.
        return " ".join(f"{where}: {self.problem}. Remedy: {self.remedy}.".split("\n"))
