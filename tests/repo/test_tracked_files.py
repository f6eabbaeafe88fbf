# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What may be in the repository: no paths of a machine, no hosts of a registry, no big files, headers, one version."""

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

import fila
from tests.cases import each

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("modeling", "processing", "conversion", "training")
INSIDE = ("cli", "look", "systems")  # packages in the folder `fila`
FILE_LIMIT = 500_000
GOLDEN_LIMIT = 21_000_000
WEIGHTS, WEIGHTS_LIMIT = ROOT / "fila" / "assets" / "default_model" / "model.safetensors", 20_000_000
# `/home/me` is the made-up one of examples and tests.
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:work|root|home|Users|opt)/(?!me\b)\w")
# in two parts, so that this file does not hold them
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("debian", "org"))]


@cache
def tracked() -> list[Path]:
    """Files that are tracked or would be by `git add .`, links left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


@cache
def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content[:1024]:
            found[str(path.relative_to(ROOT))] = content.decode("utf-8")
    return found


@cache
def pyproject() -> dict:  # type: ignore[type-arg]
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_no_machine_paths() -> None:
    assert not [name for name, text in texts().items() if MACHINE_PATH.search(text)]


@each("before", ["", "see ", '"', "(", "FROM="])
@each("folder", ["work", "root", "home", "Users", "opt"])
def test_machine_path_pattern_finds(before: str, folder: str) -> None:
    assert MACHINE_PATH.search(f"{before}/{folder}/somebody/file")
    assert not MACHINE_PATH.search(f"{before}model/{folder}/file")


@pytest.mark.parametrize("host", HOSTS)
def test_no_registry_hosts(host: str) -> None:
    assert not [name for name, text in texts().items() if host in text]


def test_no_big_files() -> None:
    golden = [path for path in tracked() if path.is_relative_to(ROOT / "tests" / "golden")]
    assert sum(path.stat().st_size for path in golden) <= GOLDEN_LIMIT
    assert WEIGHTS.stat().st_size <= WEIGHTS_LIMIT
    small = [path for path in tracked() if path not in golden and path != WEIGHTS]
    assert not [path for path in small if path.stat().st_size > FILE_LIMIT]


def test_python_files_have_the_header() -> None:
    header = "# Copyright 2026 The fila authors.\n# Licensed under the Apache License, Version 2.0.\n"
    assert not [name for name, text in texts().items() if name.endswith(".py") and not text.startswith(header)]


def test_text_files_end_with_one_newline() -> None:
    ends = {name: text[-2:] for name, text in texts().items() if text and not name.startswith("tests/golden/")}
    assert not [name for name, end in ends.items() if not end.endswith("\n") or end == "\n\n"]


def test_links_for_editors_point_to_the_folders() -> None:
    for folder in FOLDERS:
        link = ROOT / "fila" / folder
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder


def test_every_folder_is_packaged() -> None:
    tool = pyproject()["tool"]["setuptools"]
    assert tool["package-dir"] == {"fila": "fila"} | {f"fila.{folder}": folder for folder in FOLDERS}
    assert set(tool["packages"]) == set(tool["package-dir"]) | {f"fila.{folder}" for folder in INSIDE}
    for folder in ("fila", *FOLDERS):
        assert (ROOT / folder / "__init__.py").is_file()
        inner = [path for path in (ROOT / folder).glob("*/") if not path.is_symlink()]
        assert {path.name for path in inner} <= {"__pycache__", "assets", *INSIDE}


def test_nobody_is_told_to_install_from_the_index_what_is_not_there() -> None:
    """The project called `fila` there is another one; the changelog tells of it."""
    told = re.compile(r"pip3? install (?:-\S+ )*['\"]?fila(?![\w./-])|(?<![\w.-])fila\[[a-z]")
    # in two parts, so that this file does not hold them
    assert all(told.search("pip install " + name) for name in ("fila", "-U fila\n", "'fila" + "[train]'"))
    assert told.search("fila" + "[video]")
    assert not [name for name, text in texts().items() if name != "CHANGELOG.md" and told.search(text)]


def test_versions_agree() -> None:
    version = pyproject()["project"]["version"]
    assert fila.__version__ == version
    latest = re.search(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert latest is not None
    assert latest[1] == version


def test_constraints_pin_both_ends_of_the_supported_range() -> None:
    (wanted,) = [line for line in pyproject()["project"]["dependencies"] if line.startswith("transformers")]
    bounds = re.fullmatch(r"transformers>=([\d.]+),<(\d+\.\d+)", wanted)
    assert bounds is not None
    oldest, newest = pins("constraints-oldest.txt"), pins("constraints.txt")
    assert oldest["transformers"] == bounds[1]
    major, minor = map(int, bounds[2].split("."))
    assert newest["transformers"].startswith(f"{major}.{minor - 1}.")
    assert f"supports transformers {bounds[1]} to {major}.{minor - 1}" in " ".join(texts()["CHANGELOG.md"].split())


def test_constraints_differ_where_they_must_only() -> None:
    oldest, newest = pins("constraints-oldest.txt"), pins("constraints.txt")
    differing = {name for name in oldest.keys() & newest.keys() if oldest[name] != newest[name]}
    assert differing == {"transformers", "huggingface_hub"}
