"""Files that stand for the outputs of rules: of the right format, and of a content that means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np


def write_stub(path: Path, words: str) -> None:
    """Write a whole file of the format that its name says, which differs with ``words``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = f"{words} " + "x" * 100
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["words"] = np.frombuffer(content.encode(), dtype="u1")
    elif path.suffix == ".json":
        path.write_text(json.dumps({"words": content}) + "\n")
    elif path.suffix == ".csv":
        path.write_text(f"words\n{content}\n")
    else:
        path.write_text(content + "\n")
