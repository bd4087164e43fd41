"""What the maker fixed: names, folders, limits, and which choices are locked. Read once when a process starts.

`device.toml` in the ``etc`` folder is the maker's file; every setting has a default, so that it may be missing. A
setting that is not in `SETTINGS` or not of its kind stops the start with one line (under systemd: until the file is right, see
`start`): a typing error in a lock must not open what the maker meant to close. Only the looks (``brand``) stop nothing: no
alarm waits for a colour.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_ui import paths
from device_ui.errors import MakerFile
from device_ui.i18n.translator import LANGUAGES
from device_ui.settings.fields import LOCKABLE

# sd_listen_fds(3): descriptors handed over by systemd start here.
SD_LISTEN_FDS_START = 3
# What the private key is called as a credential of systemd (systemd.exec, LoadCredentialEncrypted=), and the folder
# beside the maker's where one lies that was encrypted for this device.
CREDENTIAL, CREDENTIAL_STORE = "device-ui.private.key", "credstore.encrypted"

# Every setting of device.toml: its section and name, its default (which is also its kind), and what it does.
SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("device.name", "Storage appliance", "the device's name: in the page's heading and in every mail's subject"),
    ("device.model", "", "the model, told in every mail"),
    (
        "device.language",
        "en",
        "en or ko: the language of mails, and of pages whose browser asks for neither, unless somebody chose",
    ),
    ("device.serial", "", "the serial number, told in every mail"),
    ("brand.name", "", "the maker's or the brand's name, 40 characters at most: in the page's head and title"),
    ("brand.logo", "", "a file in ETC beside the name: SVG, PNG or WebP, 32 KiB at most"),
    ("brand.logo_dark", "", "another one for the dark; empty: the same"),
    ("brand.logo_text", "", "what the logo says, for whoever does not see it; empty: nothing but the name beside it"),
    (
        "brand.accent",
        "",
        "the colour of buttons and links, such as #175cd3, if it is strong enough; empty: the program's",
    ),
    ("brand.accent_dark", "", "the same in the dark, such as #8ab4ff"),
    ("locks.security", False, "keeps connection security at its default, auto"),
    ("locks.sign_in", False, "keeps the sign-in at its default, manual"),
    ("web.names", [], "names that the page is reached by, besides the host name, localhost and any IP address"),
    (
        "web.trusted_proxy",
        "",
        "the IP address of a TLS proxy whose X-Forwarded-For and -Proto are believed; at a Unix socket they always are",
    ),
    ("web.tests", 10, "test mails that may follow one another; one more every 30 s"),
    ("mail.helo_name", "", "the name said in EHLO; empty: the host name if it has a dot, else the address literal"),
    ("mail.ca_file", "", "certificates (PEM) trusted for the mail server besides the system's"),
    (
        "mail.digest_window",
        60,
        "seconds in which further events of a kind are gathered into one mail; 0: a mail for each event",
    ),
    ("mail.hourly_budget", 60, "mails an hour at most; what they hold back is in the next one"),
    ("mail.state_command", "", "a program that is run when the state of the mail path changes, for an LED or a relay"),
    ("mail.allow_loopback", False, "allows a mail server on the device itself"),
    ("ledger.rows", 100_000, "events that are kept; beyond it the oldest go, mailed infos first"),
    ("ledger.bytes", 32 * 1024 * 1024, "bytes that the ledger may hold, likewise"),
    ("ledger.reserve", 1024 * 1024, "bytes set aside so that events are still accepted when the disk is full"),
    ("users.web", "device-ui", "the user of the web process, who may ask the mail hook for its state"),
    ("users.mail", "device-mail", "the user of the mail hook, who alone can open the mail password"),
    ("users.event_group", "device-event", "the group whose members may raise events"),
)

# Whole numbers that make sense; a typing error must not turn a limit into none.
RANGES: Mapping[str, range] = {
    "web.tests": range(1, 1001),
    "mail.digest_window": range(3601),
    "mail.hourly_budget": range(2, 1_000_001),
    "ledger.rows": range(100, 10_000_001),
    "ledger.bytes": range(1024 * 1024, 2**40),
    "ledger.reserve": range(2**30),
}


# Words that make sense, likewise.
CHOICES: Mapping[str, tuple[str, ...]] = {"device.language": tuple(LANGUAGES)}

# As a Host header can tell it, and the certificate: labels joined by dots, 253 characters at most (RFC 1035, 2.3.4).
NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")

# How the names of the looks begin.
BRAND = "brand."
# What the pages alone read: where it is wrong it is left out and told (`Device.left_out`), and costs no alarm.
PAGES_ONLY = (BRAND, "web.names", "web.trusted_proxy")


@dataclass(frozen=True)
class Folders:
    """Where files live. `data` is flash; `run` is gone after a reboot; `etc` is the maker's and read only."""

    data: Path = Path(paths.DATA)
    run: Path = Path(paths.RUN)
    etc: Path = Path(paths.ETC)
    # The private key that systemd decrypted for this very process, if it did.
    credential: Path | None = None

    @property
    def settings(self) -> Path:
        """The SMTP tab's file: written by the web process, read by the hook."""
        return self.data / "settings" / "smtp.toml"

    @property
    def recipients(self) -> Path:
        """The list of recipients, beside it."""
        return self.data / "settings" / "recipients.toml"

    @property
    def administrator(self) -> Path:
        """The setup code or the administrator's password hash: for the web process alone."""
        return self.data / "web" / "administrator.toml"

    @property
    def private_key(self) -> Path:
        """The hook's private key, to be read: for the hook alone."""
        return self.credential or self.key_file

    @property
    def key_file(self) -> Path:
        """Where the hook keeps the private key that it makes, when it was given none."""
        return self.data / "mail" / "private.key"

    @property
    def stored_credential(self) -> Path | None:
        """The private key encrypted for this device, which systemd decrypts for the hook; None where there is none."""
        path = self.etc.parent / CREDENTIAL_STORE / CREDENTIAL
        return path if os.path.exists(path) else None

    @property
    def public_key(self) -> Path:
        """The hook's public key: for everybody."""
        return self.data / "public" / "mailhook.pub"

    @property
    def ledger(self) -> Path:
        """The ledger of events: for the hook alone."""
        return self.data / "mail" / "ledger.sqlite3"

    @property
    def tls(self) -> Path:
        """The folder of the device's TLS key and certificate: for root, who starts the proxy."""
        return self.data / "tls"

    @property
    def socket(self) -> Path:
        """The hook's Unix socket."""
        return self.run / paths.SOCKET

    @classmethod
    def find(cls, data: str | None, environment: Mapping[str, str]) -> Folders:
        """Those that `places.find` tells of, and the credential that systemd hands over."""
        credential = os.path.join(environment.get("CREDENTIALS_DIRECTORY", ""), CREDENTIAL)
        is_given = os.path.isabs(credential) and os.path.exists(credential)
        data_folder, run, etc = map(Path, paths.find(data, environment))
        return cls(data_folder, run, etc, Path(credential) if is_given else None)


