# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Files of a release agree with each other, and the workflows call targets that there are."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f'"{version}"' in read("fila/version.py")
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[0] == version


def test_workflows_call_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    called = [line for path in workflows for line in re.findall(r"run: (.*)", path.read_text(encoding="utf-8"))]
    assert {command.split()[1] for command in called if command.startswith("make ")} <= targets
    assert [command for command in called if not command.startswith("make ")] == [".ci/run"]
    assert {"make nightly", "make newest TORCH=torch"} <= set(called)


def test_what_workflows_test_is_what_the_package_supports() -> None:
    oldest = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    assert f'python-version: "{oldest}"' in text
