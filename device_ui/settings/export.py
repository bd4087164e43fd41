"""The validated settings for a mailer of the maker's own, in three formats. Pure; a password is there only when given."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping

from device_ui.errors import DeviceUIError
from device_ui.settings.smtp import FIELDS, SmtpSettings

Values = Mapping[str, str | int]

# Bytes of a line that msmtp 1.8 reads (conf.c, LINEBUFSIZE less its ends); it refuses a file with a longer one.
MSMTP_LINE_MAXIMUM = 499


def values(settings: SmtpSettings, password: str | None = None) -> dict[str, str | int]:
    """Every field by its name, what follows from them, and ``password`` only when one is given."""
    found = {field.name: getattr(settings, field.name) for field in FIELDS if not field.secret}
    found |= {"connection": settings.connection, "mail_from": settings.mail_from}
    return found if password is None else found | {"password": password}


def to_json(values: Values) -> str:
    """One JSON object."""
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def to_env(values: Values) -> str:
    """Lines that a POSIX shell reads back with ``.``: ``DEVICE_UI_SMTP_HOST=mail.example.com``."""
    return "".join(f"DEVICE_UI_SMTP_{name.upper()}={shlex.quote(str(value))}\n" for name, value in values.items())


def to_msmtprc(values: Values) -> str:
    """A configuration for msmtp. It knows no escapes: one pair of quotes around a value is taken off, nothing else.

    Raises `DeviceUIError` for a value that is too long for it: it would refuse the file.
    """
    tls = values["connection"] != "none"
    lines = {
        "account": "device-ui",
        "host": _quoted(str(values["host"]).removeprefix("[").removesuffix("]")),
        "port": values["port"],
        "from": _quoted(values["mail_from"]),
        "tls": "on" if tls else "off",
        "tls_starttls": "on" if values["connection"] == "starttls" else "off",
        "tls_trust_file": "system" if tls else "",
        "auth": "off" if values["sign_in"] == "none" else "on",
        "user": "" if values["sign_in"] == "none" else _quoted(values["account"]),
        "password": _quoted(values["password"]) if "password" in values else "",
    }
    written = [_msmtp_line(name, value) for name, value in lines.items() if value != ""]
    return "\n".join([*written, "account default : device-ui"]) + "\n"


FORMATS: Mapping[str, Callable[[Values], str]] = {"json": to_json, "env": to_env, "msmtprc": to_msmtprc}


def _msmtp_line(name: str, value: str | int) -> str:
    line = f"{name} {value}"
    if len(line.encode()) > MSMTP_LINE_MAXIMUM:
        raise DeviceUIError(f"msmtp cannot take this {name}: its lines have {MSMTP_LINE_MAXIMUM} bytes at most")
    return line


def _quoted(value: str | int) -> str:
    return f'"{value}"'
