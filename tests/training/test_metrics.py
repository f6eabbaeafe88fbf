# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fila.training.metrics import (
    anls,
    anls_lmms,
    applying_metrics,
    bootstrap_interval,
    edit_distance,
    exact,
    relaxed,
    vqa,
    vqa_normalised,
    wilson_interval,
)


def slow_distance(first: str, second: str) -> int:
    """Straight from the definition."""

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        if first[i - 1] == second[j - 1]:
            return distance(i - 1, j - 1)
        return 1 + min(distance(i - 1, j), distance(i, j - 1), distance(i - 1, j - 1))

    return distance(len(first), len(second))


@given(st.text("ab 1", max_size=9), st.text("ab 1", max_size=9))
def test_edit_distance_is_the_slow_ones(first: str, second: str) -> None:
    assert edit_distance(first, second) == slow_distance(first, second)


@pytest.mark.parametrize("count", [1, 7, 100, 1000])
def test_wilson_interval_solves_its_equation(count: int) -> None:
    """Its ends are the shares from which the observed one is 1.96 standard deviations away."""
    for successes in {0, 1, count // 3, count}:
        for end in wilson_interval(successes, count):
            assert 0 <= end <= 1
            if 1e-9 < end < 1 - 1e-9:
                deviations = abs(successes / count - end) / math.sqrt(end * (1 - end) / count)
                assert deviations == pytest.approx(1.959964, rel=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, count)[0] == pytest.approx(0)
    assert wilson_interval(count, count)[1] == pytest.approx(1)


def test_exact_takes_any_reference_and_ignores_white_space() -> None:
    assert exact(" slip  A\n", ["a dog", "slip A"]) == 1
    assert exact("Slip A", ["slip A"]) == exact("", ["a"]) == exact("a", []) == 0


def test_anls_is_the_closest_reference_above_a_half() -> None:
    assert anls("Slip B ", ["a dog", "slip  A"]) == 5 / 6
    assert anls("abcd", ["abxy"]) == 0  # half of it differs
    assert anls("A B ", ["a x"]) == pytest.approx(2 / 3)
    assert anls("", [""]) == 1
    assert anls("", ["a"]) == anls("a", []) == 0


def test_anls_of_lmms_eval_keeps_a_half_and_counts_spaces() -> None:
    """Values that lmms-eval 0.7.3 gives."""
    assert anls_lmms("abcd", ["abxy"]) == 0.5
    assert anls_lmms("A B ", ["a x"]) == 0.75
    assert anls_lmms("Slip B", ["a dog", "slip A"]) == 5 / 6


def test_relaxed_accuracy_as_lmms_eval_computes_it() -> None:
    right = [("2%", "0.02"), ("105", "100"), ("-95", "-100"), ("Yes ", "yes"), ("0", "0")]
    wrong = [("1,000", "1000"), ("0", "0.0"), ("105.1", "100"), ("yes", "no"), ("", "40.0"), ("forty", "40")]
    assert [relaxed(found, [label]) for found, label in right] == [1] * len(right)
    assert [relaxed(found, [label]) for found, label in wrong] == [0] * len(wrong)
    assert relaxed("41", ["90", "40.0"]) == 1


def test_vqa_accuracy_as_lmms_eval_computes_it() -> None:
    others = list("bcdefgh")
    assert vqa("x", ["x"] * 3 + others) == 0.9
    assert vqa("x", ["x", "y", "z", *others]) == 0.3
    assert vqa("x", ["x"] * 10) == vqa("Two", ["2"] * 10) == vqa("x", ["x"]) == 1
    assert vqa("", ["A"] * 10) == 1  # the trap of the articles
    assert vqa("x", []) == 0


def test_vqa_normalises_as_lmms_eval_does() -> None:
    expected = {
        "the U.S.A": "usa",
        "1,000": "1000",
        "A/B test": "b test",
        "dont": "don't",
        "3.5 m": "3.5 m",
        "A": "",
        "None": "0",
        "John's\n(hat)": "john 's hat",
        "wouldnt've": "wouldn't've",
        "$4.50 - x-1": "$4.50 x1",
        "what?": "what",
    }
    assert {text: vqa_normalised(text) for text in expected} == expected


def test_metrics_apply_by_their_references() -> None:
    assert applying_metrics([["slip A", "Slip A"]]) == ["exact", "anls"]
    assert applying_metrics([["yes"], ["40.0"]]) == ["exact", "anls", "relaxed"]
    assert applying_metrics([["a"] * 10, ["b"] * 10]) == ["exact", "anls", "vqa"]
    assert applying_metrics([["a"] * 10, ["b"]]) == ["exact", "anls"]
    assert applying_metrics([]) == ["exact", "anls"]


def test_bootstrap_draws_pages() -> None:
    """Twenty pages of six equal answers are worth twenty questions, not 120."""
    values = [float(page % 2) for page in range(20) for _ in range(6)]
    pages = [page for page in range(20) for _ in range(6)]
    low, high = bootstrap_interval(values, pages) or (0, 0)
    assert (low, high) == bootstrap_interval(values, pages)
    expected = 1.96 * math.sqrt(0.25 / 20)
    assert (0.5 - low, high - 0.5) == (pytest.approx(expected, abs=0.06), pytest.approx(expected, abs=0.06))
    apart = bootstrap_interval(values, range(120)) or (0, 0)
    assert high - low > 2 * (apart[1] - apart[0])


def test_bootstrap_weighs_a_page_by_its_questions() -> None:
    low, high = bootstrap_interval([1, 1, 1, 0], ["a", "a", "a", "b"]) or (0, 0)
    assert (low, high) == (0, 1)
    many = bootstrap_interval([1.0] * 30 + [0.0] * 10, [0, 1, 2] * 10 + [3] * 10) or (0, 0)
    assert np.mean(many) == pytest.approx(0.75, abs=0.15)


def test_one_page_has_no_interval() -> None:
    assert bootstrap_interval([1, 0], ["a", "a"]) is bootstrap_interval([], []) is None
