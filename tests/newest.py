# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Runs the tests and prints the packages that differ from constraints.txt and every error once: `make newest`.

A new transformers may fail hundreds of tests with one error, so errors are counted and not listed by test.
"""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"


def differing() -> list[str]:
    """Return a line for each installed package that is not the one of constraints.txt."""
    lines = []
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("==")
        try:
            if pinned and (found := version(name)).partition("+")[0] != pinned:
                lines.append(f"{name:24s} {found:16s} constraints.txt: {pinned}")
        except PackageNotFoundError:  # of the extra `dev`
            continue
    return lines


def errors(report: Path) -> Counter[str]:
    """Count the failed tests of a junit report by the first line of their error."""
    found = ET.parse(report).getroot().iter()
    return Counter(
        (item.get("message") or "?").splitlines()[0][:200] for item in found if item.tag in ("failure", "error")
    )


def main() -> int:
    """Run pytest with the arguments of this script; return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        status = subprocess.call([sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *sys.argv[1:]])
        counted = errors(report) if report.is_file() else Counter()
    names = ("transformers", "torch", "trl", "huggingface_hub", "tokenizers", "accelerate", "peft")
    print("\ntested with", ", ".join(f"{name} {version(name)}" for name in names))
    print("fila requires", next(line for line in requires("fila") or [] if line.startswith("transformers")))
    print("\n".join(["", *differing()]))
    print(f"\n{counted.total()} failures, of {len(counted)} kinds")
    for message, count in counted.most_common():
        print(f"{count:5d}  {message}")
    return status


if __name__ == "__main__":
    sys.exit(main())
