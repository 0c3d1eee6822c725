"""`make publish`: hand a finished run on as a Hugging Face folder, and push it where that is asked for.

`python -m recipe.publish RUN[:STAGE] [--repo owner/name] [--dataset owner/name] [--push]`. Everything is
written to ``publish/`` of the run's folder first; without ``--push`` it stays there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from data_prep.disk import in_words
from data_prep.files import replace_folder, write_text


def main() -> int:
    raise NotImplementedError
