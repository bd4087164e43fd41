"""The rules of the fields: turn a typed text into a value, or into the sentence of the broken rule.

The manual (manual/smtp-tab.txt) is the source of each rule and of the six sentences, to the letter. Where it leaves a point
open, the decision is a constant with its reason. A rule takes the text as it was typed and returns the value or an `Invalid`;
it does no I/O and never raises.
"""

from __future__ import annotations

import re
import unicodedata
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
CHOICE_SENTENCE = "Please choose one of the values listed."

# "Characters" are Unicode code points after stripping, as a person and len() count them.
TEXT_MAXIMUM = 100
PORT_MAXIMUM = 49151
# Five digits are enough for any port; a longer text could only cost the parser time.
PORT_PATTERN = re.compile(r"[0-9]{1,5}")
# A provider's credentials follow the provider's rules, not the manual's; 256 is more than the longest known API key.
PROVIDER_MAXIMUM = 256

# The manual lists exactly these for `aaa`: no dot, no hyphen, no asterisk.
LOCAL_PART = r"[A-Za-z0-9!#$%&'+/=^_`{|}~?]+"
# A from address may have dots, as the addresses of providers do.
DOTTED_LOCAL_PART = r"[A-Za-z0-9!#$%&'+/=^_`{|}~?.-]+"
# Two labels or more, so that user@mail.example.co.kr passes; single dots.
DOMAIN = r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
ACCOUNT_PATTERN = re.compile(f"{LOCAL_PART}@{DOMAIN}")
ADDRESS_PATTERN = re.compile(f"{DOTTED_LOCAL_PART}@{DOMAIN}")

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


INVISIBLE_HINT = "It holds a character that cannot be seen, perhaps from copying: please type it."


@dataclass(frozen=True)
class PasswordRule:
    """One rule of the manual's password: its `label` in the page's list, and the `hint` when it is broken.

    `pattern` must be found in the password, or, when `forbidden`, must not be. The browser ticks the same rows off with
    the same patterns while one types, so each means the same to `re` (DOTALL) and to RegExp (flags s and u). The rule
    without one forbids neighbours in `SEQUENCES`.
    """

    label: str
    hint: str
    pattern: str = ""
    forbidden: bool = False

    def holds(self, text: str) -> bool:
        """Whether this password keeps the rule."""
        found = re.search(self.pattern, text, re.DOTALL) if self.pattern else is_sequential(text)
        return bool(found) != self.forbidden


