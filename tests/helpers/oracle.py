"""A second reading of the manual's SMTP tab, to hold the product's rules against.

It was written from the manual's page and the table of decided open points alone, in
another manner than the product: the account is read by a state machine, one character
at a time; the password with a finger on the keys of a keyboard. Nothing is shared with
the product, the sentences included: each is spelled out here to the letter.

"Manual" below is the maker's page on the SMTP tab; "decided" is a point that the page
leaves open and the project has settled.
"""

import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random

HOST_SENTENCE = "Please enter an SMTP host within 100 characters."
PORT_SENTENCE = "Please enter an SMTP port between 1 and 49151."
SENDER_NAME_SENTENCE = "Please enter a sender name."
ACCOUNT_SENTENCE = "Please enter an SMTP account address in email format."
PASSWORD_LENGTH_SENTENCE = "The SMTP account password does not meet the rules."
PASSWORD_RULE_SENTENCE = "SMTP account password does not meet the rules."

LOWER = "abcdefghijklmnopqrstuvwxyz"
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"

# Manual, "aaa": the special characters in the order of the page. The page prints the
# sixth as a curly quotation mark, as it prints all of them; decided: the ASCII one.
LOCAL_SPECIALS = "!#$%&'+/=^_`{|}~?"

# Manual, the password: "one special character ($!@%*#?&)".
PASSWORD_SPECIALS = "$!@%*#?&"

# Unicode's White_Space less its control characters but the tab, and what has no width.
# Decided: "blanks around a value" go, the manual names none.
SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
LINES_ENDS = "\u2028\u2029"
WIDTHLESS = (
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062"
    "\u2063\u2064\u2065\u2066\u2067\u2068\u2069\u206a\u206b\u206c\u206d\u206e\u206f\ufeff"
)
BLANKS = " \t" + SPACES + LINES_ENDS + WIDTHLESS

# Unicode's Cf beyond these, as of Unicode 14 (Python 3.11): Arabic and Syriac signs,
# interlinear annotation, hieroglyph joiners, shorthand, music, tags.
FORMATS = (
    *(range(0x600, 0x606), range(0x6DD, 0x6DE), range(0x70F, 0x710), range(0x890, 0x892), range(0x8E2, 0x8E3)),
    *(range(0xFFF9, 0xFFFC), range(0x110BD, 0x110BE), range(0x110CD, 0x110CE), range(0x13430, 0x13440)),
    *(range(0x1BCA0, 0x1BCA4), range(0x1D173, 0x1D17B), range(0xE0001, 0xE0002), range(0xE0020, 0xE0080)),
)

# What a character of an account may lead to. A pair that is missing is a refusal, and
# so is an end anywhere but in LATER. "name" is a letter or a digit. Manual, "aaa",
# "xxx" and "yyy": "at least one of these must be included", so a lone hyphen makes a
# label. Decided: two or more labels, so that LATER may meet another dot.
ACCOUNT_STEPS = {
    ("START", "name"): "LOCAL",
    ("START", "special"): "LOCAL",
    ("LOCAL", "name"): "LOCAL",
    ("LOCAL", "special"): "LOCAL",
    ("LOCAL", "at"): "AT",
    ("AT", "name"): "FIRST",
    ("AT", "hyphen"): "FIRST",
    ("FIRST", "name"): "FIRST",
    ("FIRST", "hyphen"): "FIRST",
    ("FIRST", "dot"): "DOT",
    ("DOT", "name"): "LATER",
    ("DOT", "hyphen"): "LATER",
    ("LATER", "name"): "LATER",
    ("LATER", "hyphen"): "LATER",
    ("LATER", "dot"): "DOT",
}

# The US keyboard, key by key from the left: what a key types, and what with shift.
KEYBOARD = (
    "`~ 1! 2@ 3# 4$ 5% 6^ 7& 8* 9( 0) -_ =+",
    "qQ wW eE rR tT yY uU iI oO pP [{ ]} \\|",
    "aA sS dD fF gG hH jJ kK lL ;: '\"",
    "zZ xX cC vV bB nN mM ,< .> /?",
)

