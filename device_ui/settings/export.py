"""The validated settings for a mailer of the maker, in three formats; with the password only when it is given. Pure.

A value that does not fit into its line is an error and is never changed: root passes these lines to a shell and to msmtp, which
both run commands in them.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Mapping

from device_ui.errors import DeviceUIError
from device_ui.settings.fields import FIELDS, SmtpSettings
from device_ui.settings.trust_rules import TRUSTS

Values = Mapping[str, str | int]

# Bytes of a line that msmtp 1.8 reads (conf.c, LINEBUFSIZE less its ends); it refuses a file with a longer one.
MSMTP_LINE_MAXIMUM = 499
# What msmtp 1.8 replaces in an address of `from`, with no way to escape it (msmtp(1)): user, host, mail name.
MSMTP_REPLACED = re.compile("%[UHCM]")
# What prints an access token, to the mail hook's user and root.
TOKEN_COMMAND = "device-ui token"
# Unicode Bidirectional Algorithm (UAX #9), 2: characters that show a text in an order that is not its own.
DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def values(settings: SmtpSettings, password: str | None = None) -> dict[str, str | int]:
    """Return each field by its name, the derived ``connection`` and ``mail_from``, and ``password`` when it is given.

    The fields of OAuth 2.0 and of a trust are there with these choices only. Raises `DeviceUIError` for a value that is not one
    line; an authority's PEM has several.
    """
    names = [field.name for field in FIELDS if not field.secret]
    values = {name: getattr(settings, name) for name in names if settings.sign_in == "oauth" or name[:6] != "oauth_"}
    if settings.trust == TRUSTS[0]:
        values = {name: value for name, value in values.items() if name[:5] != "trust"}
    values |= {"connection": settings.connection, "mail_from": settings.mail_from}
    values |= {} if password is None else {"password": password}
    for name, value in values.items():
        if not _is_line(name, str(value)):
            raise DeviceUIError(f"{name} holds a character that cannot be seen; type it again on the page")
    return values


def to_json(values: Values) -> str:
    """Return one JSON object."""
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def to_env(values: Values) -> str:
    """Return lines that a POSIX shell reads with ``.``: ``DEVICE_UI_SMTP_HOST=mail.example.com``."""
    # Quoted by shlex: a value is no part of a command, whatever it holds.
    return "".join(f"DEVICE_UI_SMTP_{name.upper()}={shlex.quote(str(value))}\n" for name, value in values.items())


def to_msmtprc(values: Values) -> str:
    """Return a configuration for msmtp. It has no escapes: it removes one pair of quotes around a value, nothing else.

    Raises `DeviceUIError` for a value that msmtp would refuse for its length or replace with a different one, and for a trust that
    it cannot have.
    """
    # Refused, not changed: mail would be sent from a different address than the page shows.
    if MSMTP_REPLACED.search(str(values["mail_from"])):
        raise DeviceUIError("msmtp cannot take this from: it replaces %U, %H, %C and %M in it")
    # Not left out: msmtp would verify by the system's authorities instead, and refuse the server or, worse, accept a different one.
    # Its own fingerprints are those of a certificate, which do not outlive a renewal, and an authority has to be a file.
    if "trust" in values:
        raise DeviceUIError("msmtp can trust neither a key nor an authority that is not a file; read the format json")
    # "auto" is resolved already (`SmtpSettings.connection`): msmtp has no such word.
    tls, sign_in = values["connection"] != "none", values["sign_in"]
    # msmtp 1.8 sends a token of any length by xoauth2 alone: with oauthbearer a long one fails.
    auth = {"none": "off", "oauth": "xoauth2"}.get(str(sign_in), "on")
    lines = {
        "account": "device-ui",
        # An IPv6 address may be typed in brackets; msmtp takes it without.
        "host": _quoted(str(values["host"]).removeprefix("[").removesuffix("]")),
        "port": values["port"],
        "from": _quoted(values["mail_from"]),
        "tls": "on" if tls else "off",
        "tls_starttls": "on" if values["connection"] == "starttls" else "off",
        "tls_trust_file": "system" if tls else "",
        "auth": auth,
        "user": "" if sign_in == "none" else _quoted(values["account"]),
        "passwordeval": _quoted(TOKEN_COMMAND) if sign_in == "oauth" else "",
        "password": _quoted(values["password"]) if "password" in values and sign_in != "oauth" else "",
    }
    # A line without a value is left out: msmtp would refuse the file.
    written = [_msmtp_line(name, value) for name, value in lines.items() if value != ""]
    return "\n".join([*written, "account default : device-ui"]) + "\n"


FORMATS: Mapping[str, Callable[[Values], str]] = {"json": to_json, "env": to_env, "msmtprc": to_msmtprc}


def _msmtp_line(name: str, value: str | int) -> str:
    line = f"{name} {value}"
    if len(line.encode()) > MSMTP_LINE_MAXIMUM:
        raise DeviceUIError(f"msmtp cannot take this {name}: its lines have {MSMTP_LINE_MAXIMUM} bytes at most")
    return line


def _is_line(name: str, value: str) -> bool:
    """Return whether a value is printable; a sender name may hold wide blanks and what joins an emoji."""
    hidden = [each for each in value if not each.isprintable()]
    if name == "trust_ca":  # its rule allows nothing but PEM (RFC 7468)
        return set(hidden) <= {"\n"}
    if name != "sender_name":
        return not hidden
    return all(
        unicodedata.category(each) in ("Zs", "Cf") and unicodedata.bidirectional(each) not in DIRECTIONS
        for each in hidden
    )


def _quoted(value: str | int) -> str:
    return f'"{value}"'
