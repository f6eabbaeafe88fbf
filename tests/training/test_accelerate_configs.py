# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""The config files in examples/accelerate, read as `accelerate launch` reads them."""

from pathlib import Path

import pytest
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from accelerate.utils.launch import prepare_multi_gpu_env

from tests.helpers import tiny_model

FOLDER = Path(__file__).parents[2] / "examples" / "accelerate"
FILES = sorted(FOLDER.glob("*.yaml"))


def environment(file: Path) -> dict[str, str]:
    """What `accelerate launch` puts into the environment of each process."""
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(file), "train.py"]))
    found: dict[str, str] = prepare_multi_gpu_env(args)
    return found


def test_there_is_a_file_for_each_way() -> None:
    assert [file.name for file in FILES] == ["ddp.yaml", "fsdp2.yaml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_the_file_without_an_unknown_key(file: Path) -> None:
    config = load_config_from_file(str(file))
    assert config.num_processes == 2
    assert config.mixed_precision == "bf16"
    accepted = launch_command_parser().parse_args(["train.py"])
    assert [key for key in config.fsdp_config if key not in accepted] == []


def test_fsdp2_file_shards_the_blocks_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(FOLDER / "fsdp2.yaml").items():
        if name.startswith("FSDP_"):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert str(plugin.state_dict_type).endswith("FULL_STATE_DICT")
    model = tiny_model()
    is_unit = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert is_unit is not None
    units = {type(module).__name__ for module in model.modules() if is_unit(module)}
    assert units == set(model._no_split_modules)
    assert units == {"ClipEmbeddings", "CLIPEncoderLayer", "ConvNextBlock", "CvfmLayer", "LlamaDecoderLayer"}