# A line that characters stand along, and the column on that line.
Place = tuple[str, int]


# The five fields -----------------------------------------------------------------


def host_sentence(text: str) -> str | None:
    """None for 1 to 100 characters of any format (manual, SMTP Host).

    Decided: what cannot be seen is refused, and numbers are those of a decimal address.
    """
    host = _without_blanks(text)
    return HOST_SENTENCE if _holds_unseen(host) or not 1 <= len(host) <= 100 or _is_other_number(host) else None


def sender_name_sentence(text: str) -> str | None:
    """None for 1 to 100 characters of any format (manual, Sender Name).

    The manual has one sentence for this field, for a name that is too long as well.
    Decided: an emoji may need what cannot be seen, but nothing ends the line.
    """
    name = _without_blanks(text)
    return None if not _ends_a_line(name) and 1 <= len(name) <= 100 else SENDER_NAME_SENTENCE


def port_sentence(text: str) -> str | None:
    """None for a number from 1 to 49151 (manual, SMTP Port).

    Decided: one to five ASCII digits, of which the first ones may be zeros.
    """
    number = 0
    for length, character in enumerate(_without_blanks(text), start=1):
        figure = ord(character) - ord("0")
        if figure < 0 or figure > 9 or length > 5:
            return PORT_SENTENCE
        number = 10 * number + figure
    return None if 1 <= number <= 49151 else PORT_SENTENCE


def account_sentence(text: str) -> str | None:
    """None for `aaa@xxx.yyy` of at most 100 characters (manual, SMTP Account Address).

    Decided: no dot, hyphen or asterisk in `aaa`, since the manual lists none.
    """
    state = "START"
    for length, character in enumerate(_without_blanks(text), start=1):
        following = ACCOUNT_STEPS.get((state, _account_sort(character)))
        if following is None or length > 100:
            return ACCOUNT_SENTENCE
        state = following
    return None if state == "LATER" else ACCOUNT_SENTENCE


def password_sentence(text: str) -> str | None:
    """None for a password as typed that keeps every rule (manual, Account Password).

    Decided: 10 to 20 is looked at first and has the sentence with "The"; the manual's
    three rules, and what cannot be seen, have the one without. Nothing is stripped.
    """
    if len(text) < 10 or len(text) > 20:
        return PASSWORD_LENGTH_SENTENCE
    if _holds_unseen(text) or _lacks_kind(text) or _repeats(text) or _runs(text):
        return PASSWORD_RULE_SENTENCE
    return None


# What the rules are made of ------------------------------------------------------


def _holds_control(text: str) -> bool:
    """Whether any character is in Unicode's Cc, the ends included.

    Cc is C0, DEL and C1, by Unicode's promise for ever. Decided: refused in every
    field, a tab at an end excepted.
    """
    for character in text:
        point = ord(character)
        if point < 0x20 or 0x7F <= point < 0xA0:
            return True
    return False


def _without_blanks(text: str) -> str:
    """The text from its first to its last character that is not blank (decided)."""
    first, last = 0, len(text)
    while first < last and text[first] in BLANKS:
        first += 1
    while last > first and text[last - 1] in BLANKS:
        last -= 1
    return text[first:last]


def _ends_a_line(text: str) -> bool:
    """Whether a character is a control character or ends a line."""
    return _holds_control(text) or any(character in LINES_ENDS for character in text)


def _holds_unseen(text: str) -> bool:
    """Whether any character is in Cc, Cf, Zl, Zp, or in Zs and no space (decided)."""
    return _ends_a_line(text) or any(
        character in SPACES
        or (character in WIDTHLESS and character != "\u2065")
        or any(ord(character) in points for points in FORMATS)
        for character in text
    )


