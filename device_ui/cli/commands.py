"""The commands: one function each, without logic.

A function takes the device and the options that `parser` has read, prints the result, and returns the exit code; its docstring is
the help text. Imports that only one command needs are in its function.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from device_ui.cli import launch, output
from device_ui.cli.launch import EX_CONFIG, EX_DATAERR, EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE
from device_ui.config import Device
from device_ui.errors import DeviceUIError, HookError

if TYPE_CHECKING:
    from device_ui.cli.run import Supervisor

# As grep does: for "device-ui certificate --if-needed && nginx -s reload", and for systemd's ExecCondition=.
NOT_NEEDED = 1


def run(device: Device, options: argparse.Namespace) -> int:
    """Run both processes until Ctrl-C; print the address and the set-up link."""
    from device_ui.cli import demo_server
    from device_ui.cli.run import Supervisor

    supervisor = Supervisor(device, options.listen)
    # First of all: a second run would start a demo server before it found the port taken.
    supervisor.check_is_free()
    if not options.demo:
        supervisor.start()
        return _until_end(supervisor, f"device-ui is ready: {supervisor.setup_link()}")
    mailbox = demo_server.Mailbox(device.folders.data / "demo")
    server = demo_server.Server(mailbox)
    server.start()
    # The hook verifies the demo server as it does any other: only its authority is trusted in addition.
    supervisor.start("--ca-file", str(mailbox.ca_file))
    values = {
        "link": supervisor.setup_link(),
        "command": _this_command(),
        "data": shlex.quote(str(device.folders.data)),
    }
    return _until_end(supervisor, *DEMO.format(server=server, mailbox=mailbox, **values).split("\n"))


def _until_end(supervisor: Supervisor, *texts: str) -> int:
    try:
        for text in texts:
            output.say(text)
    except OSError:  # standard output cannot be written: neither process is left behind
        supervisor.stop()
        raise
    return supervisor.wait()


DEMO = """
device-ui is ready. Open this page in a browser:

    {link}

Its demo mail server keeps and prints every mail and sends nothing anywhere. Values for the SMTP tab:

    SMTP Host               127.0.0.1
    SMTP Port               {server.port}
    Sender Name             as you like
    SMTP Account Address    {mailbox.account}
    SMTP Account Password   {mailbox.password}

Then, in another terminal, raise an event:

    {command} event 303 --text "it works" --data {data}

Ctrl-C ends both.
"""


def web(_device: Device, options: argparse.Namespace) -> int:
    """Serve the pages, as systemd starts them."""
    return launch.web(options.data, options.listen)


def mailhook(_device: Device, options: argparse.Namespace) -> int:
    """Accept and mail events, as systemd starts it."""
    return launch.mailhook(options.data, options.ca_file, options.url, allow_loopback=options.allow_loopback)


def event(device: Device, options: argparse.Namespace) -> int:
    """Raise an event; print "accepted N" and exit with 0 once it is on flash."""
    from device_ui.mail import client

    number = client.raise_event(device.folders.socket, options.code, options.text, options.source, options.time)
    output.say(f"accepted {number}")
    return EX_OK


def test(device: Device, options: argparse.Namespace) -> int:
    """Send a test mail with the stored settings and print each step; exit with 0 if the server accepted it for every recipient."""
    from device_ui.mail import client

    # The stored settings: typed ones, with their password, are for the page alone.
    lines = client.test(device.folders.socket, None, [options.to] if options.to else [])
    delivered = output.print_test(lines, output.output(for_program=options.json), is_json=options.json)
    return EX_OK if delivered else EX_UNAVAILABLE


def history(device: Device, options: argparse.Namespace) -> int:
    """Print every event and the delivery of its mail, newest first."""
    from device_ui.mail import client

    names = {"from": options.begin, "to": options.end, "type": options.type, "code": options.code}
    names |= {"outcome": options.outcome, "source": options.source, "text": options.text}
    query = {name: value for name, value in names.items() if value}
    lines = client.history(device.folders.socket, {**query, "limit": options.limit})
    # JSON and CSV are UTF-8 whatever the terminal is; text for a person follows the terminal.
    out = output.output(for_program=options.format != "text")
    output.print_history(lines, out, output.FORMATS[options.format])
    return EX_OK


def sendmail(device: Device, options: argparse.Namespace) -> int:
    """Raise an event from a message to root, as /usr/sbin/sendmail for cron, mdadm, smartd and fail2ban."""
    from device_ui.mail import sendmail as message_reader

    # Bytes: a message may be in any character set.
    with open(0, "rb", closefd=False) as stream:
        return message_reader.deliver(device.folders.socket, options.words, stream)


def settings(device: Device, options: argparse.Namespace) -> int:
    """Print the validated settings, for a mailer of the maker's own; the password only with --reveal."""
    from device_ui.settings import export, keys
    from device_ui.settings.store import Store

    # `read` and not `load`, which would quarantine a damaged file: this command changes nothing.
    found, _ = Store(device.folders.settings).read()
    if found is None:
        raise DeviceUIError("no settings are stored yet")
    # None leaves the password's name out of the lines: without --reveal, and for settings without a login.
    password = None
    # The private key is read for --reveal alone: without it any reader of the settings can run this.
    if options.reveal and found.sealed:
        _require_key(device)
        password = keys.load_password(device.folders.private_key, found)
    # These lines are another program's: `export` refuses what is not printable, and nothing is escaped.
    output.output(for_program=True).write(export.FORMATS[options.format](export.values(found, password)))
    return EX_OK


