"""Run a command with the words of a variable behind it: ``ARGS='a "b c"' python3 launch/words.py ARGS echo``.

The variable is read as a shell reads a command line: spaces part words, quotes and backslashes keep them
together. Nothing in it is run or replaced: ``$``, backticks, ``;``, ``*`` and their like are themselves.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shlex
import sys


def main(arguments: list[str]) -> None:
    """Become the command; its exit status is this one's, and 1 if the variable holds an open quote."""
    name, *command = arguments
    try:
        words = shlex.split(os.environ.get(name, ""))
    except ValueError as error:
        sys.exit(
            f"error: {name}={os.environ[name]}\n{name} is read like a shell command line: {error}. Close the "
            "quote, or put a backslash before it"
        )
    os.execvp(command[0], command + words)


if __name__ == "__main__":
    main(sys.argv[1:])