def _is_other_number(host: str) -> bool:
    """Whether a resolver would read a number that is no decimal IPv4 address (decided).

    It reads the last label of a name; of an IPv6 address, what has dots at its end.
    """
    plain = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
    if plain[:1] == "[" and plain[-1:] == "]":
        plain = plain[1:-1]
    address = plain
    if ":" in plain:
        address = plain.split(":")[-1]
        if "." not in address or any(character not in "0123456789abcdefABCDEF:." for character in plain):
            return False
        if "." in plain[: len(plain) - len(address)]:
            return False
    labels = address.split(".")
    if labels[-1] == "" and len(labels) > 1 and ":" not in plain:
        last, four = labels[-2], labels[:0]
    else:
        last, four = labels[-1], labels
    hexadecimal = last[:2] in ("0x", "0X") and all(character in "0123456789abcdefABCDEF" for character in last[2:])
    if ":" not in plain and not (last.isdecimal() or hexadecimal):
        return False
    return len(four) != 4 or not all(each and all(c in DIGITS for c in each) and int(each) < 256 for each in four)


def _account_sort(character: str) -> str:
    """What a character is to the account's machine; "foreign" leads nowhere."""
    if character in LOWER or character in UPPER or character in DIGITS:
        return "name"
    if character in LOCAL_SPECIALS:
        return "special"
    return {"@": "at", ".": "dot", "-": "hyphen"}.get(character, "foreign")


def _lacks_kind(text: str) -> bool:
    """Whether one of the manual's four kinds is missing.

    Decided: only ASCII counts; any other character is allowed and is of no kind.
    """
    upper = lower = digit = special = 0
    for character in text:
        upper += character in UPPER
        lower += character in LOWER
        digit += character in DIGITS
        special += character in PASSWORD_SPECIALS
    return not (upper and lower and digit and special)


def _repeats(text: str) -> bool:
    """Whether a code point stands twice in a row (manual: "Repetitive characters").

    Decided: two are too many. `aA` is not a repetition.
    """
    before = ""
    for character in text:
        if character == before:
            return True
        before = character
    return False


def _places() -> dict[str, list[Place]]:
    """Where each character stands: on its row of keys, in the alphabet, in the digits.

    A row is read twice, without shift and with it, and never across the two. Letters
    compare without case, so either case of a letter stands in both readings.
    """
    places: dict[str, list[Place]] = {}
    for row, keys in enumerate(KEYBOARD):
        for column, key in enumerate(keys.split()):
            plain, shifted = key[0], key[1]
            letter = plain in LOWER
            for character in key:
                places[character] = []
                if letter or character == plain:
                    places[character].append((f"row {row}", column))
                if letter or character == shifted:
                    places[character].append((f"row {row} with shift", column))
    for column, (lower, upper) in enumerate(zip(LOWER, UPPER, strict=True)):
        places[lower].append(("alphabet", column))
        places[upper].append(("alphabet", column))
    for column, digit in enumerate(DIGITS):
        places[digit].append(("digits", column))
    return places


PLACES = _places()


def _runs(text: str) -> bool:
    """Whether three neighbours stand in a row (manual: "Sequential characters").

    Decided: forwards or backwards along one line, with no way round its end. What is
    on no key, such as the Kelvin sign, is nobody's neighbour.
    """
    for step in (1, -1):
        reached: dict[Place, int] = {}
        for character in text:
            reached = {
                (line, column): reached.get((line, column - step), 0) + 1 for line, column in PLACES.get(character, ())
            }
            if 3 in reached.values():
                return True
    return False


# Inputs to compare on ------------------------------------------------------------

Recipe = Callable[[Random], str]

CONTROLS = [chr(point) for point in (*range(0x20), *range(0x7F, 0xA0))]
NOTORIOUS_CONTROLS = "\r\n\t\0\x0b\x1c\x1f\x7f\x85\x9f"
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
NAMES = LOWER + UPPER + DIGITS

# Characters that a library may take for another: Korean, astral, combining, full-width
# digits and signs, Arabic and superscript digits, Kelvin sign, dotless and dotted i,
# long s, sharp s, a ligature, capitals and small letters beyond ASCII, the typographic
# apostrophe, and invisible ones that are neither blank nor control (Cf).
STRANGERS = (
    "\ud55c\uae00\uba54\uc77c\u1112\u1161\U0001f600\U0001d7d8\U00010400\u0301\u0308"
    "\uff10\uff11\uff19\uff21\uff41\uff20\uff0e\uff0d\u0662\u0665\u00b2\u2460\u212a"
    "\u0131\u0130\u017f\u00df\ufb01\u00c9\u00e9\u0410\u0430\u2019\u2010\u200b\u200d"
    "\ufeff\u00ad\u200e\u180e"
)
# Letters that become an ASCII one under str.lower, upper or casefold, and that one.
DISGUISES = {"k": "\u212a", "i": "\u0131\u0130", "s": "\u017f"}