def token(device: Device, options: argparse.Namespace) -> int:
    """Print an access token of the sign-in by OAuth 2.0, for a mailer of the maker's own; --keep-alive renews and prints none."""
    from device_ui.mail import client

    if options.keep_alive:
        client.keep_alive(device.folders.socket)
    else:
        output.output(for_program=True).write(client.token(device.folders.socket) + "\n")
    return EX_OK


def apply(device: Device, options: argparse.Namespace) -> int:
    """Apply a document: set the SMTP tab and the recipients as it says, and print what changed; see docs/appliance.md."""
    from device_ui.cli import provision

    if options.schema:
        return provision.print_schema()
    if options.first:
        return provision.apply_first(device)
    if not options.file:
        output.say("device-ui: a document is missing: a file, or - for standard input", is_error=True)
        return EX_USAGE
    return provision.apply_document(device, options.file, dry_run=options.dry_run, is_json=options.json)


def export(device: Device, options: argparse.Namespace) -> int:
    """Print the settings as a document that apply takes, without the password, or with it sealed to a key."""
    from device_ui.cli import provision

    return provision.export(device, options.seal_to, is_json=options.json)


def seal(_device: Device, options: argparse.Namespace) -> int:
    """Print a document with its password sealed to the public key of a device; needs no device and no data folder."""
    from device_ui.cli import provision

    if options.new_key:
        return provision.new_key(Path(options.new_key))
    if not (options.to and options.file):
        output.say("device-ui: a key and a document are missing: --to KEY FILE", is_error=True)
        return EX_USAGE
    return provision.seal(options.file, options.to, options.open)


def set_password(device: Device, _options: argparse.Namespace) -> int:
    """Set the administrator's password: one line from standard input."""
    from device_ui.web.auth.administrator import Administrator, password_problem

    # Not an argument: any user of the device can read those (proc(5), cmdline), and a shell stores them.
    password = sys.stdin.readline().rstrip("\n")
    problem = password_problem(password, device.guessable_names)
    if problem:
        output.say(f"device-ui: {problem}", is_error=True)
        return EX_DATAERR
    Administrator(device.folders.administrator).set_password(password)
    output.say("The administrator's password is set; every session has ended.")
    return EX_OK


def setup_code(device: Device, _options: argparse.Namespace) -> int:
    """Print the setup code of a device that is not set up yet; make it on a new device."""
    from device_ui.web.server import prepare

    found = prepare(device, quiet=True)
    # Never printed again once it is used: it would be worthless, and looks like a secret.
    if found is None or found.is_set_up:
        output.say(
            "device-ui: this device has no setup code; device-ui admin set-password sets a password", is_error=True
        )
        return EX_CONFIG
    output.say(found.code)
    return EX_OK


def metrics_token(device: Device, options: argparse.Namespace) -> int:
    """Make the token that a monitoring system sends to /metrics, in place of the former one, and print it; it is shown once."""
    from device_ui.storage import files
    from device_ui.web.auth.metrics_token import MetricsToken

    token = MetricsToken(device.folders.metrics_token)
    if options.remove:
        token.remove()
        output.say("No token is right any more.")
        return EX_OK
    for folder in device.layout("web"):
        files.make_folder(*folder)
    output.output(for_program=True).write(f"{token.renew()}\n")
    return EX_OK


