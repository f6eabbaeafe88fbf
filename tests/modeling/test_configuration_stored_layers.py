# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import json
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from fila.modeling.configuration_stored_layers import check_stored_layers
from tests.helpers import tiny_model


@pytest.mark.parametrize("shards", ["5GB", "20KB"])
def test_more_layers_than_tensors_are_refused_before_anything_is_built(shards: str, tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path, max_shard_size=shards)
    check_stored_layers(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 1000
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"`config.json.text_config.num_hidden_layers` is 1000: the files beside it"):
        AutoModelForImageTextToText.from_pretrained(tmp_path)


@pytest.mark.parametrize("folder", ["owner/name", None, "/"])
def test_what_is_no_folder_of_weights_passes(folder: str | None) -> None:
    check_stored_layers(folder)
