# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Install the wheel and the sdist in empty environments, and keep the promises out of them: `make release-check`.

The tests of tests/promises, which type what README and docs say, run in a folder that holds the tests and the docs and
nothing of the package, so that what they import is what was installed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# what the tests read besides the package
READ = ("tests", "docs", "examples", "README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml", "constraints.txt")


def run(*command: str, cwd: Path) -> None:
    """Run a command; end with its status if it fails."""
    sys.stdout.write(f"$ {' '.join(command)}\n")
    sys.stdout.flush()
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    settings.pop("PYTHONPATH", None)
    if status := subprocess.run(command, cwd=cwd, env=settings, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {status}.")


def environment(folder: Path) -> Path:
    """Make an empty virtual environment and return its folder of programs."""
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if os.name == "nt" else "bin")


def pip(programs: Path, *arguments: str, cwd: Path) -> None:
    """Install, with the versions of constraints.txt."""
    quiet = ("--disable-pip-version-check", "-qq", "install", "--no-compile")
    run(str(programs / "python"), "-m", "pip", *quiet, "-c", str(ROOT / "constraints.txt"), *arguments, cwd=cwd)


def build(folder: Path) -> tuple[Path, Path]:
    """Build both distributions from what git tracks, and return the wheel and the sdist."""
    clone = folder / "clone"
    run("git", "clone", "--quiet", str(ROOT), str(clone), cwd=folder)
    programs = environment(folder / "build")
    pip(programs, "build", cwd=folder)
    run(str(programs / "python"), "-m", "build", "--outdir", str(folder / "dist"), cwd=clone)
    (wheel,), (sdist,) = (sorted((folder / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return wheel, sdist


def check_commands(programs: Path, folder: Path) -> None:
    """Run the README's first commands with nothing but the core dependencies."""
    run(str(programs / "fila"), "--version", cwd=folder)
    run(str(programs / "fila"), "recipes", cwd=folder)
    run(str(programs / "fila"), "demo", cwd=folder)


def main(arguments: Sequence[str]) -> None:
    """Check both distributions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path, help="folder to work in, and to keep")
    given = parser.parse_args(arguments)
    folder = (given.keep or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        wheel, sdist = build(folder)
        place = folder / "elsewhere"
        place.mkdir()
        for distribution in (sdist, wheel):
            programs = environment(folder / f"of-{distribution.suffix[1:]}")
            pip(programs, str(distribution), cwd=place)
            check_commands(programs, place)
        # `programs` are those of the wheel; its promises need what the extra `test` brings
        pip(programs, f"{wheel}[test]", cwd=place)
        for name in READ:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place / name)
        run(str(programs / "python"), "-P", "-m", "pytest", "-q", "-n", "2", "tests/promises", cwd=place)
    finally:
        if given.keep is None:
            shutil.rmtree(folder)
    sys.stdout.write(f"{wheel.name} and {sdist.name} install and keep the promises\n")


if __name__ == "__main__":
    main(sys.argv[1:])
