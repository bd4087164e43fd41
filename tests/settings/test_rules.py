"""Every rule of the SMTP tab: grids of good and bad, the sentences to the letter, and a second reading of the manual."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import Message
from device_ui.settings import rules
from device_ui.settings.rules import Invalid
from tests.helpers import oracle

HOST = "Please enter an SMTP host within 100 characters."
PORT = "Please enter an SMTP port between 1 and 49151."
SENDER_NAME = "Please enter a sender name."
ACCOUNT = "Please enter an SMTP account address in email format."
PASSWORD_LENGTH = "The SMTP account password does not meet the rules."
PASSWORD = "SMTP account password does not meet the rules."
FROM_ADDRESS = "Please enter a from address in email format."

LENGTH_HINT = "It must have 10 to 20 characters."
PROVIDER_LENGTH_HINT = "It must have 1 to 256 characters."
UPPER_HINT = "It needs an upper case letter."
LOWER_HINT = "It needs a lower case letter."
DIGIT_HINT = "It needs a digit."
SPECIAL_HINT = "It needs one of $!@%*#?&."
REPEATED_HINT = "Two equal characters are in a row."
SEQUENTIAL_HINT = "Three neighbours of the keyboard, the alphabet or the digits are in a row."
NUMBER_HINT = "An IPv4 address has four decimal numbers from 0 to 255, such as 192.0.2.25."
WIDTH_HINT = (
    "Please type it with the letters A to Z and the digits 0 to 9, none of them full-width or of another script."
)
ALL_HINTS = {
    *(LENGTH_HINT, PROVIDER_LENGTH_HINT, UPPER_HINT, LOWER_HINT, DIGIT_HINT, SPECIAL_HINT),
    *(REPEATED_HINT, SEQUENTIAL_HINT, NUMBER_HINT, WIDTH_HINT),
}
# The one hint that names a character: one that cannot be seen, by its place and name.
UNSEEN_HINT = re.compile(
    r"Character [0-9]+ cannot be seen: U\+[0-9A-F]{4,6}[A-Z0-9 ()-]*\. Please remove it, or type this again\."
)

# Unicode has no control characters (category Cc) but these 65, and never will have (The Unicode Standard, 4.5 and 23.1).
CONTROLS = [chr(point) for point in (*range(0x20), *range(0x7F, 0xA0))]
# Each rule, its sentence for a character that cannot be, and a text that it takes.
EVERY_RULE = [
    pytest.param(rules.host, HOST, "mail.example.com", id="host"),
    pytest.param(rules.port, PORT, "587", id="port"),
    pytest.param(rules.sender_name, SENDER_NAME, "Storage alarms", id="sender_name"),
    pytest.param(rules.account, ACCOUNT, "aaa@xxx.yyy", id="account"),
    pytest.param(rules.provider_account, ACCOUNT, "apikey", id="provider_account"),
    pytest.param(rules.address, ACCOUNT, "a.b@xxx.yyy", id="address"),
    pytest.param(rules.from_address, FROM_ADDRESS, "a.b@xxx.yyy", id="from_address"),
    pytest.param(rules.password, PASSWORD, "Kp7!vRw2#Z", id="password"),
    pytest.param(rules.provider_password, PASSWORD, "app pass word", id="provider_password"),
]
UNSTRIPPED = (rules.password, rules.provider_password)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=110)


def sentence(found: object) -> str | None:
    """What an operator is told, None when nothing is wrong."""
    return found.sentence if isinstance(found, Invalid) else None


def unseen(position: int, name: str) -> Message:
    """The hint for a character that cannot be seen."""
    sentence = "Character {position} cannot be seen: {name}. Please remove it, or type this again."
    return Message(sentence, position=position, name=name)


# The host and the sender's name: any format, 1 to 100 characters.

GOOD_TEXTS = [
    ("a", "a"),
    ("mail.tmail.com", "mail.tmail.com"),
    ("192.0.2.25", "192.0.2.25"),
    ("2001:db8::25", "2001:db8::25"),
    ("[2001:db8::25]", "[2001:db8::25]"),
    ("\ud55c\uba54\uc77c.\ud55c\uad6d", "\ud55c\uba54\uc77c.\ud55c\uad6d"),
    ("two words, 'quotes' \"and\" <tags> $(sh) %s {{}} \\n", "two words, 'quotes' \"and\" <tags> $(sh) %s {{}} \\n"),
    ("x" * 100, "x" * 100),
    ("\ud55c" * 100, "\ud55c" * 100),
    ("\U0001f4e7" * 100, "\U0001f4e7" * 100),
    ("e\u0301" * 50, "e\u0301" * 50),
    ("  mail  ", "mail"),
    ("\u3000\u00a0mail\u2003", "mail"),
    (" " * 50 + "x" * 100 + " " * 50, "x" * 100),
    ("a b", "a b"),
    ("\u200bmail\ufeff\t", "mail"),
]
BAD_TEXTS = [
    *("", " ", "\u3000\u00a0", "x" * 101, "\ud55c" * 101, "\U0001f4e7" * 101, "x" * 100_000),
    *(
        "mail.example.com\nRCPT TO:<x@y.z>",
        "mail\r\nBcc: x@y.z",
        "mail\n",
        "\nmail",
        "mail\r\n",
        "\r\n",
        "\t",
        "ma\til",
    ),
    *("mail\0", "\0", "mail\x7f", "\x80mail", "mail\x85", "\x1cmail\x1f", "mail\x0b", "mail \n ", "mail\ud800"),
]


@pytest.mark.parametrize(("text", "value"), GOOD_TEXTS)
@pytest.mark.parametrize("rule", [rules.host, rules.sender_name])
def test_any_format_of_1_to_100_characters_is_taken_without_the_blanks_around_it(rule, text, value):
    assert rule(text) == value


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_host_has_the_manuals_sentence(text):
    assert sentence(rules.host(text)) == "Please enter an SMTP host within 100 characters."


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_sender_name_has_the_manuals_sentence(text):
    assert sentence(rules.sender_name(text)) == "Please enter a sender name."


# The port.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1", 1), ("25", 25), ("465", 465), ("587", 587), ("49151", 49151), ("00025", 25), ("01", 1)),
        *((" 587\u3000", 587), ("\t25", 25), ("25\u200b", 25)),
    ],
)
def test_good_port_is_a_number(text, value):
    assert rules.port(text) == value
    assert type(rules.port(text)) is int


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "0", "00", "00000", "49152", "65535", "65536", "99999", "000025", "100000", "1" * 5000),
        *("+25", "-25", "25.0", "25.", "1e3", "0x19", "0b1", "2_5", "2,5", "2 5", "25L", "smtp", "NaN", "\u221e"),
        *("\u0662\u0665", "\uff12\uff15", "2\uff15", "\u00b2", "\u2460", "\U0001d7d8", "25\u0665", "\u2155"),
        *("25\n", "\n25", "25\r\n", "2\n5", "25\0", "2\t5", "25\x85", "\x1f25", "25\ud800", "2\u200b5"),
    ],
)
def test_bad_port_has_the_manuals_sentence(text):
    assert sentence(rules.port(text)) == "Please enter an SMTP port between 1 and 49151."


def test_every_port_of_the_manual_is_taken_and_no_other():
    assert [number for number in range(70_000) if rules.port(str(number)) == number] == list(range(1, 49152))


# The account, and the addresses that mail is sent from.

GOOD_ACCOUNTS = [
    *("aaa@xxx.yyy", "a@b.c", "alarm@mail.example.co.kr", "A9@X9.Y9", "0@0.0", "a@-.-", "a@x-.-y", "a@---.--"),
    *("!#$%&'+/=^_`{|}~?@xxx.yyy", "a" * 92 + "@xxx.yyy", "a@" + "x" * 95 + ".yy", "a@" + "b." * 48 + "yy"),
]
# Of an address that nobody logs in with, dots and hyphens may stand in `aaa`, too.
GOOD_ADDRESSES = [*GOOD_ACCOUNTS, "a.b@xxx.yyy", "a-b@xxx.yyy", ".a@xxx.yyy", "a.@xxx.yyy", "a..b@xxx.yyy", "-@xxx.yyy"]
BAD_ADDRESSES = [
    *(
        "",
        " ",
        "a",
        "@",
        "a@",
        "@xxx.yyy",
        "a@xxx",
        "a@.yyy",
        "a@xxx.",
        "a@.",
        "a@xxx..yyy",
        "a@.xxx.yyy",
        "a@xxx.yyy.",
    ),
    *(
        "a@@xxx.yyy",
        "a@b@xxx.yyy",
        "a@xxx@yyy",
        "a*b@xxx.yyy",
        'a"b@xxx.yyy',
        '"a"@xxx.yyy',
        "<a@xxx.yyy>",
        "a,b@xxx.yyy",
    ),
    *("a b@xxx.yyy", "a@xxx .yyy", "a@[192.0.2.1]", "a@xx_x.yyy", "a@xxx.y!y", "a:b@xxx.yyy", "a;b@xxx.yyy"),
    *("a\\b@xxx.yyy", "(a)@xxx.yyy", "a\u2019b@xxx.yyy", "\u00e9@xxx.yyy", "\ud55c@xxx.yyy", "a@\ud55c.yyy"),
    *("a@xxx.\ud55c", "\uff41@xxx.yyy", "\u212a@xxx.yyy", "a\uff20xxx.yyy", "a@xxx\u3002yyy", "a@xxx\u200b.yyy"),
    *("a@xxx.yyy\n", "\na@xxx.yyy", "a@xxx.yyy\r\nBcc: b@c.d", "a\0@xxx.yyy", "a@xxx\t.yyy", "a@xxx.yyy\x85"),
    *("a" * 93 + "@xxx.yyy", "a@" + "x" * 96 + ".yy", "mailto:a@xxx.yyy", "a@xxx.yyy, b@xxx.yyy", "a\ud800@xxx.yyy"),
]


@pytest.mark.parametrize("text", GOOD_ACCOUNTS)
def test_good_account_is_taken_as_it_is(text):
    assert rules.account(f" {text}\u3000") == text


@pytest.mark.parametrize("text", [*BAD_ADDRESSES, *sorted(set(GOOD_ADDRESSES) - set(GOOD_ACCOUNTS))])
def test_bad_account_has_the_manuals_sentence(text):
    assert sentence(rules.account(text)) == "Please enter an SMTP account address in email format."


def test_local_part_takes_the_manuals_characters_and_no_other_of_ascii():
    taken = "".join(chr(point) for point in range(128) if isinstance(rules.account(f"a{chr(point)}a@xxx.yyy"), str))
    assert taken == "!#$%&'+/0123456789=?ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz{|}~"


def test_domain_takes_letters_digits_hyphens_single_dots_and_no_other_of_ascii():
    taken = "".join(chr(point) for point in range(128) if isinstance(rules.account(f"a@x{chr(point)}x.yyy"), str))
    assert taken == "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("text", GOOD_ADDRESSES)
def test_good_address_is_taken_by_the_relays_account_and_by_the_from_address(text):
    assert rules.address(f" {text} ") == rules.from_address(f"\u00a0{text}") == text


@pytest.mark.parametrize("text", BAD_ADDRESSES)
def test_bad_address_has_the_sentence_of_its_field(text):
    assert sentence(rules.address(text)) == "Please enter an SMTP account address in email format."
    assert sentence(rules.from_address(text)) == "Please enter a from address in email format."


@pytest.mark.parametrize(
    "text", ["a", "apikey", "first.last@mail.example.com", "DOMAIN\\user", "\ud55c\uae00", "x" * 256]
)
def test_good_provider_login_is_taken_without_the_blanks_around_it(text):
    assert rules.provider_account(f" {text} ") == text


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        *((text, ()) for text in ("", " ", "\t", "x" * 257)),
        ("a\nb", (unseen(2, "U+000A LF"),)),
        ("a\0", (unseen(2, "U+0000 NUL"),)),
        ("a\ud800", (unseen(2, "U+D800"),)),
        ("\ufeffa\u00adb", (unseen(3, "U+00AD SOFT HYPHEN"),)),
        ("a\u2028b", (unseen(2, "U+2028 LINE SEPARATOR"),)),
        ("a\u00a0b", (unseen(2, "U+00A0 NO-BREAK SPACE"),)),
        ("\ue000", (unseen(1, "U+E000"),)),
    ],
)
def test_bad_provider_login_has_the_accounts_sentence(text, hints):
    assert rules.provider_account(text) == Invalid("Please enter an SMTP account address in email format.", hints)


# The password by the manual's rules.

GOOD_PASSWORDS = [
    *("Kp7!vRw2#Z", "Kp7!vRw2#Zt9Lm4$Qx8&", "aA1!aA1!aA", "pW5$ pW5$ ", " Kp7!vRw2#", "Kp7!vRw2#\ud55c\uae00"),
    *(
        "Kp7!" + "\U0001f4e7\U0001f600" * 8,
        "Kp7!" + "e\u0301" * 3,
        "Kp7!^-_=+.,;:",
        "Kp7!vRw2\u00e9e\u0301",
        "Kp7!vRwaA#",
    ),
    # Two neighbours are in half of all words; and what only looks like three of them.
    *("We7!We7!We7!", "Kp1!2vRw2#", "Kp7!aBd9vR", "Kp7!1@3vRw", "Kp7!9-0vRw", "Kp7!yzaRwt", "Kp7!901vRw", "Kp7!p[}vRw"),
    *("Kp7!qazvRw", "Kp7!135vRw", "Kp7!qwqvRw", "Kp7!`!2vRw", "Kp7!j\u212alRwt", "Kp7!\u0131opRwt", "Kp7!=`1Rwt"),
]
TOO_SHORT_OR_LONG = [
    "",
    " ",
    "a",
    "Kp7!vRw2#",
    "Kp7!vRw2#Zt9Lm4$Qx8&V",
    "\U0001f4e7" * 9,
    "aa",
    "\n",
    "Kp7!vRw2#" * 9999,
]
SEQUENCES = [
    *("qwe", "lkj", "zxc", "123", "098", "!@#", "abc", "012", "QWE", "qWe", "cBa", "ZYX", "xyz", "890", "90-", "0-="),
    *("`12", "21`", "op[", "p[]", "[]\\", "\\][", "kl;", "l;'", "m,.", ",./", "~!@", "$%^", "(*&", ")_+", "P{}", "{}|"),
    *('L:"', "M<>", "<>?", "?><", "&*(", "rty", "uio", "asd", "ghj", "vbn", "789", "321", "210", "tuv", "mno", "_)("),
]


@pytest.mark.parametrize("text", GOOD_PASSWORDS)
def test_good_password_is_taken_to_the_last_blank(text):
    assert rules.password(text) == text


@pytest.mark.parametrize("text", TOO_SHORT_OR_LONG)
def test_password_of_another_length_has_the_sentence_with_the(text):
    found = rules.password(text)
    assert isinstance(found, Invalid)
    assert found.sentence == "The SMTP account password does not meet the rules."
    assert found.hints[0] == "It must have 10 to 20 characters."


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("kp7!vrw2#z", (UPPER_HINT,)),
        ("KP7!VRW2#Z", (LOWER_HINT,)),
        ("Kpt!vRwm#Z", (DIGIT_HINT,)),
        ("Kp7_vRw2-Z", (SPECIAL_HINT,)),
        # A likeness is of no kind: full width, accents, other scripts' digits, other signs.
        ("kp7!vrw2#\uff2b", (UPPER_HINT,)),
        ("kp7!vrw2#\u00c9", (UPPER_HINT,)),
        ("KP7!VRW2#\u00df", (LOWER_HINT,)),
        ("Kpt!vRwm#\u0667", (DIGIT_HINT,)),
        ("Kpt!vRwm#\u00b2", (DIGIT_HINT,)),
        ("Kp7_vRw2-\uff01", (SPECIAL_HINT,)),
        ("Kp7^vRw2(~", (SPECIAL_HINT,)),
        ("Kp7!vvRw2#", (REPEATED_HINT,)),
        ("Kp77!vRw2#", (REPEATED_HINT,)),
        ("Kp7!!vRw2#", (REPEATED_HINT,)),
        ("Kp7!vRw2  ", (REPEATED_HINT,)),
        ("Kp7!\ud55c\ud55cvRw2", (REPEATED_HINT,)),
        ("Kp7!\U0001f4e7\U0001f4e7vRw2", (REPEATED_HINT,)),
        ("KK7!vRw2#p", (REPEATED_HINT,)),
        ("Kp7!vRw2##", (REPEATED_HINT,)),
        ("Kp7!vRw2#\n", (unseen(10, "U+000A LF"),)),
        ("\x00Kp7!vRw2#", (unseen(1, "U+0000 NUL"),)),
        ("Kp7!\x7fvRw2#", (unseen(5, "U+007F"),)),
        ("Kp7!\x85vRw2#", (unseen(5, "U+0085"),)),
        ("Kp7!\ud800vRw2#", (unseen(5, "U+D800"),)),
        ("Kp7!\n\nvRw2#", (REPEATED_HINT, unseen(5, "U+000A LF"), unseen(6, "U+000A LF"))),
        ("aaaaaaaaaa", (UPPER_HINT, DIGIT_HINT, SPECIAL_HINT, REPEATED_HINT)),
        ("1234567890", (UPPER_HINT, LOWER_HINT, SPECIAL_HINT, SEQUENTIAL_HINT)),
        (
            "\t\t\t\t\t\t\t\t\t\t",
            (
                *(UPPER_HINT, LOWER_HINT, DIGIT_HINT, SPECIAL_HINT, REPEATED_HINT),
                *(unseen(position, "U+0009 TAB") for position in (1, 2, 3)),
            ),
        ),
    ],
)
def test_password_that_breaks_the_rules_has_the_sentence_without_the(text, hints):
    assert rules.password(text) == Invalid("SMTP account password does not meet the rules.", hints)


@pytest.mark.parametrize("piece", SEQUENCES)
@pytest.mark.parametrize("frame", ["{}Hv5!Kp8$s", "Hv5!K{}p8$s", "Hv5!Kp8$s{}"])
def test_three_neighbours_anywhere_break_the_password(frame, piece):
    expected = Invalid("SMTP account password does not meet the rules.", (SEQUENTIAL_HINT,))
    assert rules.password(frame.format(piece)) == expected


@pytest.mark.parametrize("line", oracle.LINES)
def test_every_three_neighbours_of_a_line_break_the_password_both_ways_in_either_case(line):
    expected = Invalid("SMTP account password does not meet the rules.", (SEQUENTIAL_HINT,))
    threes = [line[at : at + 3] for at in range(len(line) - 2)]
    for piece in {each[::way] for three in threes for each in (three.lower(), three.upper()) for way in (1, -1)}:
        assert rules.password(f"Hv5!Kp8$s\ud55c{piece}\ud55c") == expected, piece


@pytest.mark.parametrize("special", "$!@%*#?&")
def test_each_of_the_eight_special_characters_is_enough(special):
    assert rules.password(f"Kp7{special}vRw2mZ") == f"Kp7{special}vRw2mZ"


# Passwords of a provider.


@pytest.mark.parametrize("text", ["a", " ", "  aa  ", "abcd efgh ijkl mnop", "1234567890", "\ud55c" * 256, "SG.x_y-z"])
def test_good_provider_password_is_taken_as_it_is(text):
    assert rules.provider_password(text) == text


@pytest.mark.parametrize("text", ["", "x" * 257])
def test_provider_password_of_another_length_has_the_sentence_with_the(text):
    found = rules.provider_password(text)
    assert isinstance(found, Invalid)
    assert found.sentence == "The SMTP account password does not meet the rules."
    assert [str(hint) for hint in found.hints] == ["It must have 1 to 256 characters."]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a\nb", unseen(2, "U+000A LF")),
        ("a\0", unseen(2, "U+0000 NUL")),
        ("\x7f", unseen(1, "U+007F")),
        ("a\u200b", unseen(2, "U+200B ZERO WIDTH SPACE")),
        ("a\u00ad", unseen(2, "U+00AD SOFT HYPHEN")),
        ("\u2028", unseen(1, "U+2028 LINE SEPARATOR")),
        ("a\ud800", unseen(2, "U+D800")),
        ("\ufeffa", unseen(1, "U+FEFF ZERO WIDTH NO-BREAK SPACE")),
        ("a\u00a0", unseen(2, "U+00A0 NO-BREAK SPACE")),
    ],
)
def test_provider_password_that_cannot_be_seen_has_the_sentence_without_the(text, hint):
    assert rules.provider_password(text) == Invalid("SMTP account password does not meet the rules.", (hint,))


@pytest.mark.parametrize("text", ["", "Kp7!vRw2#Z", "\n"])
def test_password_for_a_relay_without_login_is_forgotten(text):
    assert rules.no_value(text) == ""


# What holds for every rule.


@pytest.mark.parametrize(("rule", "told", "good"), EVERY_RULE)
def test_every_control_character_anywhere_is_refused_with_the_fields_sentence(rule, told, good):
    assert len(CONTROLS) == 65
    texts = [good[:at] + each + good[at:] for each in CONTROLS for at in (0, 1, len(good) - 1, len(good))]
    # A tab at an end is a blank, but of a password.
    taken = [] if rule in UNSTRIPPED else ["\t" + good, good + "\t"]
    assert [text for text in texts if sentence(rule(text)) != told] == taken


@pytest.mark.parametrize(("rule", "told", "good"), EVERY_RULE)
@given(text=ANY_TEXT)
@settings(max_examples=60, deadline=None)
def test_no_text_breaks_a_rule_itself_and_a_value_is_a_value_again(rule, told, good, text):
    for each in (text, good + text, text + good):
        value = rule(each)
        assert isinstance(value, Invalid) or rule(str(value)) == value


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_blanks_around_a_value_change_nothing(text):
    for rule in (rules.host, rules.port, rules.sender_name, rules.account, rules.provider_account, rules.from_address):
        one, other = rule(f" \u3000\t{text}\u00a0\u200b "), rule(text)
        # The hints of a bad one have the positions of what was typed.
        assert sentence(one) == sentence(other)
        assert isinstance(one, Invalid) or one == other


@given(st.text(max_size=30))
@settings(max_examples=400, deadline=None)
def test_hints_are_fixed_sentences_and_so_quote_nothing_that_was_typed(text):
    for rule in (rules.password, rules.provider_password, rules.account, rules.provider_account, rules.host):
        found = rule(text)
        hints = () if isinstance(found, str) else map(str, found.hints)
        assert [hint for hint in hints if hint not in ALL_HINTS and not UNSEEN_HINT.fullmatch(hint)] == []


@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_host_and_sender_name_agree_with_the_manual_on_any_unicode(text, more):
    for each in (text, text + more):
        assert sentence(rules.host(each)) == oracle.host_sentence(each)
        assert sentence(rules.sender_name(each)) == oracle.sender_name_sentence(each)


# The second reading of the manual, on many inputs. The seed is fixed; tests/audit/test_rules.py has another and ten times as many.

SECOND_READING = [
    pytest.param(rules.account, oracle.account_sentence, oracle.account_inputs, 10_000, id="account"),
    pytest.param(rules.password, oracle.password_sentence, oracle.password_inputs, 10_000, id="password"),
    pytest.param(rules.port, oracle.port_sentence, oracle.port_inputs, 2_000, id="port"),
    pytest.param(rules.host, oracle.host_sentence, oracle.host_inputs, 2_000, id="host"),
    pytest.param(rules.sender_name, oracle.sender_name_sentence, oracle.host_inputs, 2_000, id="sender_name"),
]


def agree(rule, reading, inputs, count, seed):
    """Compare a rule with its second reading on `count` inputs."""
    told = {text: sentence(rule(text)) for text in inputs(Random(seed), count)}
    assert {text: found for text, found in told.items() if found != reading(text)} == {}
    # Neither side is rare, so that agreeing means something.
    taken = sum(found is None for found in told.values())
    assert 0.15 * len(told) < taken < 0.85 * len(told)
    assert len(told) > count / 3


@pytest.mark.parametrize(("rule", "reading", "inputs", "count"), SECOND_READING)
def test_rules_agree_with_a_second_reading_of_the_manual(rule, reading, inputs, count):
    agree(rule, reading, inputs, count, seed=2)
