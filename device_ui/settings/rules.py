"""The rules of the fields: turn a typed text into a value, or into the sentence of the broken rule.

The manual (manual/smtp-tab.txt) is the source of each rule and of the six sentences, to the letter. Where it leaves a point
open, the decision is a constant with its reason. A rule takes the text as it was typed and returns the value or an `Invalid`;
it does no I/O and never raises.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from device_ui.errors import Message, Text

# The manual's six sentences, to the letter.
HOST_SENTENCE = "Please enter an SMTP host within 100 characters."
PORT_SENTENCE = "Please enter an SMTP port between 1 and 49151."
SENDER_NAME_SENTENCE = "Please enter a sender name."
ACCOUNT_SENTENCE = "Please enter an SMTP account address in email format."
PASSWORD_LENGTH_SENTENCE = "The SMTP account password does not meet the rules."
PASSWORD_SENTENCE = "SMTP account password does not meet the rules."

# For the choices that the manual does not have.
FROM_ADDRESS_SENTENCE = "Please enter a from address in email format."
HOST_NAME_SENTENCE = "Please enter a host name, such as nas.example: no address, no scheme, no port."
CHOICE_SENTENCE = "Please choose one of the values listed."

# "Characters" are Unicode code points after stripping, as a person and len() count them.
TEXT_MAXIMUM = 100
PORT_MAXIMUM = 49151
# Five digits are enough for any port; a longer text could only cost the parser time.
PORT_PATTERN = re.compile(r"[0-9]{1,5}")
# A provider's credentials follow the provider's rules, not the manual's; 256 is more than the longest known API key.
PROVIDER_MAXIMUM = 256

# What is stripped from the ends of every value but a password: it was pasted along. A tab, spaces and separators (Unicode
# Zs, Zl, Zp), and what has no width (of Cf; not the tags that end the emoji of a flag). CR and LF stay, and are refused.
BLANKS = "\t \xa0\xad\u061c\u1680\u180e\u3000\ufeff" + "".join(
    map(chr, (*range(0x2000, 0x2010), *range(0x2028, 0x2030), *range(0x205F, 0x2070)))
)
# General categories of characters that cannot be seen. BREAKING ends lines or is no character: an attack on a header or a
# file. Of the rest of INVISIBLE, a name may need some: an emoji is joined by U+200D. UNPRINTABLE is str.isprintable()'s.
BREAKING = frozenset(("Cc", "Cs", "Zl", "Zp"))
INVISIBLE = BREAKING | {"Cf", "Zs"}
UNPRINTABLE = INVISIBLE | {"Cn", "Co"}
NAMED_MAXIMUM = 3
# Control characters have no names, but these abbreviations (Unicode, NameAliases.txt).
CONTROL_NAMES = {"\0": "NUL", "\t": "TAB", "\n": "LF", "\r": "CR"}

# Panels and printers show IPv4 addresses with leading zeros. inet_aton(3) reads those as octal, and also accepts hexadecimal
# numbers and fewer than four: mail would go to a different host. A name never ends in a number (WHATWG URL, 3.5, "ends in a
# number").
ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:\d+|0[xX][0-9A-Fa-f]*)\.?", re.DOTALL)  # \d: of any script
QUAD = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
IPV6 = re.compile(r"[0-9A-Fa-f:]*:[0-9A-Fa-f.]*")

# A name that a Host header and a certificate can hold: labels joined by dots, 253 characters at most (RFC 1035, 2.3.4).
HOST_NAME_MAXIMUM = 253
HOST_NAME_PATTERN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")

# The manual lists exactly these for `aaa`: no dot, no hyphen, no asterisk.
LOCAL_PART = r"[A-Za-z0-9!#$%&'+/=^_`{|}~?]+"
# A from address may have dots, as the addresses of providers do.
DOTTED_LOCAL_PART = r"[A-Za-z0-9!#$%&'+/=^_`{|}~?.-]+"
# Two labels or more, so that user@mail.example.co.kr passes; single dots.
DOMAIN = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
# Behind a relay, a host of its own network: root@nas.
HOST_NAME = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
ACCOUNT_PATTERN = re.compile(f"{LOCAL_PART}@{DOMAIN}")
ADDRESS_PATTERN = re.compile(f"{DOTTED_LOCAL_PART}@{DOMAIN}")
RELAY_ADDRESS_PATTERN = re.compile(f"{DOTTED_LOCAL_PART}@{HOST_NAME}")

# Three neighbours are a sequence: two ("we", "12") are in half of all words and numbers.
SEQUENCE_LENGTH = 3
# Rows of the US keyboard, the same keys with shift, the alphabet and the digits; each is read both ways.
SEQUENCES = (
    "`1234567890-=",
    "qwertyuiop[]\\",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "~!@#$%^&*()_+",
    "qwertyuiop{}|",
    'asdfghjkl:"',
    "zxcvbnm<>?",
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789",
)
# Without case, for A to Z only: str.lower() maps other letters to these, too (the Kelvin sign to k).
LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True)
class Invalid:
    """A broken rule: its exact `sentence`, and `hints` that name the rule and never quote a secret."""

    sentence: Text
    hints: tuple[Text, ...] = ()


UNSEEN = "Character {position} cannot be seen: {name}. Please remove it, or type this again."
NUMBER_HINT = "An IPv4 address has four decimal numbers from 0 to 255, such as 192.0.2.25."
WIDTH_HINT = (
    "Please type it with the letters A to Z and the digits 0 to 9, none of them full-width or of another script."
)


def stripped(text: str) -> str:
    """Return a typed text without the `BLANKS` at its ends."""
    return text.strip(BLANKS)


def unseen(text: str, categories: frozenset[str] = INVISIBLE) -> tuple[Message, ...]:
    """Return a hint for each of the first characters of these categories: its position, from 1, and its name."""
    found = [at for at, each in enumerate(text) if each != " " and unicodedata.category(each) in categories]
    return tuple(Message(UNSEEN, position=at + 1, name=_named(text[at])) for at in found[:NAMED_MAXIMUM])


def _named(character: str) -> str:
    """Return the code point and the name, as the Unicode Standard writes them: ``U+200B ZERO WIDTH SPACE``."""
    name = unicodedata.name(character, CONTROL_NAMES.get(character, ""))
    return f"U+{ord(character):04X} {name}".strip()


@dataclass(frozen=True)
class PasswordRule:
    """One rule of the manual's password: its `label` in the page's list, and the `hint` when it is broken.

    `pattern` must be found in the password, or, when `forbidden`, must not be. The browser checks the same rows during typing,
    so each pattern means the same to `re` (DOTALL) and to RegExp (flags s and u). Two rules are functions here: `find` returns
    their hints, since `re` has no Unicode categories and no pattern matches neighbours. The script has both.
    """

    label: str
    hint: str = ""
    pattern: str = ""
    forbidden: bool = False
    find: Callable[[str], tuple[Text, ...]] | None = None

    def holds(self, text: str) -> bool:
        """Return whether this password satisfies the rule."""
        return not self.hints(text)

    def hints(self, text: str) -> tuple[Text, ...]:
        """Return the hints for a password that breaks the rule; none for one that satisfies it."""
        if self.find:
            return self.find(text)
        return (self.hint,) if bool(re.search(self.pattern, text, re.DOTALL)) == self.forbidden else ()


SEQUENTIAL_HINT = "Three neighbours of the keyboard, the alphabet or the digits are in a row."


def neighbours(text: str) -> tuple[Text, ...]:
    """Return the hint for a text with three neighbours of a row of `SEQUENCES`, forwards or backwards, without case."""
    lowered = text.translate(LOWER)
    runs = [lowered[start : start + SEQUENCE_LENGTH] for start in range(len(lowered) - SEQUENCE_LENGTH + 1)]
    return (SEQUENTIAL_HINT,) if any(run in row or run[::-1] in row for run in runs for row in SEQUENCES) else ()


# Upper case, lower case and digit are the English ones, as in the manual's account rule; any other character is allowed
# and counts as none of them. "Should not be entered consecutively" gives no number, so two equal characters in a row are
# already too many. The pattern of the last one is INVISIBLE.
PASSWORD_RULES = (
    PasswordRule("10 to 20 characters", "It must have 10 to 20 characters.", r"^.{10,20}(?!.)"),
    PasswordRule("an upper case letter", "It needs an upper case letter.", "[A-Z]"),
    PasswordRule("a lower case letter", "It needs a lower case letter.", "[a-z]"),
    PasswordRule("a digit", "It needs a digit.", "[0-9]"),
    PasswordRule("one of $ ! @ % * # ? &", "It needs one of $!@%*#?&.", "[$!@%*#?&]"),
    PasswordRule("no character twice in a row", "Two equal characters are in a row.", r"(.)\1", forbidden=True),
    PasswordRule("no three neighbours, such as qwe, 321 or abc", forbidden=True, find=neighbours),
    PasswordRule("no invisible character", pattern=r"(?! )[\p{Cc}\p{Cs}\p{Cf}\p{Z}]", forbidden=True, find=unseen),
)


def host(text: str) -> str | Invalid:
    """A name or address of 1 to 100 characters in any format; the numbers of an IPv4 address are decimal."""
    value = _text(text, TEXT_MAXIMUM, HOST_SENTENCE)
    return value if isinstance(value, Invalid) else _decimal(value)


def sender_name(text: str) -> str | Invalid:
    """A name of 1 to 100 characters in any format."""
    return _text(text, TEXT_MAXIMUM, SENDER_NAME_SENTENCE, BREAKING)


def port(text: str) -> int | Invalid:
    """A port from 1 to 49151, of one to five ASCII digits; leading zeros are dropped."""
    value = _text(text, TEXT_MAXIMUM, PORT_SENTENCE)
    if isinstance(value, Invalid):
        return value
    if PORT_PATTERN.fullmatch(value) and 1 <= int(value) <= PORT_MAXIMUM:
        return int(value)
    is_foreign = any(each.isnumeric() and not each.isascii() for each in value)
    return Invalid(PORT_SENTENCE, (WIDTH_HINT,) if is_foreign else ())


def account(text: str) -> str | Invalid:
    """A login in the manual's e-mail format ``aaa@xxx.yyy``, 1 to 100 characters."""
    return _matching(text, ACCOUNT_PATTERN, ACCOUNT_SENTENCE)


