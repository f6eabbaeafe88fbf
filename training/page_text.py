# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Labels and values of generated pages. No value can be guessed from its label; the splits share no word.

Codes leave out the characters that many fonts draw alike (0 O, 1 I l), as codes made to be read do. The words of
`varied` are of any letters: a model that has learnt them copies, and cannot complete syllables that it knows.
"""

import json
from importlib.resources import files
from random import Random
from string import ascii_lowercase

CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
CODE_DIGITS = "23456789"

_LISTS = json.loads(files("fila.training").joinpath("page_words.json").read_text(encoding="utf-8"))
_WORDS, _ENDINGS, _ONSETS, _RIMES = (_LISTS[name] for name in ("words", "endings", "onsets", "rimes"))


def make_word(rng: Random, split: str, *, longest: int = 10) -> str:
    """Make a word that nobody has seen, capitalised; `longest` is for varied ones, of any letters."""
    if split == "varied":
        return "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(4, longest))).capitalize()
    syllables = [rng.choice(_ONSETS[split]) + rng.choice(_RIMES[split]) for _ in range(rng.choice((2, 2, 3)))]
    return "".join(syllables).capitalize()


def make_label(rng: Random, split: str) -> str:
    """Make a label: a word of the split's list or an invented one, sometimes two, sometimes with an ending."""
    lists = "train" if split == "varied" else split
    word = make_word(rng, split) if rng.random() < 0.5 else rng.choice(_WORDS[lists])
    draw = rng.random()
    if draw < 0.25:
        word += " " + rng.choice(_WORDS[lists]).lower()
    elif draw < 0.45:
        word += " " + rng.choice(_ENDINGS[lists])
    return word


def make_value(rng: Random, split: str) -> str:
    """Make a value: a code, a number, an amount, a date or a name, of 3 to 15 characters."""
    kind = rng.random()
    if kind < 0.4:
        letters = CODE_LETTERS if rng.random() < 0.5 else ""
        code = "".join(rng.choice(letters + CODE_DIGITS) for _ in range(rng.randint(4, 8)))
        if len(code) > 5 and rng.random() < 0.4:
            cut = rng.randint(2, len(code) - 2)
            code = f"{code[:cut]}-{code[cut:]}"
        return code
    if kind < 0.55:
        return str(rng.randrange(100, 10 ** rng.randint(3, 7)))
    if kind < 0.7:
        return f"{rng.randrange(1, 10 ** rng.randint(2, 5)):,}.{rng.randrange(100):02d}"
    if kind < 0.8:
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1970, 2039)
        return rng.choice((f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}", f"{day}/{month}/{year}"))
    return make_word(rng, split, longest=15)
