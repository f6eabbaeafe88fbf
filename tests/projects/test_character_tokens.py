# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import itertools
from random import Random

import pytest
import torch

from fila.training.page_sheet import Glyph
from projects.default_model.character_tokens import CLASS_OF, RANKS, TOLD, TRAITS, SpelledTokens, shares, spell
from projects.default_model.model import make_model, make_processor

GRID, SIDE = (8, 8), 128
TOKENS = 5 * 64
PATCH = SIDE / 16  # pixels of a patch of the 2 x 2 tiles on an image of 128 x 128


def told(*glyphs: Glyph, blend: float = 0.1, lines: bool = False) -> torch.Tensor:
    plan = make_processor().image_processor.plan(SIDE, SIDE)
    assert plan.tile_grid == (2, 2)
    return spell(glyphs, (SIDE, SIDE), plan, GRID, blend, lines=lines)


def token(row: int, col: int) -> int:
    """The token of a patch of the canvas: the overview's come first, then tile by tile."""
    return 64 * (1 + row // 8 * 2 + col // 8) + row % 8 * 8 + col % 8


def glyph(character: str, row: float, col: float) -> Glyph:
    return Glyph(character, row * PATCH, col * PATCH)


@pytest.fixture(scope="module")
def spelled() -> SpelledTokens:
    processor = make_processor()
    return SpelledTokens(make_model(processor).get_input_embeddings(), processor.tokenizer)


def test_shares_add_up_and_change_little_with_the_place() -> None:
    places = [number / 1000 for number in range(5000)]
    found = [dict(shares(place, 0.1)) for place in places]
    assert all(sum(each.values()) == pytest.approx(1) for each in found)
    assert all(min(each.values()) >= 0 for each in found)
    for before, after in itertools.pairwise(found):
        for patch in {*before, *after}:
            assert abs(before.get(patch, 0) - after.get(patch, 0)) < 0.006
    assert shares(2.999, 0.0) == [(2, 1.0)]
    assert shares(3.0, 0.0) == [(3, 1.0)]


def test_tokens_hold_their_characters_in_reading_order() -> None:
    # the canvas' patch (9, 10): two lines, the second begins further left
    tokens = told(glyph("c", 9.8, 10.2), glyph("b", 9.21, 10.75), glyph("a", 9.22, 10.35))
    assert tokens.shape == (TOKENS, TOLD, TRAITS)
    assert tokens.dtype == torch.uint8
    assert tokens[..., 0].nonzero()[:, 0].unique().tolist() == [token(9, 10)]
    expected = [[CLASS_OF[character], 255, 32 * rank, 0] for rank, character in enumerate("abc")]
    assert tokens[token(9, 10)][:3].tolist() == expected


def test_lines_of_a_patch_are_told_apart_if_asked() -> None:
    # its y in the patch: 0.2, 0.2 and 0.75; below a quarter a character is high, above three quarters low
    glyphs = (glyph("c", 9.75, 10.2), glyph("b", 9.2, 10.75), glyph("a", 9.2, 10.35))
    a, b, c = (CLASS_OF[character] for character in "abc")
    tokens = told(*glyphs, lines=True)
    assert tokens[token(9, 10)][:3].tolist() == [[a, 255, 0, 0], [b, 255, 32, 0], [c, 255, 0, 255]]
    assert told(glyph("a", 9.5, 10.5), lines=True)[token(9, 10)][0].tolist() == [a, 255, 0, 128]
    on_edge = told(glyph("a", 9.99, 10.5), lines=True)
    assert on_edge[token(9, 10)][0].tolist() == [a, 140, 0, 255]
    assert on_edge[token(10, 10)][0].tolist() == [a, 115, 0, 0]


def test_a_character_on_an_edge_is_told_on_both_sides() -> None:
    tokens = told(glyph("a", 9.5, 10.6), glyph("b", 9.5, 11.0), glyph("c", 9.5, 11.4))
    a, b, c = (CLASS_OF[character] for character in "abc")
    assert tokens[token(9, 10)][:3].tolist() == [[a, 255, 0, 0], [b, 128, 32, 0], [0, 0, 0, 0]]
    assert tokens[token(9, 11)][:3].tolist() == [[b, 128, 0, 0], [c, 255, 16, 0], [0, 0, 0, 0]]


def test_characters_beyond_the_canvas_and_ranks_beyond_the_last() -> None:
    outside = (Glyph("a", -9.0, 5.0), Glyph("b", 5.0, SIDE + 3.0))
    row = [glyph("z", 3.5, 3.12 + 0.1 * number) for number in range(8)]
    tokens = told(*outside, *row)
    assert tokens[..., 0].nonzero()[:, 0].unique().tolist() == [token(3, 3)]
    assert tokens[token(3, 3), :, 2].tolist() == [32 * min(rank, RANKS - 1) for rank in range(TOLD)]


@pytest.mark.parametrize("axis", ["row", "col"])
def test_tokens_change_little_where_a_line_moves_over_an_edge(axis: str, spelled: SpelledTokens) -> None:
    def moved(by: float, blend: float, *, lines: bool) -> torch.Tensor:
        row, col = (9.0 + by, 10.3) if axis == "row" else (9.5, 10.0 + by)
        text = [glyph(character, row, col + 0.4 * number) for number, character in enumerate("Abcd")]
        with torch.no_grad():
            return spelled(told(glyph("x", row + 1, col), *text, blend=blend, lines=lines))

    def jump(blend: float, *, lines: bool) -> float:
        places = [moved(number / 100 - 0.15, blend, lines=lines) for number in range(31)]
        return max((after - before).norm().item() for before, after in itertools.pairwise(places))

    assert jump(0.1, lines=False) < 0.35 * jump(0.0, lines=False)
    assert jump(0.1, lines=True) < 0.35 * jump(0.0, lines=True)


def test_spelled_tokens_know_character_and_rank(spelled: SpelledTokens) -> None:
    a, b = CLASS_OF["a"], CLASS_OF["b"]
    spellings = torch.zeros(6, TOLD, TRAITS, dtype=torch.uint8)
    rows = ([], [(a, 0, 0), (b, 32, 0)], [(b, 0, 0), (a, 32, 0)], [(a, 0, 0)], [(a, 16, 0)], [(a, 0, 255)])
    for row, told_here in enumerate(rows):
        for place, (number, rank, low) in enumerate(told_here):
            spellings[row, place] = torch.tensor([number, 255, rank, low])
    blank, ab, ba, only_a, between, low_a = spelled(spellings)
    assert blank.shape == (192,)
    for first, second in ((blank, only_a), (ab, ba), (ab, only_a), (only_a, low_a)):
        assert (first - second).norm() > 1
    assert not [name for name in spelled.state_dict() if "shared" in name]
    letter = torch.nn.functional.normalize(spelled.shared[0].weight[spelled.ids[a - 1]], dim=-1) * 8
    turned = spelled.norm((letter @ spelled.turns[0] + letter @ spelled.turns[1]) / 2 + spelled.base)
    torch.testing.assert_close(between, turned, rtol=1e-4, atol=1e-4)
    lowered = spelled.norm(letter @ spelled.turns[0] @ spelled.lower + spelled.base)
    torch.testing.assert_close(low_a, lowered, rtol=1e-4, atol=1e-4)
    identity = spelled.lower @ spelled.lower.T
    torch.testing.assert_close(identity, torch.eye(192), rtol=0, atol=1e-4)


def test_spelled_tokens_are_the_sum_of_their_shares(spelled: SpelledTokens) -> None:
    """A slow twin, outputs and gradients, on any bytes that `spell` can give."""
    rng = Random(0)
    spelling = torch.zeros(7, TOLD, TRAITS, dtype=torch.uint8)
    for row in range(7):
        for place in range(rng.randint(0, TOLD)):
            entry = [rng.randint(1, 94), rng.randint(1, 255), rng.randint(0, 32 * (RANKS - 1)), rng.randint(0, 255)]
            spelling[row, place] = torch.tensor(entry)
    weights = torch.randn(7, 192, generator=torch.Generator().manual_seed(0))
    found = spelled(spelling)
    own = torch.autograd.grad((found * weights).sum(), [spelled.turns, spelled.lower, spelled.shared[0].weight])
    table, rows = spelled.shared[0].weight, []
    for entries in spelling.tolist():
        total = spelled.base
        for number, share, rank, low in entries:
            if number:
                letter = torch.nn.functional.normalize(table[spelled.ids[number - 1]], dim=-1) * 8
                lower, part = divmod(rank / 32, 1)
                upper = min(int(lower) + 1, RANKS - 1)
                turned = letter @ spelled.turns[int(lower)] * (1 - part) + letter @ spelled.turns[upper] * part
                turned = turned * (1 - low / 255) + turned @ spelled.lower * (low / 255)
                total = total + share / 255 * turned
        rows.append(spelled.norm(total))
    slow = torch.stack(rows)
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-4)
    twin = torch.autograd.grad((slow * weights).sum(), [spelled.turns, spelled.lower, table])
    for one, other in zip(own, twin, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