def address(text: str) -> str | Invalid:
    """The account rule with dots and hyphens in the local part too: for a relay without login."""
    return _matching(text, ADDRESS_PATTERN, ACCOUNT_SENTENCE)


def from_address(text: str) -> str | Invalid:
    """The rule of the from address: the same address with its own sentence."""
    return _matching(text, ADDRESS_PATTERN, FROM_ADDRESS_SENTENCE)


def relay_from_address(text: str) -> str | Invalid:
    """The from address of a relay without login: also of a host without a dot (``root@nas``)."""
    return _matching(text, RELAY_ADDRESS_PATTERN, FROM_ADDRESS_SENTENCE)


def provider_account(text: str) -> str | Invalid:
    """A login issued by a mail provider: 1 to 256 printable characters."""
    return _text(text, PROVIDER_MAXIMUM, ACCOUNT_SENTENCE, UNPRINTABLE)


def password(text: str) -> str | Invalid:
    """The manual's password: 10 to 20 characters, four kinds, nothing repeated, nothing sequential.

    A wrong length has the sentence with "The"; the other rules share the one without.
    """
    length, *others = PASSWORD_RULES
    if not length.holds(text):
        return Invalid(PASSWORD_LENGTH_SENTENCE, (length.hint, *unseen(text)))
    hints = tuple(hint for rule in others for hint in rule.hints(text))
    return Invalid(PASSWORD_SENTENCE, hints) if hints else text