# Upper case, lower case and digit are the English ones, as in the manual's account rule; any other character is allowed
# and counts as none of them. "Should not be entered consecutively" gives no number, so two equal characters in a row are
# already too many. The last rule is Cc and Cs in numbers, which RegExp and `re` both read.
PASSWORD_RULES = (
    PasswordRule("10 to 20 characters", "It must have 10 to 20 characters.", r"^.{10,20}(?!.)"),
    PasswordRule("an upper case letter", "It needs an upper case letter.", "[A-Z]"),
    PasswordRule("a lower case letter", "It needs a lower case letter.", "[a-z]"),
    PasswordRule("a digit", "It needs a digit.", "[0-9]"),
    PasswordRule("one of $ ! @ % * # ? &", "It needs one of $!@%*#?&.", "[$!@%*#?&]"),
    PasswordRule("no character twice in a row", "Two equal characters stand in a row.", r"(.)\1", forbidden=True),
    PasswordRule(
        "no three neighbours, such as qwe, 321 or abc",
        "Three neighbours of the keyboard, the alphabet or the digits stand in a row.",
        forbidden=True,
    ),
    PasswordRule("no invisible character", INVISIBLE_HINT, r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", forbidden=True),
)


def host(text: str) -> str | Invalid:
    """A name or address of 1 to 100 characters in any format."""
    return _text(text, TEXT_MAXIMUM, HOST_SENTENCE)


def sender_name(text: str) -> str | Invalid:
    """A name of 1 to 100 characters in any format."""
    return _text(text, TEXT_MAXIMUM, SENDER_NAME_SENTENCE)


def port(text: str) -> int | Invalid:
    """A port from 1 to 49151, of one to five ASCII digits; leading zeros are dropped."""
    stripped = _stripped(text)
    if stripped is None or not PORT_PATTERN.fullmatch(stripped) or not 1 <= int(stripped) <= PORT_MAXIMUM:
        return Invalid(PORT_SENTENCE)
    return int(stripped)


def account(text: str) -> str | Invalid:
    """A login in the manual's e-mail format ``aaa@xxx.yyy``, 1 to 100 characters."""
    return _matching(text, ACCOUNT_PATTERN, ACCOUNT_SENTENCE)


def address(text: str) -> str | Invalid:
    """The account rule with dots and hyphens in the local part too: for a relay without login."""
    return _matching(text, ADDRESS_PATTERN, ACCOUNT_SENTENCE)


def from_address(text: str) -> str | Invalid:
    """The rule of the from address: the same address with its own sentence."""
    return _matching(text, ADDRESS_PATTERN, FROM_ADDRESS_SENTENCE)


def provider_account(text: str) -> str | Invalid:
    """A login issued by a mail provider: 1 to 256 printable characters."""
    value = _text(text, PROVIDER_MAXIMUM, ACCOUNT_SENTENCE)
    if isinstance(value, str) and not value.isprintable():
        return Invalid(ACCOUNT_SENTENCE, (INVISIBLE_HINT,))
    return value


def password(text: str) -> str | Invalid:
    """The manual's password: 10 to 20 characters, four kinds, nothing repeated, nothing sequential.

    A wrong length has the sentence with "The"; the other rules share the one without.
    """
    length, *others = PASSWORD_RULES
    if not length.holds(text):
        return Invalid(PASSWORD_LENGTH_SENTENCE, (length.hint,))
    hints = tuple(rule.hint for rule in others if not rule.holds(text))
    return Invalid(PASSWORD_SENTENCE, hints) if hints else text


def provider_password(text: str) -> str | Invalid:
    """A password issued by a mail provider: 1 to 256 printable characters, unchanged."""
    if not 1 <= len(text) <= PROVIDER_MAXIMUM:
        return Invalid(
            PASSWORD_LENGTH_SENTENCE, (Message("It must have 1 to {maximum} characters.", maximum=PROVIDER_MAXIMUM),)
        )
    return text if text.isprintable() else Invalid(PASSWORD_SENTENCE, (INVISIBLE_HINT,))


def no_value(_text: str) -> str:
    """The rule of a field that this sign-in does not need: drop the typed text."""
    return ""


def has_control(text: str) -> bool:
    """Return whether a text has a control character (Cc: CR, LF, NUL, tab) or a lone surrogate (Cs), which is no character.

    In a field they can only be an attack on a header or a file.
    """
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _stripped(text: str) -> str | None:
    # Before stripping: str.strip() would hide a trailing CR LF.
    return None if has_control(text) else text.strip()


def _text(text: str, maximum: int, sentence: str) -> str | Invalid:
    value = _stripped(text)
    return value if value is not None and 1 <= len(value) <= maximum else Invalid(sentence)


def _matching(text: str, pattern: re.Pattern[str], sentence: str) -> str | Invalid:
    value = _text(text, TEXT_MAXIMUM, sentence)
    return value if isinstance(value, Invalid) or pattern.fullmatch(value) else Invalid(sentence)


def is_sequential(text: str) -> bool:
    """Return whether a text has three neighbours of a row of `SEQUENCES`, forwards or backwards, without case."""
    lowered = text.translate(LOWER)
    runs = [lowered[start : start + SEQUENCE_LENGTH] for start in range(len(lowered) - SEQUENCE_LENGTH + 1)]
    return any(run in row or run[::-1] in row for run in runs for row in SEQUENCES)