def rotate_key(device: Device, _options: argparse.Namespace) -> int:
    """Change the key that mail passwords are sealed to; the stored password stays usable throughout."""
    from device_ui.mail import client
    from device_ui.mail.daemon import sign_in_records
    from device_ui.settings import rotation
    from device_ui.settings.store import Store

    folders = device.folders
    # Only systemd can decrypt it, and only for a unit: root has to do these steps by hand.
    if folders.stored_credential:
        raise DeviceUIError(
            f"the private key is the credential {folders.stored_credential}: stop the mail hook, decrypt it to "
            f"{folders.key_file} (systemd-creds decrypt), remove it, rotate, encrypt the file again, and start the hook"
        )
    records = sign_in_records(folders)
    key_id = rotation.rotate(Store(folders.settings), folders.private_key, folders.public_key, records)
    # A hook that runs has the previous key in memory until it reads the settings again.
    with contextlib.suppress(HookError):  # it reads the new key when it starts
        client.settings_changed(folders.socket)
    output.say(f"The key is {key_id} now.")
    return EX_OK


def factory_reset(device: Device, options: argparse.Namespace) -> int:
    """Erase the key, then all settings and records; needs --yes. Under systemd, stop and start the units."""
    from device_ui.cli import factory_reset as cli_factory_reset
    from device_ui.mail import client

    folders = device.folders
    if options.resume:
        # `parser` gave a device without finishing a reset; the unit at boot asks for exactly that.
        launch.finish_reset(folders)
        return EX_OK
    if not options.yes:
        output.say("device-ui: this erases every setting and the history; --yes says that you mean it", is_error=True)
        return EX_USAGE
    with cli_factory_reset.units_stopped(folders) as started_again:
        # Without systemd it is still running: it would write its database into a folder that is being emptied.
        if client.is_answering(folders.socket):
            output.say("device-ui: the mail hook is running; stop both processes first", is_error=True)
            return EX_TEMPFAIL
        cli_factory_reset.reset(folders)
    if started_again:
        output.say("Everything is erased. device-ui setup-code shows the new setup code; the page starts with it.")
    else:
        output.say(
            "Everything is erased. Start the mail hook and the pages; device-ui setup-code shows the new setup code."
        )
    return EX_OK


def fix_ownership(device: Device, _options: argparse.Namespace) -> int:
    """Give the files in the data folder to the users of both processes; needs root."""
    from device_ui.cli import ownership

    for path in ownership.repair(device):
        output.say(f"repaired: {path}")
    return EX_OK


def certificate(device: Device, options: argparse.Namespace) -> int:
    """Make the device's TLS key and self-signed certificate, for nginx or stunnel in front of the pages."""
    import datetime

    from device_ui.cli import certificate as maker
    from device_ui.web.auth.guard import own_names

    # Not only the data folder: a proxy may read its files elsewhere.
    folder = Path(options.folder or device.folders.tls)
    # Unlike web.names these are for this certificate alone; the pages answer to web.names.
    names = {*own_names(device["web.names"]), *options.name}
    wanted = (names, [*maker.own_addresses(), *options.address], datetime.datetime.now(datetime.UTC))
    if options.if_needed:
        problem = maker.problem(folder, *wanted)
        # A certificate that the maker or the operator put there is never replaced, whatever is wrong with it.
        if not problem or not maker.is_own(folder):
            output.say(
                f"The certificate in {folder} is left as it is{problem and ': it is not of this device, but '}{problem}."
            )
            return NOT_NEEDED
        output.say(f"A new certificate is needed: {problem}.")
    made = maker.make(folder, *wanted)
    output.say(str(made))
    output.say(f"SHA-256 {maker.fingerprint(made)}")
    return EX_OK


def check(device: Device, _options: argparse.Namespace) -> int:
    """Report the problems of this installation, one a line; exit with 0 if there are none."""
    from device_ui.cli.check import OK, findings

    wrong = 0
    for finding in findings(device):
        # A warning counts, too: an end-of-line test should not ship a device with a brand that is not used.
        wrong += finding.state != OK
        # Every finding is printed as it comes: the hook may take seconds to start.
        output.say(str(finding))
    return EX_CONFIG if wrong else EX_OK


def _require_key(device: Device) -> None:
    """Raise `DeviceUIError` when the private key is a credential that systemd did not pass to this process."""
    stored = device.folders.stored_credential
    if stored and device.folders.credential is None:
        raise DeviceUIError(
            f"the private key is encrypted, and systemd decrypts it for a unit alone; as root: "
            f"systemd-run --pipe --quiet --property=LoadCredentialEncrypted={stored.name}:{stored} "
            f"{_this_command()} settings --reveal"
        )


def _this_command() -> str:
    """Return the command of this program, for a line to copy into a shell."""
    # A checkout has no installed command; the line that is printed must work as it is.
    called = Path(sys.argv[0])
    return shlex.join([str(called)] if called.name == "device-ui" else [sys.executable, "-m", "device_ui"])