@dataclass(frozen=True)
class Device:
    """One device: its `folders` and what `device.toml` says, by the names of `SETTINGS`.

    `left_out` is what it says wrongly of `PAGES_ONLY`.
    """

    folders: Folders
    settings: Mapping[str, Any]
    left_out: tuple[MakerFile, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    @property
    def name(self) -> str:
        """What the maker calls the device."""
        return str(self["device.name"])

    @property
    def guessable_names(self) -> tuple[str, ...]:
        """What the device is called by whoever guesses a password."""
        brand = (self["brand.name"], self["brand.logo_text"])
        return (self.name, self["device.model"], self["device.serial"], host_name(), *self["web.names"], *brand)

    @property
    def is_branded(self) -> bool:
        """Whether the maker says anything of the looks, right or wrong."""
        said = any(value for name, value in self.settings.items() if name.startswith(BRAND))
        return said or bool(self.left_out)

    @property
    def locked(self) -> frozenset[str]:
        """The names of the choices that the maker fixed."""
        return frozenset(name for name in LOCKABLE if self[f"locks.{name}"])

    def owner(self, user: str, group: str) -> tuple[int, int]:
        """The ids of two names of ``users``, -1 for what this system does not have: then the one who makes it keeps it."""
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(self[f"users.{user}"]).pw_uid, pwd.getpwnam(self[f"users.{group}"]).pw_gid
        return -1, -1

    def layout(self, process: str) -> list[tuple[Path, int, tuple[int, int]]]:
        """The folders that `process` (``web`` or ``mail``) makes: path, mode, owner; -1 for that of a folder which is there.

        Root makes everybody's: a console command on a new device must not leave half of them for nobody to make.
        """
        at = self.folders
        made = {
            "web": [(at.settings.parent, 0o2750, "web", "mail"), (at.administrator.parent, 0o700, "web", "web")],
            "mail": [(at.key_file.parent, 0o700, "mail", "mail"), (at.public_key.parent, 0o755, "mail", "mail")],
        }
        chosen = [*made["web"], *made["mail"]] if os.geteuid() == 0 else made[process]
        # To look a name up loads the system's name service, half a MiB that a process need not carry.
        return [
            (path, mode, (-1, -1) if path.is_dir() else self.owner(user, group)) for path, mode, user, group in chosen
        ]

    @classmethod
    def plain(cls, folders: Folders) -> Device:
        """A device whose maker changed nothing: enough for whoever only needs the socket."""
        return cls(folders, {name: default for name, default, _ in SETTINGS})

    @classmethod
    def load(cls, folders: Folders) -> Device:
        """Read ``device.toml``. Raises `MakerFile`, with the line where TOML itself is broken; never for the looks."""
        path = folders.etc / "device.toml"
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return cls.plain(folders)
        except OSError as error:
            raise MakerFile(path, os.strerror(error.errno or 0)) from error
        return cls(folders, *_checked(path, raw))


def host_name() -> str:
    """The system's own name, lower case, without asking the network."""
    return socket.gethostname().lower()


def is_activated(environment: Mapping[str, str]) -> bool:
    """Return whether systemd started this process for a socket that it holds."""
    return environment.get("LISTEN_PID") == str(os.getpid())


def notify_status(environment: Mapping[str, str], text: str) -> None:
    """Show one line in `systemctl status` (sd_notify(3)); without systemd do nothing."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.sendto(f"STATUS={text}".encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def listen_fds(environment: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd opened for this process (sd_listen_fds(3)); none when it was started by hand."""
    if not is_activated(environment):
        return []
    count = int(environment.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=SD_LISTEN_FDS_START + number) for number in range(count)]


