# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Labels and values as people print them: every printable ASCII character, Latin-1 letters, spaces, several languages.

Nothing here is shared with the pages of the test split. Values are of at most 28 characters.
"""

import json
import string
from collections.abc import Callable
from pathlib import Path
from random import Random

LONGEST = 28
LANGUAGES = ("en", "de", "fr", "es")
_LISTS = json.loads(Path(__file__).with_name("printed_words.json").read_text(encoding="utf-8"))
_ACCENTED = "äöüßéèêëàâçñíóúáîôûïåøæÄÖÜÉÈÀÇÑÅØ"
_SIGNS = ("$", "€", "£", "¥", "EUR", "USD", "CHF", "GBP", "kr", "Fr.")


def random_language(rng: Random) -> str:
    """Return a language; English is drawn as often as the others together."""
    return rng.choice(("en", "en", "en", "de", "fr", "es"))


def invented_word(rng: Random) -> str:
    """Return a word in small letters that nobody has seen: of syllables, or of any letters."""
    if rng.random() < 0.5:
        return "".join(rng.choice(_LISTS["syllables"]) for _ in range(rng.choice((2, 2, 3, 3, 4))))
    letters = string.ascii_lowercase + (_ACCENTED[:19] if rng.random() < 0.2 else "")
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 10)))


def make_word(rng: Random, language: str) -> str:
    """Return a real word two times of three, in small letters."""
    return invented_word(rng) if rng.random() < 0.35 else str(rng.choice(_LISTS["words"][language]))


def in_case(rng: Random, text: str, *, capital: float = 0.4, upper: float = 0.2) -> str:
    """Return a text in small letters, with a capital, or in capitals alone, with these shares."""
    draw = rng.random()
    if draw < capital:
        return text[:1].upper() + text[1:]
    return text.upper() if draw < capital + upper else text


def make_label(rng: Random, language: str | None = None) -> str:
    """Return a label of at most 22 characters: real words of a language, or made up."""
    language = language or random_language(rng)
    while True:
        known = rng.random() < 0.72
        text = str(rng.choice(_LISTS["labels"][language])) if known else in_case(rng, invented_word(rng), capital=0.9)
        draw = rng.random()
        if draw < 0.12:
            text += " " + (
                make_word(rng, language) if rng.random() < 0.5 else rng.choice(_LISTS["labels"][language]).lower()
            )
        elif draw < 0.24:
            text += " " + rng.choice(_LISTS["endings"][language])
        elif draw < 0.28:
            text = f"{rng.choice(_LISTS['labels'][language])}/{text}"
        case = rng.random()
        text = text.upper() if case < 0.1 else text.lower() if case < 0.18 else text
        if 2 <= len(text) <= 22:
            return text


def _code(rng: Random) -> str:
    draw = rng.random()
    letters = string.ascii_uppercase if draw < 0.55 else string.ascii_lowercase if draw < 0.7 else ""
    if draw > 0.92:
        letters = string.ascii_letters
    digits = string.digits if rng.random() < 0.85 else "01"
    if letters and rng.random() < 0.25:  # the characters that look alike
        letters, digits = letters + "OIl"[: 2 if letters.isupper() else 3] * 3, digits + "01"
    longest = rng.choice((6, 8, 10, 14, 20))
    code = "".join(
        rng.choice((letters or digits) if rng.random() < 0.5 else digits) for _ in range(rng.randint(3, longest))
    )
    draw = rng.random()
    if len(code) > 4 and draw < 0.5:
        mark, step = rng.choice("--- / ._:"), rng.randint(2, 5)
        if rng.random() < 0.6:
            code = mark.join(code[start : start + step] for start in range(0, len(code), step))
        else:
            code = code[:step] + mark + code[step:]
    if draw > 0.93:
        code = rng.choice("#*+") + code
    return code


def _iban(rng: Random) -> str:
    digits = "".join(rng.choice(string.digits) for _ in range(rng.choice((14, 16, 18))))
    text = rng.choice(("DE", "FR", "ES", "GB", "CH", "AT")) + digits
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4)) if rng.random() < 0.7 else text


def _grouped(rng: Random, number: int, mark: str) -> str:
    return f"{number:,}".replace(",", mark)


def _number(rng: Random) -> str:
    number = rng.randrange(10 ** rng.randint(1, 7))
    draw = rng.random()
    if draw < 0.4:
        return str(number)
    if draw < 0.6:
        return _grouped(rng, number, rng.choice(",. '"))
    return _decimal(rng, number % 10 ** rng.randint(1, 5))


def _decimal(rng: Random, whole: int, places: int | None = None) -> str:
    places = places or rng.choice((1, 2, 2, 3))
    point = rng.choice(".,")
    mark = rng.choice(("", "", " ", "." if point == "," else ",", "'"))
    return f"{_grouped(rng, whole, mark)}{point}{rng.randrange(10**places):0{places}d}"


def _money(rng: Random) -> str:
    amount = _decimal(rng, rng.randrange(10 ** rng.randint(1, 5)), 2)
    if rng.random() < 0.15:
        amount = amount[:-3]
    sign = rng.choice(_SIGNS)
    draw = rng.random()
    minus = "-" if rng.random() < 0.08 else "+" if rng.random() < 0.03 else ""
    if draw < 0.4:
        return minus + sign + amount
    if draw < 0.55:
        return f"{sign} {minus}{amount}"
    return minus + amount + rng.choice((" ", " ", "")) + sign


def _percent(rng: Random) -> str:
    number = rng.choice((str(rng.randrange(101)), _decimal(rng, rng.randrange(100), rng.choice((1, 2)))))
    return rng.choice(("", "", "", "+", "-", "~")) + number + rng.choice(("%", "%", " %"))


def _date(rng: Random, language: str) -> str:
    day, month, year = rng.randint(1, 31), rng.randint(1, 12), rng.randint(1940, 2049)
    names = _LISTS["months"][language]
    name, short = names[month - 1], names[month - 1][:3]
    mark = rng.choice("/.- ")
    forms = (
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d}{mark}{month:02d}{mark}{year}",
        f"{month:02d}{mark}{day:02d}{mark}{year}",
        f"{day}{mark}{month}{mark}{year % 100:02d}",
        f"{year}{mark}{month:02d}{mark}{day:02d}",
        f"{day} {name} {year}",
        f"{day}. {name} {year}",
        f"{name} {day}, {year}",
        f"{short} {day}, {year}",
        f"{day:02d}-{short.upper()}-{year}",
        f"{day} {short}. {year % 100:02d}",
        f"{month:02d}/{year % 100:02d}",
        f"{name} {year}",
    )
    return rng.choice(forms)


def _time(rng: Random, language: str) -> str:
    hour, minute = rng.randrange(24), rng.randrange(60)
    forms = (
        f"{hour:02d}:{minute:02d}",
        f"{hour:02d}:{minute:02d}:{rng.randrange(60):02d}",
        f"{hour % 12 + 1}:{minute:02d} {rng.choice(('am', 'pm', 'AM', 'PM'))}",
        f"{hour}.{minute:02d} Uhr",
        f"{hour}h{minute:02d}",
        f"{hour:02d}:{minute:02d} - {(hour + 3) % 24:02d}:{minute:02d}",
        f"{rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}. {hour:02d}:{minute:02d}",
    )
    return rng.choice(forms)


def _plain(text: str) -> str:
    table = str.maketrans("äöüßéèêëàâçñíóúáîôûïåøæ ", "aouseeeeaacniouaiouiaoa.")
    return text.lower().translate(table).replace("'", "")


def _email(rng: Random, language: str) -> str:
    user = rng.choice((_plain(rng.choice(_LISTS["first"])), _plain(make_word(rng, language)), "info", "no-reply"))
    if rng.random() < 0.5:
        user += rng.choice("._-+") + _plain(rng.choice(_LISTS["last"]))
    if rng.random() < 0.3:
        user += str(rng.randrange(100))
    host = _plain(make_word(rng, language)).replace(".", "-")
    return f"{user}@{host}.{rng.choice(('com', 'org', 'net', 'de', 'fr', 'es', 'co.uk', 'io', 'eu'))}"


def _address_of_page(rng: Random, language: str) -> str:
    host = _plain(make_word(rng, language)).replace(".", "-")
    start = rng.choice(("www.", "https://", "", "http://"))
    path = rng.choice(("", "", "/" + _plain(make_word(rng, language)), f"/?id={rng.randrange(1000)}"))
    return f"{start}{host}.{rng.choice(('com', 'org', 'de', 'fr', 'es', 'eu'))}{path}"


def _phone(rng: Random) -> str:
    def digits(count: int) -> str:
        return "".join(rng.choice(string.digits) for _ in range(count))

    forms = (
        f"+{rng.randint(1, 99)} {digits(2)} {digits(6)}",
        f"({digits(3)}) {digits(3)}-{digits(4)}",
        f"0{digits(3)}/{digits(6)}",
        f"0{digits(1)} {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        f"{digits(3)}-{digits(3)}-{digits(4)}",
        f"+{digits(2)} {digits(3)} {digits(3)} {digits(3)}",
        f"0{digits(9)}",
    )
    return rng.choice(forms)


def _name(rng: Random) -> str:
    first, last = rng.choice(_LISTS["first"]), rng.choice(_LISTS["last"])
    if rng.random() < 0.3:
        last = in_case(rng, invented_word(rng), capital=1)
    initial = rng.choice(string.ascii_uppercase)
    forms = (
        f"{first} {last}",
        f"{first} {last}",
        f"{first[0]}. {last}",
        f"{last}, {first}",
        f"{last.upper()} {first}",
        f"{first} {initial}. {last}",
        f"{rng.choice(('Dr.', 'Mr', 'Mrs', 'Herr', 'Frau', 'Mme', 'M.', 'Sr.', 'Sra.'))} {last}",
        f"{first} {last}".upper(),
        f"{first} & {rng.choice(_LISTS['first'])} {last}",
    )
    return rng.choice(forms)


def _place(rng: Random) -> str:
    street, city = rng.choice(_LISTS["streets"]), rng.choice(_LISTS["cities"])
    if rng.random() < 0.3:
        street = in_case(rng, invented_word(rng), capital=1) + rng.choice((" St", " Road", "weg", "straße", " Lane"))
    number, post = rng.randint(1, 199), "".join(rng.choice(string.digits) for _ in range(5))
    forms = (
        f"{number} {street}",
        f"{street} {number}",
        f"{street} {number}{rng.choice('abcd')}",
        f"{street}, {number}",
        f"{post} {city}",
        f"{city} {post}",
        f"{city}, {rng.choice(_LISTS['cities'])}",
        f"{city}, {rng.choice(('TX', 'CA', 'UK', 'NY', 'MA', 'ES', 'FR'))} {post}",
        f"{rng.choice(string.ascii_uppercase)}{rng.randint(1, 20)} {rng.randint(1, 9)}{rng.choice('ABDEHLN') * 2}",
        city,
    )
    return rng.choice(forms)


def _measure(rng: Random) -> str:
    unit = rng.choice(_LISTS["units"])
    number = rng.choice((str(rng.randrange(1000)), _decimal(rng, rng.randrange(100), rng.choice((1, 2)))))
    text = f"{rng.choice(('', '', '', '', '-', '< ', '> ', '~'))}{number}{rng.choice((' ', ' ', ''))}{unit}"
    draw = rng.random()
    if draw < 0.12:
        text = f"{rng.randint(2, 24)} x {text}"
    elif draw < 0.2:
        text = f"{rng.randrange(400)} x {rng.randrange(400)} {unit}"
    elif draw < 0.25:
        text = f"{rng.randrange(20)}/{rng.randrange(20)}"
    return text


def _words(rng: Random, language: str) -> str:
    count = rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4))
    words = [make_word(rng, language) for _ in range(count)]
    draw = rng.random()
    if draw < 0.3:
        words = [word[:1].upper() + word[1:] for word in words]
    text = " ".join(words)
    if draw > 0.7:
        text = in_case(rng, text, capital=0.5, upper=0.4)
    if rng.random() < 0.1:
        text += rng.choice((".", "!", "?", " *", " (1)", ", " + make_word(rng, language)))
    if rng.random() < 0.05:
        text = f"({text})" if rng.random() < 0.5 else f'"{text}"'
    if rng.random() < 0.06:
        text = f"{rng.randrange(100)} {text}"
    return text


def _any_characters(rng: Random) -> str:
    draw = rng.random()
    marks = string.punctuation if draw < 0.5 else "-_./:"
    letters = string.ascii_letters + string.digits + marks + (_ACCENTED if draw > 0.8 else "")
    return "".join(rng.choice(letters) for _ in range(rng.randint(3, 12)))


def _random_letters(rng: Random) -> str:
    letters = string.ascii_lowercase + (_ACCENTED[:19] if rng.random() < 0.2 else "")
    return in_case(rng, "".join(rng.choice(letters) for _ in range(rng.randint(3, 14))), capital=0.3, upper=0.35)


# Name of a kind, how often, and what makes it from a generator and a language.
KINDS: dict[str, tuple[float, Callable[[Random, str], str]]] = {
    "code": (18, lambda rng, language: _code(rng)),
    "iban": (2, lambda rng, language: _iban(rng)),
    "number": (9, lambda rng, language: _number(rng)),
    "money": (12, lambda rng, language: _money(rng)),
    "percent": (4, lambda rng, language: _percent(rng)),
    "date": (9, _date),
    "time": (4, _time),
    "email": (4, _email),
    "web": (2, _address_of_page),
    "phone": (4, lambda rng, language: _phone(rng)),
    "name": (7, lambda rng, language: _name(rng)),
    "place": (6, lambda rng, language: _place(rng)),
    "measure": (6, lambda rng, language: _measure(rng)),
    "words": (20, _words),
    "letters": (6, lambda rng, language: _random_letters(rng)),
    "characters": (3, lambda rng, language: _any_characters(rng)),
}
_NAMES, _WEIGHTS = list(KINDS), [weight for weight, _ in KINDS.values()]


def make_value(rng: Random, language: str | None = None, *, kind: str | None = None) -> tuple[str, str]:
    """Return the kind of a value and the value, of 1 to 28 characters without spaces at its ends."""
    language = language or random_language(rng)
    while True:
        drawn = kind or rng.choices(_NAMES, _WEIGHTS)[0]
        text = " ".join(KINDS[drawn][1](rng, language).split())
        if 1 <= len(text) <= LONGEST and "<" + "|" not in text:
            return drawn, text
