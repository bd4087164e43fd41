"""The maker's configuration: names, folders, limits and locked choices. Read once when a process starts.

The maker's file is ``device.toml`` in the ``etc`` folder. It may be missing, since every setting has a default. A setting that
is not in `SETTINGS`, or not of its kind, stops the start with one line (under systemd until the file is right, see
`cli.launch`): a typing error in a lock must not unlock what the maker meant to lock. Only settings of the pages
(`PAGES_ONLY`) stop nothing, since no event must wait for a colour.
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

from device_ui import maker_file, paths
from device_ui.errors import MakerFile
from device_ui.i18n.translator import LANGUAGES
from device_ui.settings.fields import LOCKABLE, SECURITIES, SECURITY_WORDS, SIGN_IN_WORDS, SIGN_INS
from device_ui.settings.notifications import NOTIFICATIONS_FILE
from device_ui.settings.oauth_rules import GRANT_WORDS, PROVIDER_WORDS
from device_ui.settings.rules import HOST_NAME_PATTERN
from device_ui.settings.trust_rules import TRUST_WORDS

# sd_listen_fds(3): descriptors handed over by systemd start here.
SD_LISTEN_FDS_START = 3
# The name of the private key as a credential of systemd (systemd.exec, LoadCredentialEncrypted=), and the folder beside
# the maker's for one that was encrypted for this device.
CREDENTIAL, CREDENTIAL_STORE = "device-ui.private.key", "credstore.encrypted"

# One table for the reader, the defaults and docs/configuration.md, so that none of them can lack a setting.
# Every setting of device.toml: section and name, default (its type is the setting's), effect.
SETTINGS: tuple[tuple[str, Any, str], ...] = (
    ("device.name", "Storage appliance", "the device's name, in the head of each page and in each mail's subject"),
    ("device.model", "", "the model, in each mail"),
    (
        "device.language",
        "en",
        "en or ko: the language of mails, and of pages for a browser that asks for neither, unless one was chosen",
    ),
    ("device.serial", "", "the serial number, in each mail"),
    ("brand.name", "", "the maker's or the brand's name, 40 characters at most, in the head and title of each page"),
    ("brand.logo", "", "a file in ETC, shown beside the name: SVG, PNG or WebP, 32 KiB at most"),
    ("brand.logo_dark", "", "the logo for dark mode; empty: the same"),
    ("brand.logo_text", "", "the text of the logo, for those who do not see it; empty: only the name beside it"),
    (
        "brand.accent",
        "",
        "the colour of buttons and links, such as #175cd3, with enough contrast; empty: the program's",
    ),
    ("brand.accent_dark", "", "the same in dark mode, such as #8ab4ff"),
    ("locks.security", False, f"keeps the connection security at its default, “{SECURITY_WORDS[SECURITIES[0]]}”"),
    ("locks.sign_in", False, f"keeps the sign-in at its default, “{SIGN_IN_WORDS[SIGN_INS[0]]}”"),
    ("locks.trust", False, f"keeps the trust at its default, “{next(iter(TRUST_WORDS.values()))}”"),
    (
        "locks.oauth_provider",
        False,
        f"keeps the provider of OAuth 2.0 at its default, “{next(iter(PROVIDER_WORDS.values()))}”",
    ),
    ("locks.oauth_grant", False, f"keeps the grant of OAuth 2.0 at its default, “{next(iter(GRANT_WORDS.values()))}”"),
    (
        "oauth.microsoft_login",
        "login.microsoftonline.com",
        "the host of Microsoft's sign-in, for a national cloud: login.microsoftonline.us, login.partner.microsoftonline.cn",
    ),
    ("web.names", [], "host names of the page, besides the device's host name, localhost and any IP address"),
    (
        "web.url",
        "",
        "the address of the pages for links in mails, such as https://nas.example; empty: https:// and the first of web.names, "
        "else the device's IP address",
    ),
    (
        "web.trusted_proxy",
        "",
        "the IP address of a TLS proxy whose X-Forwarded-For and -Proto are trusted; at a Unix socket they always are",
    ),
    ("web.tests", 10, "test mails at once; one more every 30 s"),
    ("mail.helo_name", "", "the name in EHLO; empty: the host name if it has a dot, else the address literal"),
    ("mail.ca_file", "", "a file of certificates (PEM) to trust for the mail server, besides the system's"),
    (
        "mail.digest_window",
        60,
        "seconds in which further events of a kind are collected into one mail; 0: a mail for each event",
    ),
    ("mail.hourly_budget", 60, "mails an hour at most; delayed events are in the next mail"),
    ("mail.high_importance", False, "marks mails about faults with Importance: high"),
    (
        "mail.start_spread",
        20,
        "seconds over which the devices of one site spread their first mail after a power cut: the mail hook waits a random "
        "part of it; one second for each 20 devices",
    ),
    ("mail.state_command", "", "a program to run when the state of the mail path changes, for an LED or a relay"),
    ("mail.forward_command", "", "a program that gets every event as JSON lines, for MQTT, NATS, syslog or a webhook"),
    ("mail.forward_outcomes", False, "hands over what became of each event's mail, too"),
    ("mail.allow_loopback", False, "allows a mail server on the device itself"),
    ("ledger.rows", 100_000, "events to keep; beyond that the oldest are removed, mailed infos first"),
    ("ledger.bytes", 32 * 1024 * 1024, "bytes of the database, likewise"),
    ("ledger.reserve", 1024 * 1024, "bytes to reserve, so that events are still accepted when the disk is full"),
    (
        "apply.first",
        False,
        "applies ETC/first.toml once, at the first start; the file may be a link to a boot partition or a USB stick",
    ),
    ("users.web", "device-ui", "the user of the web process, which may ask the mail hook for its state"),
    ("users.mail", "device-mail", "the user of the mail hook, which alone can unseal the mail password"),
    ("users.event_group", "device-event", "the group whose members may raise events"),
)

# The range of each whole number: a typing error must not remove a limit.
RANGES: Mapping[str, range] = {
    "web.tests": range(1, 1001),
    "mail.digest_window": range(3601),
    "mail.hourly_budget": range(2, 1_000_001),
    "mail.start_spread": range(601),
    "ledger.rows": range(100, 10_000_001),
    "ledger.bytes": range(1024 * 1024, 2**40),
    "ledger.reserve": range(2**30),
}
# The values of a setting that has a choice.
CHOICES: Mapping[str, tuple[str, ...]] = {"device.language": tuple(LANGUAGES)}

# A host name, with a port if it is not 443.
LOGIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?")

BRAND = "brand."
# Settings that only the pages read. A wrong value is not used and is in `Device.left_out`; it delays no event.
PAGES_ONLY = (BRAND, "web.names", "web.url", "web.trusted_proxy")
# An address that a mail can link to: the scheme, a name or an IP address, a port.
URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?")


@dataclass(frozen=True)
class Folders:
    """The folders: `data` on flash, `run` in memory until a reboot, and `etc`, which the maker writes."""

    data: Path = Path(paths.DATA)
    run: Path = Path(paths.RUN)
    etc: Path = Path(paths.ETC)
    # The private key, if systemd decrypted it for this process.
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
    def notifications(self) -> Path:
        """What is mailed, and when; beside them."""
        return self.settings.with_name(NOTIFICATIONS_FILE)

    @property
    def names(self) -> Path:
        """The names that an administrator added; only the web process reads it."""
        return self.data / "settings" / "names.toml"

    @property
    def administrator(self) -> Path:
        """The setup code or the hash of the administrator's password; only the web process can open it."""
        return self.data / "web" / "administrator.toml"

    @property
    def first(self) -> Path:
        """The document that is applied once, at the first start."""
        return self.etc / "first.toml"

    @property
    def first_applied(self) -> Path:
        """The file that says that it was."""
        return self.settings.with_name("first-applied")

    @property
    def metrics_token(self) -> Path:
        """The hash of the token for /metrics; only the web process can open it."""
        return self.administrator.with_name("metrics.toml")

    @property
    def private_key(self) -> Path:
        """The file to read the private key from; only the hook can open it."""
        # The unit asks for the credential by name alone, so systemd starts the hook without one, too.
        return self.credential or self.key_file

    @property
    def key_file(self) -> Path:
        """The file of the private key that the hook makes when systemd gives it none."""
        return self.data / "mail" / "private.key"

    @property
    def stored_credential(self) -> Path | None:
        """The private key encrypted for this device, which systemd decrypts for the hook; None when there is none."""
        path = self.etc.parent / CREDENTIAL_STORE / CREDENTIAL
        return path if os.path.exists(path) else None

    @property
    def sign_in(self) -> Path:
        """The tokens of a sign-in by OAuth 2.0, sealed; only the hook can open the file."""
        return self.data / "mail" / "sign-in.toml"

    @property
    def sign_in_key(self) -> Path:
        """The RSA key of such a sign-in, sealed, and its certificate; likewise."""
        return self.data / "mail" / "sign-in-key.toml"

    @property
    def public_key(self) -> Path:
        """The hook's public key; every user can read it."""
        return self.data / "public" / "mailhook.pub"

    @property
    def ledger(self) -> Path:
        """The database of events; only the hook can open it."""
        return self.data / "mail" / "ledger.sqlite3"

    @property
    def tls(self) -> Path:
        """The folder of the device's TLS key and certificate; only root can open it."""
        # A proxy such as nginx reads the key as root, before it drops its privileges.
        return self.data / "tls"

    @property
    def socket(self) -> Path:
        """The hook's Unix socket."""
        return self.run / paths.SOCKET

    @classmethod
    def find(cls, data: str | None, environment: Mapping[str, str]) -> Folders:
        """Return the folders of `paths.find`, and the credential that systemd passes to this process."""
        credential = os.path.join(environment.get("CREDENTIALS_DIRECTORY", ""), CREDENTIAL)
        # Relative without systemd: the variable is not set then, and the name alone is no path.
        is_given = os.path.isabs(credential) and os.path.exists(credential)
        data_folder, run, etc = map(Path, paths.find(data, environment))
        return cls(data_folder, run, etc, Path(credential) if is_given else None)