def provider_password(text: str) -> str | Invalid:
    """A password issued by a mail provider: 1 to 256 printable characters, unchanged."""
    hints = unseen(text, UNPRINTABLE)
    if not 1 <= len(text) <= PROVIDER_MAXIMUM:
        length = Message("It must have 1 to {maximum} characters.", maximum=PROVIDER_MAXIMUM)
        return Invalid(PASSWORD_LENGTH_SENTENCE, (length, *hints))
    return Invalid(PASSWORD_SENTENCE, hints) if hints else text


def host_name(text: str) -> str | Invalid:
    """A name of this device in a URL, in lower case, as a browser sends it (RFC 5891 for one that is not in ASCII)."""
    value = _text(text, HOST_NAME_MAXIMUM, HOST_NAME_SENTENCE)
    if isinstance(value, Invalid):
        return value
    try:
        name = (value if value.isascii() else value.encode("idna").decode()).lower()
    except UnicodeError:
        return Invalid(HOST_NAME_SENTENCE)
    if not HOST_NAME_PATTERN.fullmatch(name) or ENDS_IN_NUMBER.fullmatch(name):
        return Invalid(HOST_NAME_SENTENCE)
    return name


def no_value(_text: str) -> str:
    """The rule of a field that this sign-in does not need: drop the typed text."""
    return ""


