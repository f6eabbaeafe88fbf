# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Labels and values of the test pages: what people print, in four languages and in made-up words.

Written without sight of what the training pages hold, and shares no code with them. Every value is drawn from a
`random.Random`, has at most `LONGEST` characters, and each is one of printable ASCII, of Latin-1, or €.
"""

from collections.abc import Callable
from random import Random

LONGEST = 28
LANGUAGES = ("english", "german", "french", "spanish")

LABELS = {
    "english": """Invoice number|Customer|Date of birth|Due date|Total|Subtotal|Account holder|Order|Ship to|Contact
        |Room|Gate|Seat|Passenger|Departure|Arrival|Blood type|Batch|Expiry date|Serial number|Model|Weight|Width
        |Policy|Branch|Reference|Tenant|Landlord|Monthly rent|Deposit|Subject|Teacher|Grade|Issued by|Valid until
        |Licence plate|Owner|Colour|Mileage|Doctor|Dosage|Allergies|Phone|E-mail|Website|Street|City|Postcode|Country
        |Employer|Wage
        |Tax rate|Discount|Payment method|Cashier|Table|Meter reading|Tariff|Membership|Opening hours|Manager
        |Warehouse|Carrier|Parcel|Signature|Witness|Nationality|Passport|Visa type|Occupation|Comments|Voltage""",
    "german": """Rechnungsnummer|Kunde|Geburtsdatum|Fällig am|Gesamtbetrag|Zwischensumme|Kontoinhaber|Bestellung|Zimmer
        |Flugsteig|Sitzplatz|Abfahrt|Ankunft|Blutgruppe|Charge|Haltbar bis|Seriennummer|Modell|Gewicht|Breite|Filiale
        |Aktenzeichen|Mieter|Vermieter|Kaltmiete|Kaution|Betreff|Lehrkraft|Note|Ausgestellt von|Gültig bis|Kennzeichen
        |Halter|Farbe|Kilometerstand|Ärztin|Dosierung|Telefon|Anschrift|Straße|Ort|Postleitzahl|Land|Arbeitgeber|Lohn
        |Steuersatz|Rabatt|Zahlungsart|Kasse|Tisch|Zählerstand|Tarif|Öffnungszeiten|Leitung|Lager|Spediteur|Unterschrift
        |Staatsangehörigkeit|Beruf|Bemerkung|Größe|Menge|Stückpreis|Währung""",
    "french": """Numéro de facture|Client|Date de naissance|Échéance|Montant total|Sous-total|Titulaire|Commande
        |Chambre|Porte|Siège|Passager|Départ|Arrivée|Groupe sanguin|Lot|Péremption|Numéro de série|Modèle|Poids
        |Largeur|Agence
        |Référence|Locataire|Propriétaire|Loyer|Caution|Objet|Professeur|Délivré par|Valable jusqu'au|Plaque|Couleur
        |Kilométrage|Médecin|Posologie|Téléphone|Courriel|Rue|Ville|Code postal|Pays|Employeur|Salaire|Taux de taxe
        |Remise|Mode de paiement|Caisse|Relevé|Tarif|Horaires|Gérant|Entrepôt|Transporteur|Colis|Témoin|Nationalité
        |Métier|Remarques|Quantité|Prix unitaire|Taille|Fenêtre""",
    "spanish": """Número de factura|Cliente|Fecha de nacimiento|Vencimiento|Importe total|Base imponible|Titular|Pedido
        |Habitación|Puerta|Asiento|Pasajero|Salida|Llegada|Grupo sanguíneo|Lote|Caducidad|Número de serie|Modelo|Peso
        |Anchura|Sucursal|Expediente|Inquilino|Propietario|Alquiler|Fianza|Asunto|Profesora|Expedido por|Válido hasta
        |Matrícula|Dueño|Kilómetros|Médico|Dosis|Teléfono|Correo|Calle|Ciudad|Código postal|País|Empresa|Sueldo
        |Tipo de IVA|Descuento|Forma de pago|Caja|Mesa|Lectura|Tarifa|Horario|Almacén|Transportista|Paquete|Firma
        |Nacionalidad|Profesión|Observaciones|Tamaño|Precio por unidad|Año""",
}
WORDS = {
    "english": """apple bridge garden window yellow silver morning engine letter kitchen river winter market pocket
        fresh quiet broken double paper stone ticket village harbour flour pepper candle orange station repair paid
        early large wooden glass blanket summer bicycle ladder sugar coffee the and for with from under cash only""",
    "german": """Apfel Brücke Garten Fenster gelb Silber Morgen Motor Brief Küche Fluss Winter Markt Tasche frisch
        leise groß doppelt Papier Stein Fahrkarte Dorf Hafen Mehl Pfeffer Kerze Käse Bahnhof bezahlt früh hölzern Glas
        Decke Sommer Fahrrad Leiter Zucker Kaffee und für mit von unter über Möbel Schlüssel Straßenbahn nur bar""",
    "french": """pomme pont jardin fenêtre jaune argent matin moteur lettre cuisine rivière hiver marché poche frais
        calme cassé double papier pierre billet village port farine poivre bougie orange gare réparé payé tôt grande
        bois verre été vélo échelle sucre café le et pour avec de sous crème forêt garçon château pâte règle""",
    "spanish": """manzana puente jardín ventana amarillo plata mañana motor carta cocina río invierno mercado bolsillo
        fresco tranquilo roto doble papel piedra billete pueblo puerto harina pimienta vela naranja estación pagado
        temprano grande madera vidrio verano bicicleta escalera azúcar café el y para con de bajo niño árbol lápiz""",
}
FIRST_NAMES = {
    "english": "Alice Oliver Grace Harry Joan Peter Ruth Walter Emily George",
    "german": "Jürgen Heike Sören Anke Götz Birgit Uwe Käthe Lutz Friederike",
    "french": "Chloé Benoît Amélie François Océane Gérard Solène Hervé Noémie Luc",
    "spanish": "Lucía Íñigo Begoña José Inés Andrés Mónica Rubén Pilar Óscar",
}
LAST_NAMES = {
    "english": "Whitaker Hughes O'Brien Fletcher Quigley Sanders Ashby Lowe-Parr McKay Dunn",
    "german": "Müller Großmann Jäger Weiß Kröger Schäfer Voß Brandt Lüders Zöllner",
    "french": "Lefèvre Gauthier D'Arcy Château Besançon Roux Péron Mercier Guérin Faÿ",
    "spanish": "Muñoz Ibáñez Peña Gálvez Ortega Núñez Vázquez Rey Cañete Solís",
}
STREETS = {
    "english": "{n} Mill Lane|{n} Station Road|{n}b Elm Street|Flat {n}, Oak Court|{n} King's Walk|PO Box {n}",
    "german": "Hauptstraße {n}|Am Mühlbach {n}|Lindenweg {n}a|Schloßplatz {n}|Kirchgasse {n}|Postfach {n}",
    "french": "{n}, rue des Lilas|{n} bis, av. Foch|{n}, place d'Armes|{n}, quai de l'Île|BP {n}|{n}, allée Hugo",
    "spanish": "Calle Mayor, {n}|Avda. del Río {n}|Plaza España {n}|C/ Peñón {n}, 2º|Paseo Núñez {n}|Apdo. {n}",
}
CITIES = {
    "english": "Leeds LS1 4DY|Bath BA2 3RT|Austin, TX 78701|Dover, DE 19901|York YO1 7HH|Galway H91 E2R3",
    "german": "50667 Köln|80331 München|04109 Leipzig|CH-8001 Zürich|A-6020 Innsbruck|97070 Würzburg",
    "french": "75011 Paris|69003 Lyon|38000 Grenoble|42000 Saint-Étienne|B-4000 Liège|25000 Besançon",
    "spanish": "28013 Madrid|11001 Cádiz|15001 A Coruña|24001 León|29015 Málaga|05001 Ávila",
}
MONTHS = {
    "english": "January February March April May June July August September October November December",
    "german": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "french": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "spanish": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
SYLLABLES = (
    "b,c,d,f,g,h,j,k,l,m,n,p,qu,r,s,t,v,w,y,z,bl,cr,dr,fl,gn,sk,spr,th,wh",
    "a,e,i,o,u,y,ai,ea,oo,ie,ou",
    ",,,l,n,r,s,t,x,ck,mp,nd,rg",
)  # beginnings, vowels and ends
UPPER, DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"


def made_up_word(rng: Random) -> str:
    """Return a word of no language in lower case, of 3 to 12 letters."""
    onsets, vowels, ends = (each.split(",") for each in SYLLABLES)
    syllables = rng.choice((1, 2, 2, 2, 3))
    word = "".join(rng.choice(onsets) + rng.choice(vowels) for _ in range(syllables)) + rng.choice(ends)
    return word[:12] if len(word) > 2 else word + "d"


def made_up_label(rng: Random) -> str:
    """Return one made-up word or two, the first with a capital."""
    words = [made_up_word(rng) for _ in range(rng.choice((1, 1, 2)))]
    return " ".join(words).capitalize()[:18].strip()


def label(rng: Random, language: str) -> str:
    """Return a label of a language, or of made-up words."""
    if language == "made-up":
        return made_up_label(rng)
    return rng.choice([each.strip() for each in LABELS[language].split("|")])


def _word(rng: Random, language: str) -> str:
    return made_up_word(rng) if language == "made-up" else rng.choice(WORDS[language].split())


def _of(table: dict[str, str], rng: Random, language: str, separator: str | None = None) -> str:
    known = language if language in table else rng.choice(LANGUAGES)
    return rng.choice(table[known].split(separator))


def _drawn(rng: Random, alphabet: str, low: int, high: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def _comma(language: str, rng: Random) -> bool:
    return language in ("german", "french", "spanish") or (language == "made-up" and rng.random() < 0.5)


def _amount(rng: Random, comma: bool) -> str:
    whole = rng.choice((rng.randint(0, 99), rng.randint(100, 999), rng.randint(1000, 99999)))
    text = f"{whole:,}" if rng.random() < 0.7 else str(whole)
    text += f".{rng.randint(0, 99):02}"
    return text.translate(str.maketrans(",.", ".,")) if comma else text


def digits(rng: Random, language: str) -> str:
    """Return 1 to 10 digits."""
    return _drawn(rng, DIGITS, 1, 10)


def capitalised_word(rng: Random, language: str) -> str:
    """Return one word with a capital."""
    return _word(rng, language).capitalize()


def lower_case_word(rng: Random, language: str) -> str:
    """Return one word in lower case."""
    return _word(rng, language).lower()


def word_in_capitals(rng: Random, language: str) -> str:
    """Return one word in capitals; the capital of ß is SS."""
    return _word(rng, language).upper()


def code(rng: Random, language: str) -> str:
    """Return 4 to 12 capitals and digits, of which any may be 0, O, 1 or I."""
    return _drawn(rng, UPPER + DIGITS + "0O1I", 4, 12)


def grouped_code(rng: Random, language: str) -> str:
    """Return groups of capitals and digits with - / . or _ between them."""
    groups = [_drawn(rng, rng.choice((UPPER, DIGITS, UPPER + DIGITS)), 2, 5) for _ in range(rng.randint(2, 4))]
    return rng.choice("-/._").join(groups)


def long_code(rng: Random, language: str) -> str:
    """Return 16 to 20 capitals and digits, or the number of an account in groups of four."""
    if rng.random() < 0.5:
        return _drawn(rng, UPPER + DIGITS, 16, 20)
    groups = [_drawn(rng, DIGITS, 4, 4) for _ in range(rng.randint(3, 4))]
    return " ".join([rng.choice(("DE", "FR", "ES", "GB")) + _drawn(rng, DIGITS, 2, 2), *groups])


def any_characters(rng: Random, language: str) -> str:
    """Return 3 to 14 characters, any of printable ASCII but the space."""
    return "".join(chr(rng.randint(33, 126)) for _ in range(rng.randint(3, 14)))


def date_in_digits(rng: Random, language: str) -> str:
    """Return a date in one of eight orders of digits."""
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1950, 2049)
    forms = (
        *("{d:02}.{m:02}.{y}", "{d}.{m}.{y}", "{m:02}/{d:02}/{y}", "{d:02}/{m:02}/{y}", "{y}-{m:02}-{d:02}"),
        *("{y}/{m:02}/{d:02}", "{d:02}-{m:02}-{s:02}", "{m}/{d}/{s:02}"),
    )
    return rng.choice(forms).format(d=day, m=month, y=year, s=year % 100)


def date_in_words(rng: Random, language: str) -> str:
    """Return a date with the month as a word."""
    known = language if language in MONTHS else "english"
    day, month, year = rng.randint(1, 28), rng.choice(MONTHS[known].split()), rng.randint(1950, 2049)
    forms = {
        "english": ("{d} {m} {y}", "{m} {d}, {y}", "{d}-{a}-{y}", "{a} {d} {y}"),
        "german": ("{d}. {m} {y}", "{m} {y}"),
        "french": ("{d} {m} {y}", "le {d} {m} {y}"),
        "spanish": ("{d} de {m} de {y}", "{m} de {y}"),
    }
    return rng.choice(forms[known]).format(d=day, m=month, y=year, a=month[:3])


def time_of_day(rng: Random, language: str) -> str:
    """Return a time."""
    hour, minute = rng.randint(0, 23), rng.randint(0, 59)
    forms = {"german": "{h}:{m:02} Uhr", "french": "{h} h {m:02}", "english": "{t}:{m:02} {p}"}
    half = {"t": hour % 12 or 12, "p": "am" if hour < 12 else "pm"}
    return rng.choice((forms.get(language, "{h}.{m:02} h"), "{h:02}:{m:02}")).format(h=hour, m=minute, **half)


def money(rng: Random, language: str) -> str:
    """Return an amount with its currency before or after it."""
    amount = _amount(rng, comma := _comma(language, rng))
    if comma:
        return rng.choice((f"{amount} €", f"{amount} EUR", f"€ {amount}", f"CHF {amount}", f"{amount}€"))
    return rng.choice((f"${amount}", f"£{amount}", f"¥{amount}", f"USD {amount}", f"€{amount}", f"-${amount}"))


def decimal_comma(rng: Random, language: str) -> str:
    """Return a number with a decimal comma."""
    return _amount(rng, comma=True)


def decimal_point(rng: Random, language: str) -> str:
    """Return a number with a decimal point."""
    return rng.choice(("", "", "-", "+")) + _amount(rng, comma=False)


def percent(rng: Random, language: str) -> str:
    """Return a share in percent."""
    number = rng.choice((str(rng.randint(0, 100)), f"{rng.randint(0, 99)}.{rng.randint(0, 9)}"))
    return number.replace(".", ",") + " %" if _comma(language, rng) else number + "%"


def email(rng: Random, language: str) -> str:
    """Return an e-mail address."""
    user = made_up_word(rng) + rng.choice(("", ".", "_", "-", "+")) + rng.choice((made_up_word(rng)[:5], "7", "24"))
    return (
        f"{user[:14].rstrip('._-+')}@{made_up_word(rng)[:8]}.{rng.choice(('com', 'org', 'de', 'fr', 'es', 'co.uk'))}"
    )


def web(rng: Random, language: str) -> str:
    """Return the address of a site."""
    start = rng.choice(("www.", "https://", ""))
    return f"{start}{made_up_word(rng)[:9]}.{rng.choice(('net', 'org', 'eu'))}{rng.choice(('', '/', '/info'))}"


def phone(rng: Random, language: str) -> str:
    """Return a telephone number."""
    forms = ("+## ### ######", "(###) ###-####", "0### / ######", "+#-###-###-####", "0# ## ## ## ##", "###.###.####")
    return "".join(rng.choice(DIGITS) if sign == "#" else sign for sign in rng.choice(forms))


def name(rng: Random, language: str) -> str:
    """Return the name of a person."""
    first, last = _of(FIRST_NAMES, rng, language), _of(LAST_NAMES, rng, language)
    return rng.choice((f"{first} {last}", f"{first} {last}", f"{last}, {first}", f"{first[0]}. {last}"))


def street(rng: Random, language: str) -> str:
    """Return a street with a number."""
    return _of(STREETS, rng, language, "|").format(n=rng.randint(1, 240))


def city(rng: Random, language: str) -> str:
    """Return a town with its code."""
    return _of(CITIES, rng, language, "|")


def quantity(rng: Random, language: str) -> str:
    """Return a number with a unit."""
    number = rng.choice((str(rng.randint(1, 999)), f"{rng.randint(0, 99)}.{rng.randint(1, 9)}"))
    if _comma(language, rng):
        number = number.replace(".", ",")
    return number + rng.choice((" kg", " cm", " m²", " °C", " kWh", "ml", " mm", " V", " µg", " km/h", '"', "x"))


def phrase(rng: Random, language: str) -> str:
    """Return two to four words, of which the first has a capital."""
    words = [_word(rng, language) for _ in range(rng.randint(2, 4))]
    while len(" ".join(words)) > LONGEST:
        words.pop()
    text = " ".join(words)
    return text[0].upper() + text[1:]


def lower_case_phrase(rng: Random, language: str) -> str:
    """Return two to four words in lower case."""
    return phrase(rng, language).lower()


Kind = Callable[[Random, str], str]
SIMPLE: tuple[Kind, ...] = (digits, capitalised_word, word_in_capitals, code, grouped_code, date_in_digits)
SPACES: tuple[Kind, ...] = (phrase, lower_case_phrase, name, street, city, date_in_words)
LOWER: tuple[Kind, ...] = (lower_case_word, email, web)
SYMBOLS: tuple[Kind, ...] = (
    money,
    percent,
    decimal_comma,
    decimal_point,
    quantity,
    phone,
    any_characters,
    time_of_day,
)
PRINTED: tuple[Kind, ...] = (*SIMPLE, *SPACES, *LOWER, *SYMBOLS, long_code)


def value(rng: Random, kinds: tuple[Kind, ...], language: str) -> tuple[str, str]:
    """Return a value and the name of its kind, which is that of its function."""
    while True:
        kind = rng.choice(kinds)
        text = " ".join(kind(rng, language).split())
        if len(text) <= LONGEST:
            return text, kind.__name__


def line(rng: Random, language: str) -> str:
    """Return words, with a number now and then, that fill a printed line of up to `LONGEST` characters."""
    words = [_word(rng, language)]
    while True:
        more = _word(rng, language) if rng.random() < 0.85 else str(rng.randint(1, 2500))
        if len(" ".join([*words, more])) > rng.randint(20, LONGEST):
            return " ".join(words)
        words.append(more)
