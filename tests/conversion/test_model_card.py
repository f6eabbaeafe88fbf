# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
from pathlib import Path

from huggingface_hub import ModelCard

from fila.conversion.model_card import PartEntry, write_model_card

LOW = PartEntry("low-res tower", "owner/clip", trained=True, license="mit", note="a note")
TEXT = PartEntry("language model", "owner/text", trained=True, license="apache-2.0")
NEW = PartEntry("connector", "new weights, `mlp`")


def test_model_card_names_parts_and_what_is_untrained(tmp_path: Path) -> None:
    write_model_card(tmp_path, name="demo", parts=[LOW, TEXT, NEW], dropped=[("owner/clip", "not read", 3)])
    card = ModelCard.load(tmp_path / "README.md")
    assert "| low-res tower | owner/clip | mit | pretrained | a note |" in card.text
    assert "| connector | new weights, `mlp` | - | **UNTRAINED** (random) |" in card.text
    assert "**UNTRAINED: connector.**" in card.text
    assert "Left behind: 3 tensors of owner/clip (not read)." in card.text
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert "from a clone or a wheel" in card.text
    assert "trust_remote_code=True" in card.text


def test_model_card_has_a_licence_only_if_all_parts_agree(tmp_path: Path) -> None:
    write_model_card(tmp_path, name="demo", parts=[LOW, TEXT, NEW], dropped=[])
    assert ModelCard.load(tmp_path / "README.md").data.license == "other"
    write_model_card(tmp_path, name="demo", parts=[TEXT, TEXT, NEW], dropped=[])
    assert ModelCard.load(tmp_path / "README.md").data.license == "apache-2.0"


def test_model_card_says_when_a_licence_is_not_stated(tmp_path: Path) -> None:
    write_model_card(tmp_path, name="demo", parts=[PartEntry("low-res tower", "x", trained=True)], dropped=[])
    card = ModelCard.load(tmp_path / "README.md")
    assert "| low-res tower | x | not stated | pretrained |" in card.text
    assert card.data.license == "other"
    assert "UNTRAINED" not in card.text