# The lines once more, as one reads them, so that a key that is out of its place above
# shows as a run that is generated and not found.
LINES = (
    "`1234567890-=",
    "qwertyuiop[]\\",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "~!@#$%^&*()_+",
    "QWERTYUIOP{}|",
    'ASDFGHJKL:"',
    "ZXCVBNM<>?",
    LOWER,
    DIGITS,
)
# Not runs, though close: mixed shift, round the end of a line, from one line into
# another, with a gap, there and back, down a column of keys.
NEARLY_RUNS = (
    *("1@3", "!2#", "p[}", "P{]", 'l;"', "m,>", "9)-", "8(0", "`!2", "[}\\", "0_="),
    *("=`1", "-=`", "901", "/zx", "\\qw", "';a", "+~!", "yza", "zab", "bAz", "-+"),
    *("109", "pqw", "9-0", "hik", "op]", "135", "qet", "ace", "121", "qwq", "!@!"),
    *("qaz", "1qa", "2ws", "!QA", "3ed", "zaq", "xsw", "aBd", "0-1", "10-", "98-"),
)


def account_inputs(rng: Random, count: int) -> Iterator[str]:
    """`count` texts for the account: good, one edit from good, and noise."""
    return _mix(rng, count, _ACCOUNT_RECIPES)


def password_inputs(rng: Random, count: int) -> Iterator[str]:
    """`count` texts for the password: good, one edit from good, and noise."""
    return _mix(rng, count, _PASSWORD_RECIPES)


def port_inputs(rng: Random, count: int) -> Iterator[str]:
    """`count` texts for the port: good, one edit from good, and noise."""
    return _mix(rng, count, _PORT_RECIPES)


def host_inputs(rng: Random, count: int) -> Iterator[str]:
    """`count` texts for the host; the sender's name has the same rule."""
    return _mix(rng, count, _HOST_RECIPES)


def _mix(rng: Random, count: int, recipes: dict[Recipe, int]) -> Iterator[str]:
    """Texts by recipes drawn with their weights."""
    for recipe in rng.choices(list(recipes), list(recipes.values()), k=count):
        yield recipe(rng)


# Edits that every field suffers


def _drawn(rng: Random, alphabet: str, shortest: int, longest: int) -> str:
    return "".join(rng.choices(alphabet, k=rng.randint(shortest, longest)))


def _spot(rng: Random, last: int) -> int:
    """0 to `last`, with both ends as likely as all between them together."""
    return rng.choice((0, last, rng.randint(0, last), rng.randint(0, last)))


def _with(rng: Random, text: str, piece: str) -> str:
    """The text with a piece put in somewhere."""
    at = _spot(rng, len(text))
    return text[:at] + piece + text[at:]


def _overwritten(rng: Random, text: str, piece: str) -> str:
    """The text with a piece written over it somewhere, so that its length stays."""
    at = _spot(rng, max(0, len(text) - len(piece)))
    return text[:at] + piece + text[at + len(piece) :]


def _among_blanks(rng: Random, text: str) -> str:
    return _drawn(rng, BLANKS + 20 * " ", 0, 3) + text + _drawn(rng, BLANKS, 0, 3)


def _control(rng: Random) -> str:
    return rng.choice(rng.choice((CONTROLS, NOTORIOUS_CONTROLS)))


def _with_control(rng: Random, text: str) -> str:
    """A control character at an end or inside, also out beyond the blanks."""
    if rng.random() < 0.2:
        text = _among_blanks(rng, text)
    return rng.choice((_with, _overwritten))(rng, text, _control(rng))


