# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What a start imports, each in a process of its own: seconds differ from machine to machine, modules do not."""

import subprocess
import sys
from functools import cache

import pytest

from tests.repo.test_public_api import COMMANDS

# processes that import everything, on a machine that may be busy
pytestmark = pytest.mark.timeout(600)

COMMAND = """
import sys, fila_cli
sys.argv = ["fila", {arguments}]
try:
    fila_cli.main()
except SystemExit as end:
    print("status", end.code)
"""
PACKAGE = "import fila"
AUTO_CLASSES = "from transformers import AutoModelForImageTextToText, AutoProcessor"
# What a command brings: typer, what it stands on, and PIL's reading of headers.
OF_A_COMMAND = {"PIL", "annotated_doc", "annotated_types", "click", "fila", "fila_cli", "pydantic", "pydantic_core"}
OF_A_COMMAND |= {"rich", "shellingham", "typer", "typing_inspection"}
# What the package brings: the towers' classes, what generates, and transformers' pipelines with what these stand on.
OF_THE_PACKAGE = {"blip_2", "clip", "dinov2", "dinov2_with_registers", "internvl", "pix2struct", "sam", "siglip"}
OF_THE_PACKAGE |= {"bert", "speecht5"}  # older versions import all pipelines at once


@cache
def run(code: str) -> tuple[str, frozenset[str]]:
    """What a process prints, and the modules that it has in the end."""
    code += "\nimport sys\nprint('modules:', *sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed, _, modules = process.stdout.rpartition("modules: ")
    return printed, frozenset(modules.split())


def run_command(*arguments: str) -> tuple[str, frozenset[str]]:
    return run(COMMAND.format(arguments=", ".join(map(repr, arguments))))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["--help"], 0), (["plan", "--help"], 0), (["plan", "--tiel", "3"], 2)],
)
def test_what_needs_no_model_imports_none(arguments: list[str], status: int) -> None:
    printed, modules = run_command(*arguments)
    assert printed.endswith(f"status {status}\n")
    assert not modules & {"PIL", "huggingface_hub", "numpy", "torch", "transformers"}


def test_help_lists_every_command() -> None:
    printed, _ = run_command("--help")
    listed = [line.split()[0] for line in printed.partition("Commands:")[2].splitlines() if line.startswith("  ")]
    assert set(listed) == COMMANDS


def test_plan_imports_little_more_than_the_package() -> None:
    printed, modules = run_command("plan", "2200x1700")
    assert printed.splitlines()[1].split()[-1] == "2880"
    more = {name.partition(".")[0] for name in modules - run(PACKAGE)[1]}
    assert more - sys.stdlib_module_names <= OF_A_COMMAND


def test_package_imports_little_more_than_the_auto_classes() -> None:
    more = run(PACKAGE)[1] - run(AUTO_CLASSES)[1]
    models = {name.split(".")[2] for name in more if name.startswith("transformers.models.")}
    assert models <= OF_THE_PACKAGE
    packages = {name.partition(".")[0] for name in more if not name.startswith("_cython")} - sys.stdlib_module_names
    assert packages <= {"fila", "transformers", "PIL", "av", "psutil", "tqdm"}


def test_commands_that_do_not_train_import_no_quantisation() -> None:
    """Each of the modules that a command but `train` imports, in one process."""
    names = "cli.ask cli.demo look.contact_sheet look.estimate look.frame_sheet look.report look.view systems.recipes "
    names += "training.data "
    names += "training.evaluation training.page_files conversion.assemble conversion.verify "
    names += "conversion.import_checkpoint conversion.import_var conversion.export_checkpoint"
    _, modules = run(f"import importlib\nfor name in {names.split()}: importlib.import_module('fila.' + name)")
    assert "fila.training.page_files" in modules
    assert not modules & {"bitsandbytes", "peft"}