def former_text(text: str) -> bool:
    """Return whether former versions stored this host or sender name: an update of the program must not reject it."""
    return not has_control(text) and text == text.strip() and 1 <= len(text) <= TEXT_MAXIMUM


def former_password(text: str) -> bool:
    """Return whether former versions stored this as a manual's password: they allowed invisible characters, except `has_control`'s."""
    *rules, _invisible = PASSWORD_RULES
    return not has_control(text) and all(rule.holds(text) for rule in rules)


def has_control(text: str) -> bool:
    """Return whether a text has a control character (Cc: CR, LF, NUL, tab) or a lone surrogate (Cs), which is no character.

    In a field they can only be an attack on a header or a file.
    """
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _text(text: str, maximum: int, sentence: str, categories: frozenset[str] = INVISIBLE) -> str | Invalid:
    """Return the text without the blanks around it. The positions of hints are those in the text as it was typed."""
    value = stripped(text)
    start = text.find(value)
    hints = unseen(" " * start + value, categories)
    return Invalid(sentence, hints) if hints or not 1 <= len(value) <= maximum else value


def _matching(text: str, pattern: re.Pattern[str], sentence: str) -> str | Invalid:
    value = _text(text, TEXT_MAXIMUM, sentence)
    if isinstance(value, Invalid) or pattern.fullmatch(value):
        return value
    is_wide = pattern.fullmatch(unicodedata.normalize("NFKC", value))
    return Invalid(sentence, (WIDTH_HINT,) if is_wide else ())


def _decimal(value: str) -> str | Invalid:
    """Return a host with the numbers of its IPv4 address in decimal, and an address that maps IPv4 to IPv6 as that one.

    A host without an IPv4 address is returned as it is, in any format.
    """
    # As a resolver prepares a name (RFC 3490, 3.1): full-width digits and dots are those of ASCII.
    plain = unicodedata.normalize("NFKC", value).replace("\u3002", ".")
    bare = plain[1:-1] if plain.startswith("[") and plain.endswith("]") else plain
    head, colon, last = bare.rpartition(":")
    if not (IPV6 if colon else ENDS_IN_NUMBER).fullmatch(bare):
        return value
    if not colon or "." in last:
        numbers = [str(int(each)) for each in last.split(".")] if QUAD.fullmatch(last) else []
        if not numbers or max(map(int, numbers)) > 255:
            return Invalid(HOST_SENTENCE, (NUMBER_HINT,))
        last = ".".join(numbers)
    try:
        found = ipaddress.ip_address(head + colon + last)
    except ValueError:  # no IPv6 address; a host may have any format
        return value
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    if mapped:  # RFC 4291, 2.5.5.2: the IPv4 address itself, on a socket of both kinds
        return str(mapped)
    return value if bare == head + colon + last and bare in value else head + colon + last