def _checked(path: Path, raw: bytes) -> tuple[dict[str, Any], tuple[MakerFile, ...]]:
    # Imported here: most devices of a desk have no device.toml.
    from device_ui.storage.toml_file import tables

    try:
        sections = tables(raw.decode())
    except ValueError as error:
        raise MakerFile(path, str(error)) from error
    found = {
        f"{section}.{name}": value
        for section, entries in sections.items()
        for name, value in (entries.items() if isinstance(entries, dict) else [("", entries)])
    }
    defaults = {name: default for name, default, _ in SETTINGS}
    right, problems = dict(defaults), []
    for name, value in found.items():
        try:
            _check_one(path, name, value, defaults)
            right[name] = value
        except MakerFile as error:
            if not name.startswith(PAGES_ONLY):
                raise
            problems.append(error)
    return right, tuple(problems)


def _check_one(path: Path, name: str, value: Any, defaults: Mapping[str, Any]) -> None:
    if name not in defaults:
        raise MakerFile(path, f"{name.rstrip('.')} is no setting")
    kind = type(defaults[name])
    if type(value) is not kind or (kind is list and not all(isinstance(each, str) for each in value)):
        raise MakerFile(path, f"{name} must be {KINDS[kind]}")
    if kind is str and not value.isprintable():
        raise MakerFile(path, f"{name} must be printable")
    if value not in CHOICES.get(name, (value,)):
        raise MakerFile(path, f"{name} must be {' or '.join(CHOICES[name])}")
    if name == "web.names" and not all(map(NAME.fullmatch, value)):
        raise MakerFile(path, f"{name} must be names such as nas.example: no scheme, no port, no dot at the end")
    if name == "web.trusted_proxy" and value and not _is_address(value):
        raise MakerFile(path, f"{name} must be one IP address, as the system spells it")
    if kind is int and value not in RANGES[name]:
        raise MakerFile(path, f"{name} must be from {RANGES[name][0]} to {RANGES[name][-1]}")


def _is_address(text: str) -> bool:
    """Whether a peer could have this very address: it is compared as a text, and any other would never be believed."""
    host, _, _ = text.partition("%")  # the scope of a link-local one
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return socket.inet_ntop(family, socket.inet_pton(family, host)) == host
    return False


KINDS: Mapping[type, str] = {str: "a text", bool: "true or false", int: "a whole number", list: "a list of texts"}
