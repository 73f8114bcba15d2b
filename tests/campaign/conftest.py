"""A folder with functions for an engine, and label jobs in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.label_desk import ENGINE_FUNCTIONS, LabelDesk


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "engine_functions.py").write_text(ENGINE_FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def desk(folder) -> LabelDesk:
    return LabelDesk(folder)