@dataclass(frozen=True)
class Device:
    """One device: its `folders`, and the settings of ``device.toml`` by the names of `SETTINGS`.

    `left_out` has the errors of settings that are not used (`PAGES_ONLY`).
    """

    folders: Folders
    settings: Mapping[str, Any]
    left_out: tuple[MakerFile, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    @property
    def name(self) -> str:
        """The name that the maker gave the device."""
        return str(self["device.name"])

    @property
    def pages_url(self) -> str:
        """The address of the pages for links in mails; ``""`` when only the device's IP address is known."""
        names = self["web.names"]
        return str(self["web.url"] or (f"https://{names[0]}" if names else ""))

    @property
    def guessable_names(self) -> tuple[str, ...]:
        """The names that a guesser of the administrator's password would try (OWASP ASVS 5.0, 6.2.11)."""
        brand = (self["brand.name"], self["brand.logo_text"])
        return (self.name, self["device.model"], self["device.serial"], host_name(), *self["web.names"], *brand)

    @property
    def is_branded(self) -> bool:
        """Whether the maker set any ``brand`` setting, right or wrong."""
        is_set = any(value for name, value in self.settings.items() if name.startswith(BRAND))
        return is_set or bool(self.left_out)

    @property
    def locked(self) -> frozenset[str]:
        """The names of the choices that the maker fixed."""
        return frozenset(name for name in LOCKABLE if self[f"locks.{name}"])

    def owner(self, user: str, group: str) -> tuple[int, int]:
        """Return the ids of two names of ``users``; -1, which keeps the owner, for a name that this system does not have."""
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(self[f"users.{user}"]).pw_uid, pwd.getpwnam(self[f"users.{group}"]).pw_gid
        return -1, -1

    def layout(self, process: str) -> list[tuple[Path, int, tuple[int, int]]]:
        """Return the folders that `process` (``web`` or ``mail``) makes: path, mode, owner (-1 for one that exists).

        Root makes those of both: after a console command on a new device each process must find its own.
        """
        made = self.folder_owners()
        # A process makes only its own folders; it has no right to set the owner of the others.
        chosen = [*made["web"], *made["mail"]] if os.geteuid() == 0 else made[process]
        # Looking a name up loads the system's name service, half a MiB; so only for a folder that is missing.
        return [
            (path, mode, (-1, -1) if path.is_dir() else self.owner(user, group)) for path, mode, user, group in chosen
        ]

    def folder_owners(self) -> dict[str, list[tuple[Path, int, str, str]]]:
        """Return the folders of each process: path, mode, and the names of ``users`` (user, group) that own it."""
        at = self.folders
        # 2750: a file of the web process belongs to the hook's group, so that the hook can read it. 700: no other user can
        # open the folder, and so none can hold a lock on it (`storage.files`).
        return {
            "web": [(at.settings.parent, 0o2750, "web", "mail"), (at.administrator.parent, 0o700, "web", "web")],
            "mail": [(at.key_file.parent, 0o700, "mail", "mail"), (at.public_key.parent, 0o755, "mail", "mail")],
        }

    @classmethod
    def plain(cls, folders: Folders) -> Device:
        """Return a device with the defaults of every setting: enough for a command that only needs the socket."""
        return cls(folders, {name: default for name, default, _ in SETTINGS})

    @classmethod
    def load(cls, folders: Folders) -> Device:
        """Read ``device.toml``. Raises `MakerFile`, but not for a wrong setting of `PAGES_ONLY`."""
        path = folders.etc / "device.toml"
        sections = maker_file.load(path)
        return cls.plain(folders) if sections is None else cls(folders, *_checked(path, sections))


def host_name() -> str:
    """Return the host name in lower case, without a query to the network."""
    return socket.gethostname().lower()


def is_activated(environment: Mapping[str, str]) -> bool:
    """Return whether systemd started this process for a socket that it holds."""
    # A child that inherits the variables must not take the sockets for its own (sd_listen_fds(3)).
    return environment.get("LISTEN_PID") == str(os.getpid())


def notify_status(environment: Mapping[str, str], text: str) -> None:
    """Show one line in `systemctl status` (sd_notify(3)); without systemd do nothing."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            # An abstract socket has a NUL byte in front, which systemd writes as @ (unix(7)).
            sock.sendto(f"STATUS={text}".encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def listen_fds(environment: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd opened for this process (sd_listen_fds(3)); none when it was started by hand."""
    if not is_activated(environment):
        return []
    count = int(environment.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=SD_LISTEN_FDS_START + number) for number in range(count)]


