# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""docs/start.md with its whole training and its server; `tests/promises/test_start.py` has it shortened."""

import re
from pathlib import Path

import pytest

from tests.integration.test_remote_code import catch_uploads
from tests.promises.test_start import follow


@pytest.mark.nightly
def test_trained_model_answers_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catch_uploads(tmp_path / "hub", monkeypatch)
    told = follow(short=False)
    trained = next(number for number, (said, _) in enumerate(told) if "my-run" in said)
    # another CPU may round one of the twelve answers otherwise
    before, after = (float(re.findall(r"([\d.]+)%", told[number][1])[0]) for number in (trained - 1, trained))
    assert before == 50
    assert after > 80
    assert [printed for _, printed in told[trained + 1 :]] == [said for said, _ in told[trained + 1 :]]
