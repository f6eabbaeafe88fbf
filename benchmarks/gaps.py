# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""What the default model loses by new fonts, and what by new layouts and words: the two differences, one by one.

    python benchmarks/gaps.py fila/assets/default_model FONTS

Makes pages that were never trained on, with the fonts of training, of the test split or of neither (control), and
layouts and words of training or test; FONTS is the folder of the font files, filled from PyPI. Prints exact match
where text is at most 4 pixels tall on the tiles, 8 or more on the high-res canvas. About a minute per 100 pages of one
kind on a core.
"""

import argparse
from itertools import product
from pathlib import Path

from fila.cli.ask import load_checkpoint
from fila.training.data import questions
from fila.training.evaluation import LARGE_ENOUGH, SMALL_PRINT, answer_questions, score
from fila.training.page_fonts import obtain_faces
from fila.training.pages import make_sample

FIRST_SEED = 9_500_000  # no page of the recipe has it


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--pages", type=int, default=100, help="of each kind")
    given = parser.parse_args()
    model, processor = load_checkpoint(given.checkpoint, device="cpu", dtype="float32")
    print("| fonts | layouts and words | questions | exact match | 95 % interval |\n|---|---|---|---|---|")
    for fonts, split in product(("varied", "test", "control"), ("varied", "test")):
        options = {"faces": obtain_faces(given.fonts, fonts), "num_questions": 5}
        seeds = range(FIRST_SEED, FIRST_SEED + given.pages)
        asked = questions(make_sample(seed, split, processor.image_processor, **options) for seed in seeds)
        answers = answer_questions(model, processor, asked, max_new_tokens=24)
        found = score([each for each in answers if each.buckets.get(SMALL_PRINT) == LARGE_ENOUGH])
        kinds = " | ".join("training" if kind == "varied" else kind for kind in (fonts, split))
        print(
            f"| {kinds} | {found.count} | {found.exact_match:.1%} | {found.low:.1%} to {found.high:.1%} |", flush=True
        )


if __name__ == "__main__":
    main()