def _code_point(rng: Random) -> str:
    """Any code point but a surrogate, which no form in UTF-8 can hold."""
    point = rng.randrange(rng.choice((0x100, 0x3100, 0x10F800)))
    return chr(point if point < 0xD800 else point + 0x800)


def _noise(rng: Random) -> str:
    alphabet = rng.choice((PRINTABLE, NAMES + "@.-", PRINTABLE + STRANGERS + BLANKS))
    text = _drawn(rng, alphabet, 0, 25)
    return text + _code_point(rng) if rng.random() < 0.3 else text


# The account


def _good_account(rng: Random) -> str:
    local = _drawn(rng, rng.choice((NAMES, NAMES + 2 * LOCAL_SPECIALS)), 1, 12)
    alphabet = rng.choice((NAMES, LOWER + "---", NAMES + "-"))
    labels = [_drawn(rng, alphabet, 1, 8) for _ in range(rng.choice((2, 2, 3, 4)))]
    return f"{local}@{'.'.join(labels)}"


def _account_at_limit(rng: Random) -> str:
    """97 to 103 characters, now and then with blanks that must not count."""
    local, domain = _good_account(rng).split("@")
    missing = rng.choice((97, 99, 99, 100, 100, 100, 101, 101, 102, 103))
    padding = "".join(rng.choices(NAMES, k=missing - len(local) - len(domain) - 1))
    text = rng.choice((f"{padding}{local}@{domain}", f"{local}@{domain}{padding}"))
    return _among_blanks(rng, text) if rng.random() < 0.3 else text


def _account_out_of_joint(rng: Random) -> str:
    """An account with one joint, `@` or dot, doubled, lost, swapped or misplaced."""
    text = _good_account(rng)
    local, domain = text.split("@")
    first = domain.split(".")[0]
    return rng.choice(
        (
            *(local, domain, f"@{domain}", f"{local}@", f"{local}@{first}", "", "@."),
            *(f"{local}@.{domain}", f"{text}.", f"{local}.@{domain}", f".{text}"),
            *(text.replace(".", ".."), text.replace(".", "@"), text.replace(".", "")),
            *(text.replace("@", "@@"), text.replace("@", "."), f"{domain}@{local}"),
            *(f"{local}@-{domain}", f"{text}-", f"{local}-@{domain}", f"{text}.kr"),
            *(f"{local}@{first}.-", f"{local}@[127.0.0.1]", f"<{text}>", f"{text},a"),
            *(f"mailto:{text}", f'"{local}"@{domain}', f"{local}@{first}..{first}"),
        )
    )


def _account_with_sign(rng: Random) -> str:
    """An account and one more printable character, which may or may not be allowed."""
    sign = rng.choice((*".-*", *PRINTABLE))
    return rng.choice((_with, _overwritten))(rng, _good_account(rng), sign)


def _account_less_one(rng: Random) -> str:
    text = _good_account(rng)
    at = _spot(rng, len(text) - 1)
    return text[:at] + text[at + 1 :]


def _account_with_stranger(rng: Random) -> str:
    stranger = rng.choice((rng.choice(STRANGERS + BLANKS), _code_point(rng)))
    return rng.choice((_with, _overwritten))(rng, _good_account(rng), stranger)


_ACCOUNT_RECIPES: dict[Recipe, int] = {
    _good_account: 18,
    lambda rng: _among_blanks(rng, _good_account(rng)): 10,
    _account_at_limit: 16,
    _account_out_of_joint: 14,
    _account_with_sign: 18,
    _account_less_one: 6,
    _account_with_stranger: 8,
    lambda rng: _with_control(rng, _good_account(rng)): 6,
    _noise: 4,
}


# The password


def _password(rng: Random, length: int) -> str:
    """A password of this length: all four kinds, nothing twice in a row."""
    alphabet = rng.choice((PRINTABLE, NAMES + PASSWORD_SPECIALS))
    while True:
        kinds = (LOWER, UPPER, DIGITS, PASSWORD_SPECIALS)
        characters = [rng.choice(kind) for kind in kinds]
        characters += rng.choices(alphabet, k=length - len(kinds))
        rng.shuffle(characters)
        if all(one != following for one, following in pairwise(characters)):
            return "".join(characters)