def _checked(path: Path, sections: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[MakerFile, ...]]:
    # A value outside a section gets an empty second name, which is no setting.
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
        # Not ignored: a mistyped name of a lock would leave open what the maker meant to lock.
        raise MakerFile(path, f"{name.rstrip('.')} is no setting")
    kind = type(defaults[name])
    # Not isinstance: True is an int, and would pass for the number 1.
    if type(value) is not kind or (kind is list and not all(isinstance(each, str) for each in value)):
        raise MakerFile(path, f"{name} must be {KINDS[kind]}")
    # A line end in the device's name would end a header field of a mail, or a line of the log.
    if kind is str and not value.isprintable():
        raise MakerFile(path, f"{name} must be printable")
    if value not in CHOICES.get(name, (value,)):
        raise MakerFile(path, f"{name} must be {' or '.join(CHOICES[name])}")
    if name == "oauth.microsoft_login" and not LOGIN.fullmatch(value):
        raise MakerFile(path, f"{name} must be a host name such as login.microsoftonline.us")
    # No browser sends such a name in Host (RFC 9110, 7.2), so the page could never be opened by it.
    if name == "web.names" and not all(map(HOST_NAME_PATTERN.fullmatch, value)):
        raise MakerFile(path, f"{name} must be names such as nas.example: no scheme, no port, no dot at the end")
    if name == "web.url" and value and not URL.fullmatch(value):
        raise MakerFile(path, f"{name} must be an address such as https://nas.example, without a path")
    # One address, not "*": with that any client could claim any address, and that it speaks TLS.
    if name == "web.trusted_proxy" and value and not _is_address(value):
        raise MakerFile(path, f"{name} must be one IP address, as the system spells it")
    if kind is int and value not in RANGES[name]:
        raise MakerFile(path, f"{name} must be from {RANGES[name][0]} to {RANGES[name][-1]}")


def _is_address(text: str) -> bool:
    """Return whether this is the system's spelling of an address: that of a peer is compared with it as a text."""
    host, _, _ = text.partition("%")  # the scope of a link-local one
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            return socket.inet_ntop(family, socket.inet_pton(family, host)) == host
    return False


KINDS: Mapping[type, str] = {str: "a text", bool: "true or false", int: "a whole number", list: "a list of texts"}
