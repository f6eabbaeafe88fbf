# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Metrics of one answer against its right answers, and intervals of their means.

A metric takes the prediction and all references, and returns a number from 0 (wrong) to 1 (right).
"""

import math
import re
from collections.abc import Callable, Hashable, Sequence

import numpy as np

Metric = Callable[[str, Sequence[str]], float]
ANNOTATORS = 10  # VQA accuracy is defined for the answers of ten people


def edit_distance(first: str, second: str) -> int:
    """Return the fewest insertions, deletions and substitutions of characters between two texts.

    Example:
        >>> edit_distance("12.50", "12,5")
        2
    """
    row = list(range(len(second) + 1))
    for above, character in enumerate(first, 1):
        diagonal, row[0] = row[0], above
        for column, other in enumerate(second, 1):
            substituted = diagonal + (character != other)
            diagonal = row[column]
            row[column] = min(substituted, row[column] + 1, row[column - 1] + 1)
    return row[-1]


def exact(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the prediction equals a reference, white space aside."""
    return float(any(prediction.split() == reference.split() for reference in references))


def anls(prediction: str, references: Sequence[str]) -> float:
    """Return the normalised Levenshtein similarity to the closest reference; 0 if half of the text or more differs.

    Texts are compared in lower case, stripped, with one space for each run of white space.

    Example:
        >>> anls("Slip B", ["slip A"]), anls("ab", ["ax"])
        (0.8333333333333334, 0.0)
    """
    best = max((_similarity(prediction, reference) for reference in references), default=0.0)
    return best if best > 0.5 else 0.0


def anls_lmms(prediction: str, references: Sequence[str]) -> float:
    """Return ANLS as lmms-eval computes it.

    A similarity of exactly 0.5 counts, and the length that divides the edits is that of the texts before they are
    folded.
    """
    best = max((_similarity(prediction, reference, of_raw=True) for reference in references), default=0.0)
    return best if best >= 0.5 else 0.0


def _similarity(prediction: str, reference: str, *, of_raw: bool = False) -> float:
    first, second = (" ".join(text.lower().split()) for text in (prediction, reference))
    if not first and not second:
        return 1.0
    length = max(len(prediction), len(reference)) if of_raw else max(len(first), len(second))
    return 1 - edit_distance(first, second) / length


def relaxed(prediction: str, references: Sequence[str]) -> float:
    """Return ChartQA's relaxed accuracy: numbers within 5 % of a reference, other text equal without case.

    A trailing `%` divides by 100. A reference of 0 is compared as text.

    Example:
        >>> relaxed("105", ["100"]), relaxed("105.1", ["100"]), relaxed("2%", ["0.02"]), relaxed("Yes", ["yes"])
        (1.0, 0.0, 1.0, 1.0)
    """
    return float(any(_is_near(prediction, reference) for reference in references))


def _is_near(prediction: str, reference: str) -> bool:
    found, target = _number(prediction), _number(reference)
    if found is not None and target:
        return abs(found - target) / abs(target) <= 0.05
    return prediction.strip().lower() == reference.strip().lower()


def _number(text: str) -> float | None:
    text = text.strip()
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def vqa(prediction: str, references: Sequence[str]) -> float:
    """Return VQA accuracy: the mean over the references of `min(1, matches among the others / 3)`.

    Both sides are normalised by `vqa_normalised`. A reference of an article alone, such as "A", normalises to the
    empty text, which an empty prediction matches: read it beside the number of empty predictions.

    Example:
        >>> vqa("two", ["2"] * 3 + ["3"] * 7)
        0.9
    """
    if not references:
        return 0.0
    found = vqa_normalised(prediction)
    matches = [found == vqa_normalised(reference) for reference in references]
    if len(matches) == 1:
        return float(matches[0])
    others = [sum(matches) - match for match in matches]
    return sum(min(3, number) for number in others) / (3 * len(others))


_COUNTED = "zero one two three four five six seven eight nine ten"
_NUMBER_WORDS = {"none": "0", **{word: str(number) for number, word in enumerate(_COUNTED.split())}}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
_PERIOD = re.compile(r"\.(?!\d)")
# The words of the metric's table that people write without an apostrophe; a word with two may lack either.
_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll "
    "somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd "
    "there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll "
    "what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's "
    "won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)
_CONTRACTIONS = {
    word[: found.start()] + word[found.end() :]: word
    for word in _CONTRACTED.split()
    for found in re.finditer("'", word)
} | {"'ows'at": "'ow's'at", "somebody'd": "somebodyd"}  # as the table has them


def vqa_normalised(text: str) -> str:
    """Return an answer as the VQA metric compares it.

    Lower case, without punctuation, articles and commas in numbers; number words become digits, and contractions get
    their apostrophe.

    Example:
        >>> vqa_normalised("the U.S.A"), vqa_normalised("1,000"), vqa_normalised("A/B test"), vqa_normalised("dont")
        ('usa', '1000', 'b test', "don't")
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.replace("\n", " ").replace("\t", " ").strip()
    kept = text
    for sign in _PUNCTUATION:
        kept = kept.replace(sign, "" if f"{sign} " in text or f" {sign}" in text else " ")
    words = [_NUMBER_WORDS.get(word, word) for word in _PERIOD.sub("", kept).split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def contains(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the prediction holds a reference, without case, as OCRBench counts.

    Example:
        >>> contains("It says STOP.", ["stop"])
        1.0
    """
    found = prediction.lower().strip().replace("\n", " ")
    return float(any(reference.lower().strip().replace("\n", " ") in found for reference in references))


METRICS: dict[str, Metric] = {
    "exact": exact,
    "anls": anls,
    "anls_lmms": anls_lmms,
    "relaxed": relaxed,
    "vqa": vqa,
    "contains": contains,
}


def applying_metrics(references: Sequence[Sequence[str]]) -> list[str]:
    """Return the names of the metrics that apply to questions with these right answers, exact match first.

    ANLS always applies; relaxed accuracy if a reference is a number; VQA accuracy if every question has ten
    references. `anls_lmms`, which is ANLS again, and `contains`, which suits OCRBench, are computed only if asked for.

    Example:
        >>> applying_metrics([["slip A", "Slip A"]]), applying_metrics([["40"]])
        (['exact', 'anls'], ['exact', 'anls', 'relaxed'])
    """
    names = ["exact", "anls"]
    if any(_number(reference) is not None for each in references for reference in each):
        names.append("relaxed")
    if references and all(len(each) == ANNOTATORS for each in references):
        names.append("vqa")
    return names


def wilson_interval(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval of a share; (0, 1) without trials.

    Example:
        >>> tuple(round(end, 3) for end in wilson_interval(9, 10))
        (0.596, 0.982)
    """
    if count == 0:
        return 0.0, 1.0
    share, spread = successes / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval(
    values: Sequence[float], pages: Sequence[Hashable], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean from drawing whole pages with replacement.

    Questions about one page share its difficulties, so an interval that counts them as independent is too narrow.

    Args:
        values: One per question.
        pages: The page of each question.
        draws: Number of draws.
        seed: Random seed; the same values give the same interval.

    Returns:
        The 2.5th and the 97.5th percentile of the means; None for fewer than two pages, of which nothing can be said.
    """
    numbers = {page: number for number, page in enumerate(dict.fromkeys(pages))}
    if len(numbers) < 2:
        return None
    of_page = [numbers[page] for page in pages]
    sums = np.bincount(of_page, weights=np.asarray(values, dtype=np.float64))
    counts = np.bincount(of_page)
    generator = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        drawn = generator.integers(len(numbers), size=len(numbers))
        means.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
