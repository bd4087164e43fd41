"""The command line: the commands, their options and the exit codes of sysexits.h. An error is one line on standard error."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from device_ui import __version__, logging_setup
from device_ui.cli import commands, launch
from device_ui.cli.launch import EX_OK, EX_USAGE
from device_ui.config import Device, Folders
from device_ui.errors import DeviceUIError

# Commands that do not read device.toml: no event is lost by a typing error in it, the processes read it themselves, and a factory
# reset and `seal` do not need it.
NEEDS_FOLDERS = (
    commands.event,
    commands.token,
    commands.sendmail,
    commands.web,
    commands.mailhook,
    commands.factory_reset,
    commands.seal,
)
# Commands that use the defaults where device.toml is wrong: without a certificate and a setup code no page could report the error.
TAKES_DEFAULTS = (commands.certificate, commands.setup_code)


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line and the exit code of sysexits.h."""

    def error(self, message: str) -> NoReturn:
        """Print the error and a reference to the help."""
        # argparse would print several lines and exit with 2; sysexits.h has 64 for a wrong command line.
        self.exit(EX_USAGE, f"device-ui: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    root = Parser(prog="device-ui", description="An appliance's e-mail: the page and the mail hook.")
    root.add_argument("--version", action="version", version=f"device-ui {__version__}")
    words = root.add_subparsers(required=True, metavar="COMMAND")

    one = _command(words, "run", commands.run)
    _listen(one)
    one.add_argument("--demo", action="store_true", help="add a mail server on loopback that keeps and prints its mail")
    _listen(_command(words, "web", commands.web))
    one = _command(words, "mailhook", commands.mailhook)
    one.add_argument("--allow-loopback", action="store_true", help="allow a mail server on this device itself")
    one.add_argument("--ca-file", default="", metavar="PEM", help="trust these certificates for the mail server, too")
    one.add_argument("--url", default="", help="the address of the pages for links in mails, instead of web.url")
    one = _command(words, "event", commands.event)
    one.add_argument("code", help="three digits of the catalogue")
    one.add_argument("--text", default="", help="the text of the mail")
    one.add_argument("--source", default="", help="the program that raised it")
    one.add_argument("--time", default="", metavar="RFC3339", help="the time of the event (now)")
    one = _command(words, "test", commands.test)
    # No option for a password or a host: a test of the command line is one of the stored settings.
    one.add_argument("--to", default="", metavar="ADDRESS", help="the recipient, instead of the device's")
    one.add_argument("--json", action="store_true", help="print the result as one JSON object")
    one = _command(words, "history", commands.history)
    one.add_argument(
        "--json", action="store_const", dest="format", const="json", default="text", help="print a JSON object a line"
    )
    one.add_argument(
        "--csv", action="store_const", dest="format", const="csv", help="print comma-separated values (RFC 4180)"
    )
    one.add_argument(
        "--from", default="", dest="begin", metavar="DATE", help="events since this day, such as 2026-11-23"
    )
    one.add_argument("--to", default="", dest="end", metavar="DATE", help="events up to this day")
    one.add_argument("--type", default="", choices=("", "info", "fault"), help="events of this type")
    one.add_argument("--code", default="", help="events of this code")
    one.add_argument("--outcome", default="", help="events whose mail ended so, such as waiting or 'not delivered'")
    one.add_argument("--source", default="", help="events with this part in their source")
    one.add_argument("--text", default="", help="events with this part in their text")
    one.add_argument("--limit", default=0, type=int, metavar="N", help="the newest N (all)")
    # No options here: `main` passes the words of sendmail on unread.
    _command(words, "sendmail", commands.sendmail).set_defaults(words=[])
    one = _command(words, "settings", commands.settings)
    one.add_argument("--format", choices=("json", "env", "msmtprc"), default="json")
    one.add_argument("--reveal", action="store_true", help="include the password; only the mail hook's user can")
    one = _command(words, "token", commands.token)
    one.add_argument(
        "--keep-alive", action="store_true", help="renew or try the sign-in, and warn of its end: for a daily timer"
    )
    one = _command(words, "apply", commands.apply)
    one.add_argument(
        "file", nargs="?", default="", metavar="FILE", help="the document, TOML or JSON; - for standard input"
    )
    one.add_argument("--dry-run", action="store_true", help="write nothing; exit with 1 if something would change")
    one.add_argument("--json", action="store_true", help="print the result as one JSON object")
    one.add_argument("--schema", action="store_true", help="print the JSON Schema of a document")
    one.add_argument(
        "--first", action="store_true", help="apply first.toml of ETC, once, if device.toml permits it (apply.first)"
    )
    one = _command(words, "export", commands.export)
    one.add_argument("--json", action="store_true", help="print JSON instead of TOML")
    one.add_argument("--seal-to", default="", metavar="KEY", help="include the password, sealed to this public key")
    one = _command(words, "seal", commands.seal)
    one.add_argument("file", nargs="?", default="", metavar="FILE", help="the document; - for standard input")
    one.add_argument(
        "--to", default="", metavar="KEY", help="the public key: a file such as mailhook.pub, or its 64 digits"
    )
    one.add_argument("--open", default="", metavar="FILE", help="the private key that the password is sealed to now")
    one.add_argument(
        "--new-key", default="", metavar="FILE", help="make a key pair for export --seal-to, FILE and FILE.pub"
    )
    admin = words.add_parser("admin", help="Manage the administrator of the pages.")
    _command(admin.add_subparsers(required=True, metavar="COMMAND"), "set-password", commands.set_password)
    _command(words, "setup-code", commands.setup_code)
    one = _command(words, "certificate", commands.certificate)
    one.add_argument("--folder", metavar="DIR", help="the folder of both files (tls in the data folder)")
    one.add_argument("--name", action="append", default=[], help="a further name of the pages")
    one.add_argument(
        "--address", action="append", default=[], type=ip_address, help="a further IP address of the pages"
    )
    one.add_argument(
        "--if-needed",
        action="store_true",
        help="create it only if missing, expiring within 30 days or incomplete; exit with 1 if unchanged",
    )
    one = _command(words, "metrics-token", commands.metrics_token)
    one.add_argument("--remove", action="store_true", help="only make the present token worthless")
    _command(words, "rotate-key", commands.rotate_key)
    one = _command(words, "factory-reset", commands.factory_reset)
    one.add_argument("--yes", action="store_true", help="erase without asking")
    one.add_argument("--resume", action="store_true", help="only finish an interrupted reset")
    _command(words, "fix-ownership", commands.fix_ownership)
    _command(words, "check", commands.check)
    return root


def ip_address(text: str) -> str:
    """Return an address in its usual spelling, for argparse. Raises ValueError."""
    import ipaddress

    return str(ipaddress.ip_address(text))


def _command(
    words: argparse._SubParsersAction[Parser],
    name: str,
    function: Callable[[Device, argparse.Namespace], int],
) -> argparse.ArgumentParser:
    # The docstring is the one text for --help, docs/configuration.md and the reader of the code.
    summary = (function.__doc__ or "").replace("\n", " ")
    one = words.add_parser(name, help=summary, description=summary)
    one.add_argument("--data", metavar="DIR", help="the data folder (DEVICE_UI_DATA, else /var/lib/device-ui)")
    one.set_defaults(function=function)
    return one


def _listen(one: argparse.ArgumentParser) -> None:
    text = "where the pages are served; unix:PATH for a TLS proxy in front (%(default)s)"
    one.add_argument("--listen", default=launch.LISTEN, metavar="HOST:PORT", help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    logging_setup.for_command()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if Path(sys.argv[0]).name == "sendmail":  # as a link at /usr/sbin/sendmail
        # The name of the link is the command, as with busybox: cron calls /usr/sbin/sendmail and nothing else.
        words.insert(0, "sendmail")
    try:
        options = parser().parse_args(_without_sendmail_flags(words))
    # argparse ends the process by itself, with 0 after --help.
    except SystemExit as error:
        return EX_USAGE if error.code else EX_OK
    try:
        # argparse never saw them: sendmail's flags do not follow its rules.
        if options.function is commands.sendmail:
            options.words = words[1:]
        if options.function in NEEDS_FOLDERS:
            device = Device.plain(Folders.find(options.data, os.environ))
        else:
            device = launch.device(options.data, takes_defaults=options.function in TAKES_DEFAULTS)
        return int(options.function(device, options))
    except (DeviceUIError, OSError) as error:
        return launch.failed(error)


def _without_sendmail_flags(words: list[str]) -> list[str]:
    """Return the words for argparse; `mail.sendmail` reads the flags of sendmail, which do not follow argparse's rules."""
    is_sendmail = words[:1] == ["sendmail"] and words[1:] not in (["--help"], ["-h"])
    return ["sendmail"] if is_sendmail else words