def _good_password(rng: Random) -> str:
    return _password(rng, rng.randint(10, 20))


def _password_at_limit(rng: Random) -> str:
    """9, 10, 20 or 21 characters, whatever they weigh in UTF-8 or UTF-16."""
    text = _password(rng, rng.choice((8, 9, 9, 10, 10, 10, 11, 19, 20, 20, 20, 21, 22)))
    if rng.random() < 0.4:
        text = _overwritten(rng, text, rng.choice(STRANGERS + BLANKS))
    return text


def _password_with_stranger(rng: Random) -> str:
    strangers = [rng.choice(STRANGERS + BLANKS), _code_point(rng)]
    text = _good_password(rng)
    for _ in range(rng.choice((1, 1, 2))):
        text = _overwritten(rng, text, rng.choice(strangers))
    return text


def _password_with_pair(rng: Random) -> str:
    """A character twice in a row; or, to be let through, in both cases or composed."""
    one = rng.choice(rng.choice((NAMES, PRINTABLE, PRINTABLE, STRANGERS)))
    case = rng.choice(LOWER)
    cases = (case + case.upper(), case.upper() + case)
    alike = rng.choice(("\u00e9e\u0301", "\u212aK", "k\u212a", "\u0131i", "s\u017f"))
    pair = rng.choice((one + one, one + one, *cases, alike))
    return _overwritten(rng, _good_password(rng), pair)


def _any_case(rng: Random, text: str) -> str:
    changed = (rng.choice((each.lower(), each.upper())) for each in text)
    return rng.choice((text, text.lower(), text.upper(), "".join(changed)))


def _run(rng: Random, length: int) -> str:
    """Neighbours along one line, in either direction and any case."""
    line = rng.choice(LINES)
    first = rng.randint(0, len(line) - length)
    return _any_case(rng, line[first : first + length][:: rng.choice((1, -1))])


def _password_with_run(rng: Random) -> str:
    piece = _run(rng, rng.choice((2, 2, 3, 3, 3, 4)))
    return _overwritten(rng, _good_password(rng), piece)


def _password_with_near_run(rng: Random) -> str:
    """Something close to a run: a listed one, or a letter of a run in disguise."""
    piece = rng.choice(NEARLY_RUNS)[:: rng.choice((1, -1))]
    if rng.random() < 0.4:
        piece = _disguised(rng)
    return _overwritten(rng, _good_password(rng), _any_near_case(rng, piece))


def _disguised(rng: Random) -> str:
    """A run of three in which one letter is a stranger that folds to that letter."""
    letter = rng.choice(list(DISGUISES))
    line = rng.choice([each for each in LINES if letter in each])
    at = line.index(letter)
    first = rng.randint(max(0, at - 2), min(at, len(line) - 3))
    piece = line[first : first + 3].replace(letter, rng.choice(DISGUISES[letter]))
    return piece[:: rng.choice((1, -1))]


def _any_near_case(rng: Random, text: str) -> str:
    """ASCII letters in any case; a stranger stays what it is."""
    return "".join(_any_case(rng, each) if each in LOWER + UPPER else each for each in text)


def _password_less_kind(rng: Random) -> str:
    """One kind taken out; what stands in its place only looks like it, or not even."""
    kind, likeness = rng.choice(
        (
            (UPPER, "\u00c9\uff21\u0410\u212a\u0130\u01c5"),
            (LOWER, "\u00e9\uff41\u0430\u0131\u017f\u00df"),
            (DIGITS, "\uff11\u0662\u00b2\u2460\u2167\U0001d7d8"),
            (PASSWORD_SPECIALS, "^-_+=.,:;~\uff01\ufe6a\u00a7"),
        )
    )
    spared = rng.random() < 0.3
    rest = "".join(each for each in NAMES + PASSWORD_SPECIALS if each not in kind)
    text = "".join(rng.choice(rest + likeness) if each in kind else each for each in _good_password(rng))
    return _overwritten(rng, text, rng.choice(kind if spared else likeness))


