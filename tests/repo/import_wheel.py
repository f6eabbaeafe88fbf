# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Imports every module of the wheel given as argument, out of the wheel: `make wheel`."""

import importlib
import sys
import zipfile


def main(wheel: str) -> None:
    """Raise unless the wheel holds the package, its data and nothing else, and every module of it can be imported."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assets = (
        "page.png",
        "default_model/model.safetensors",
        "default_model/chat_template.jinja",
        "demo_pages/pages.jsonl",
    )
    for needed in (
        "fila_cli.py",
        "fila/py.typed",
        "fila/modeling/modeling_fila.py",
        *(f"fila/assets/{name}" for name in assets),
    ):
        if needed not in names:
            raise SystemExit(f"{wheel} has no {needed}.")
    if strange := [name for name in names if not name.startswith("fila/") and name != "fila_cli.py"]:
        raise SystemExit(f"{wheel} would put {strange[0]} beside other people's packages.")

    sys.path.insert(0, wheel)
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names if name[-3:] == ".py"
    ]
    for name in modules:
        if name != "fila.__main__":
            module = importlib.import_module(name)
            if not str(module.__file__).startswith(wheel):
                raise SystemExit(f"{name} came from {module.__file__}, not from the wheel.")
    sys.stdout.write(f"{len(modules)} modules imported out of {wheel}\n")


if __name__ == "__main__":
    main(sys.argv[1])
