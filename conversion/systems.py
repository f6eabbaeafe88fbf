# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Table of the original systems whose checkpoints can be imported."""

from .source_system import SourceSystem
from .system_cogvlm2 import COGVLM2_VIDEO
from .system_deepseek_ocr import DEEPSEEK_OCR
from .system_deepseek_vl import DEEPSEEK_VL_HYBRID
from .system_eagle2 import EAGLE2, EAGLE2_SMALL
from .system_granite import GRANITE4_VISION
from .system_internvl_leo_minicpm import INTERNVL, LEO, MINICPM_V
from .system_llava import EAGLE, LLAVA_HR, LLAVA_NEXT, LLAVA_UHD, MINI_GEMINI
from .system_minicpm_v_4_6 import MINICPM_V_4_6
from .system_video import VIDEOLLAMA2

SYSTEMS: dict[str, SourceSystem] = {
    system.name: system
    for system in (
        COGVLM2_VIDEO,
        DEEPSEEK_OCR,
        DEEPSEEK_VL_HYBRID,
        EAGLE,
        EAGLE2,
        EAGLE2_SMALL,
        GRANITE4_VISION,
        INTERNVL,
        LEO,
        LLAVA_HR,
        LLAVA_NEXT,
        LLAVA_UHD,
        MINI_GEMINI,
        MINICPM_V,
        MINICPM_V_4_6,
        VIDEOLLAMA2,
    )
}


def find_system(name: str) -> SourceSystem:
    """Return the system of that name.

    Raises:
        ValueError: If there is none.
    """
    if name == "var":
        raise ValueError(
            "VAR's checkpoints are no folders of a vision-language model. Use `fila import --system var`, or "
            "`fila.conversion.import_var`."
        )
    if name not in SYSTEMS:
        raise ValueError(f"`system` must be one of {sorted(SYSTEMS)}; got {name!r}.")
    return SYSTEMS[name]