_PASSWORD_RECIPES: dict[Recipe, int] = {
    _good_password: 16,
    _password_at_limit: 13,
    _password_with_stranger: 9,
    _password_with_pair: 12,
    _password_with_run: 22,
    _password_with_near_run: 12,
    _password_less_kind: 6,
    lambda rng: _with_control(rng, _password(rng, rng.choice((9, 10, 15, 20)))): 6,
    _noise: 4,
}


# The port


def _good_port(rng: Random) -> str:
    number = rng.choice((rng.randint(1, 49151), rng.randint(1, 999), 25, 465, 587))
    return str(number).zfill(rng.randint(1, 5))


def _port_at_limit(rng: Random) -> str:
    near = (0, 1, 2, 9999, 10000, 49149, 49150, 49151, 49152, 49153, 49160, 50000)
    number = rng.choice((*near, 65535, 65536, 99999, 100000, rng.randint(49152, 99999)))
    return str(number).zfill(rng.choice((1, 1, 2, 4, 5, 5, 6, 7)))


def _port_in_disguise(rng: Random) -> str:
    """What Python's int, float or isdigit would take, and the rule does not."""
    text = _good_port(rng)
    zero = rng.choice((0x0660, 0x06F0, 0x0966, 0xFF10, 0x1D7CE, 0x2080))
    digits = [chr(zero + int(each)) for each in text]
    at = _spot(rng, len(text) - 1)
    return rng.choice(
        (
            *("+" + text, "-" + text, text + ".0", text + ".", text + "e1", "1e3"),
            *("0x" + text, text + "L", text[:1] + "_" + text, text[:1] + "," + text),
            *("".join(digits), text[:at] + digits[at] + text[at + 1 :], "\u2167"),
            *("0b1", "0o17", "smtp", "", " ", f"{text}:{text}", f"{text}\u00b2"),
        )
    )


def _port_with_sign(rng: Random) -> str:
    sign = rng.choice((*DIGITS, *PRINTABLE, *STRANGERS, *BLANKS))
    return rng.choice((_with, _overwritten))(rng, _good_port(rng), sign)


_PORT_RECIPES: dict[Recipe, int] = {
    _good_port: 20,
    lambda rng: _among_blanks(rng, _good_port(rng)): 12,
    lambda rng: _drawn(rng, DIGITS, 0, 6): 14,
    _port_at_limit: 22,
    _port_in_disguise: 10,
    _port_with_sign: 12,
    lambda rng: _with_control(rng, _good_port(rng)): 7,
    _noise: 3,
}


# The host, and the sender's name


def _good_host(rng: Random) -> str:
    name = ".".join(_drawn(rng, LOWER + "-", 1, 8) for _ in range(rng.randint(1, 4)))
    groups = ":".join(f"{rng.randrange(65536):x}" for _ in range(8))
    address = ".".join(str(rng.randrange(300)) for _ in range(4))
    korean = "\ud55c\uae00\uba54\uc77c.\ud55c\uad6d"
    return rng.choice((name, name, address, groups, f"[{groups}]", "::1", korean))


def _host_at_limit(rng: Random) -> str:
    """0, 1 and about 100 characters, whatever they weigh, with blanks or without."""
    length = rng.choice((0, 0, 1, 1, 2, 98, 99, 99, 100, 100, 100, 101, 101, 101, 102))
    alphabet = rng.choice((NAMES, PRINTABLE, STRANGERS, "\U0001f600", "\ud55c", BLANKS))
    text = "".join(rng.choices(alphabet, k=length))
    return _among_blanks(rng, text) if rng.random() < 0.4 else text


def _host_with_stranger(rng: Random) -> str:
    stranger = rng.choice((rng.choice(STRANGERS + BLANKS), _code_point(rng)))
    return _with(rng, _good_host(rng), stranger)


_HOST_RECIPES: dict[Recipe, int] = {
    _good_host: 12,
    lambda rng: _among_blanks(rng, _good_host(rng)): 8,
    _host_at_limit: 38,
    _host_with_stranger: 10,
    lambda rng: _drawn(rng, BLANKS, 0, 4): 6,
    lambda rng: _with_control(rng, _good_host(rng)): 20,
    _noise: 6,
}
