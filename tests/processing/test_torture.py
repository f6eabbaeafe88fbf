# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every input of the torture set gives its exact pixels or is refused, within a second and four images' memory.

The set runs once, in a process of its own, whose memory is measured.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processing.torture import CAP

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.processing.torture", str(tmp_path_factory.mktemp("files"))]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_there_are_enough_inputs_and_each_has_its_own_name(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 380
    assert len({row["name"] for row in rows}) == len(rows)


def test_every_input_gives_its_pixels_or_is_refused(rows: list[dict[str, Any]]) -> None:
    assert {row["name"]: row["outcome"] for row in rows if row["outcome"] not in ("pixels", "refused")} == {}


def test_no_input_takes_a_second(rows: list[dict[str, Any]]) -> None:
    assert {row["name"]: row["seconds"] for row in rows if row["seconds"] > 1} == {}


def test_no_input_takes_the_memory_of_four_images_at_the_limit(rows: list[dict[str, Any]]) -> None:
    assert {row["name"]: row["bytes"] for row in rows if row["bytes"] > 4 * 3 * CAP} == {}


def test_memory_is_measured(rows: list[dict[str, Any]]) -> None:
    measured = {row["name"]: row["bytes"] for row in rows}
    assert measured["bomb: at the limit, RGB"] >= 3 * CAP
