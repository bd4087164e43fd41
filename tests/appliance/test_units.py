"""What an image installs: units that systemd takes, sealed as far as they can be, and the folders of two users."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from device_ui.config import Device, Folders
from device_ui.mail import client
from device_ui.mail.delivery.periodic import AHEAD_SECONDS
from tests.helpers.product import ADMIN_PASSWORD, ROOT, Product, listens, wait_for

APPLIANCE = ROOT / "device_ui" / "appliance"
UNITS = sorted(path.name for path in APPLIANCE.iterdir() if path.suffix in (".service", ".socket", ".timer"))
SERVICES = ("device-ui-web.service", "device-ui-mailhook.service")
# systemd's own measure of each service (systemd-analyze security), and the most that it may be: 0 is sealed, 10 is open.
EXPOSURES = {
    "device-ui-web.service": 0.2,
    "device-ui-setup-code.service": 0.2,
    "device-ui-token.service": 0.4,
    "device-ui-certificate-first.service": 0.7,
    "device-ui-reset.service": 0.9,
    # Root, for systemctl.
    "device-ui-periodic.service": 0.7,
    # No RestrictSUIDSGID=: the folder of the settings has the set-group-ID bit.
    "device-ui-first.service": 1.4,
    "device-ui-ownership.service": 1.4,
    "device-ui-certificate.service": 1.5,
    # systemd counts adjtimex(2) as setting the clock, which needs CAP_SYS_TIME besides.
    "device-ui-mailhook.service": 1.7,
}


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(APPLIANCE / name)
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """What ``make install`` puts under /usr, with nothing compiled: the units are looked at."""
    root = tmp_path_factory.mktemp("image")
    words = ["make", "-s", "-C", ROOT, "install", f"DESTDIR={root}", "PREFIX=/usr", "PYTHON=true"]
    subprocess.run(words, check=True, timeout=120)
    return root


def test_the_image_has_units_users_and_folders(installed):
    found = {path.name for path in (installed / "usr/lib/systemd/system").iterdir()}
    assert found == set(UNITS)
    for path in ("lib/sysusers.d/device-ui.conf", "lib/tmpfiles.d/device-ui.conf", "share/device-ui/nginx.conf"):
        assert (installed / "usr" / path).read_text()


def test_systemd_takes_the_units(tmp_path):
    for name in UNITS:  # the command is not installed here
        (tmp_path / name).write_text((APPLIANCE / name).read_text().replace("/usr/bin/device-ui", "/bin/true"))
    words = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert [line for line in done.stderr.splitlines() if "device-ui" in line] == []


def test_systemd_would_say_what_is_wrong(tmp_path):
    (tmp_path / UNITS[0]).write_text("[Unit]\nDescripton=x\n[Service]\nExecStart=/bin/true\n")
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNITS[0])]
    assert "Descripton" in subprocess.run(words, capture_output=True, text=True, timeout=60).stderr


def exposure(path: Path) -> float:
    """Return systemd's own measure of a unit's file."""
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


@pytest.mark.parametrize("name", [each for each in UNITS if each.endswith(".service")])
def test_a_service_is_sealed(name):
    assert exposure(APPLIANCE / name) <= EXPOSURES[name]


def test_a_service_with_one_seal_less_is_found(tmp_path):
    name = "device-ui-certificate-first.service"
    (tmp_path / name).write_text((APPLIANCE / name).read_text().replace("ProtectKernelModules=yes\n", ""))
    assert exposure(tmp_path / name) > EXPOSURES[name]


def test_the_documents_name_the_exposure_of_each_service():
    named = re.findall(r"`(device-ui-[a-z-]+)` ([0-9]\.[0-9])\b", (ROOT / "docs" / "appliance.md").read_text())
    assert {f"{name}.service": float(figure) for name, figure in named} == EXPOSURES


def confined(name: str, *words: str, **run: object) -> subprocess.CompletedProcess[str]:
    """Run a program of a unit under the unit's system call filters and capabilities (tests/helpers/sandbox.py)."""
    entered = [sys.executable, "-m", "tests.helpers.sandbox", str(APPLIANCE / name), *words]
    return subprocess.run(entered, **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 60, **run})  # type: ignore[call-overload]


def test_the_certificate_is_made_under_the_filters_of_its_unit(tmp_path):
    assert unit("device-ui-certificate.service")["Service"]["CapabilityBoundingSet"] == ""
    words = ("-m", "device_ui", "certificate", "--if-needed", "--data", str(tmp_path))
    done = confined("device-ui-certificate.service", sys.executable, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tls" / "certificate.pem").exists()
    assert confined("device-ui-certificate.service", sys.executable, *words).returncode == 1


NETLINK = "import socket; print(socket.if_nameindex())"
CHOWN = "import os; os.chown(os.devnull, 1, 1)"


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("device-ui-certificate.service", NETLINK, "Errno 97"),
        ("device-ui-web.service", NETLINK, "Errno 97"),
        ("device-ui-mailhook.service", NETLINK, "Errno 97"),
        ("device-ui-reset.service", CHOWN, "Errno 1"),
    ],
)
def test_a_filter_of_a_unit_forbids_what_it_is_for(name, code, told):
    done = confined(name, sys.executable, "-c", code)
    assert done.returncode == 1
    assert told in done.stderr


def test_the_proxy_takes_a_new_certificate_and_is_left_alone_without_one():
    lines = (APPLIANCE / "device-ui-certificate.service").read_text().splitlines()
    begun = [line.partition("=")[2] for line in lines if line.startswith("Exec")]
    assert "/usr/bin/device-ui certificate --if-needed;" in begun[0]
    assert begun[1:] == [
        "-/bin/systemctl --no-block try-reload-or-restart [n]ginx.service",
        "-/bin/systemctl --no-block --state=failed restart [n]ginx.service stunnel[4].service stunnel@[d]evice-ui.service",
        "-/bin/systemctl --no-block try-restart stunnel[4].service stunnel@[d]evice-ui.service",
    ]


def test_the_proxy_waits_for_no_certificate_that_is_there():
    """Only the unit that is skipped with one is before it; the check of it is the timer's."""
    before = {name: unit(name)["Unit"].get("Before", "").split() for name in UNITS}
    assert [name for name in UNITS if "nginx.service" in before[name]] == ["device-ui-certificate-first.service"]
    text = (APPLIANCE / "device-ui-certificate-first.service").read_text()
    for name in ("certificate.pem", "key.pem"):
        assert f"ConditionFileNotEmpty=|!/var/lib/device-ui/tls/{name}\n" in text
    assert "[Install]" not in (APPLIANCE / "device-ui-certificate.service").read_text()


def test_a_reset_is_finished_under_the_filters_of_its_unit(product: Product):
    """On a device whose maker's file is wrong, too."""
    product.maker("[locks]\nsecurity = tru\n").folders.settings.parent.mkdir(parents=True)
    product.folders.settings.write_text("what was set")
    (product.folders.data / "factory-reset-begun").touch()
    program, *words = unit("device-ui-reset.service")["Service"]["ExecStart"].split()
    assert program == "/usr/bin/device-ui"
    done = confined("device-ui-reset.service", sys.executable, "-m", "device_ui", *words, env=product.environment)
    assert (done.returncode, done.stderr) == (0, "device-ui: a factory reset that was interrupted is finished\n")
    assert not product.folders.settings.exists()
    assert (
        confined("device-ui-reset.service", sys.executable, "-m", "device_ui", *words, env=product.environment).stderr
        == ""
    )


def test_the_mail_hook_may_ask_whether_the_clock_is_synchronized():
    """adjtimex(2) with modes = 0 answers 0 to 5; a filter would make it -1."""
    code = "from device_ui.mail import clock; print(clock._kernel()())"
    done = confined("device-ui-mailhook.service", sys.executable, "-c", code)
    assert 0 <= int(done.stdout) <= 5, done.stderr


@pytest.mark.parametrize("name", ["device-ui-web.service", "device-ui-mailhook.service"])
def test_a_process_starts_under_the_filters_of_its_unit(product: Product, name, tmp_path):
    # As root, which the process is not on an appliance, a new file or folder is given an owner, and the filters forbid that.
    product.call("setup-code")
    product.start_hook().stop("mailhook")
    command = unit(name)["Service"]["ExecStart"].removeprefix("/usr/bin/device-ui ")
    words = ["--listen", f"unix:{tmp_path / 'web.sock'}"] if command == "web" else []
    entered = [
        sys.executable,
        "-m",
        "tests.helpers.sandbox",
        str(APPLIANCE / name),
        sys.executable,
        "-m",
        "device_ui",
        command,
    ]
    path = product.folders.socket if command == "mailhook" else tmp_path / "web.sock"
    with subprocess.Popen([*entered, *words], cwd=ROOT, env=product.environment, stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: listens(path), what="its start")
        finally:
            process.terminate()
        assert process.wait(60) == 0, process.stderr and process.stderr.read()


def test_the_state_program_runs_under_the_filters_of_the_mail_hook(product: Product, tmp_path):
    product.start_hook().stop("mailhook")
    program, shown = tmp_path / "light", tmp_path / "shown"
    program.write_text(f'#!/bin/sh\necho "$DEVICE_UI_MAIL_STATE" >>{shown}\n')
    program.chmod(0o755)
    product.maker(f'[mail]\nstate_command = "{program}"\n')
    entered = [sys.executable, "-m", "tests.helpers.sandbox", str(APPLIANCE / "device-ui-mailhook.service")]
    words = [*entered, sys.executable, "-m", "device_ui", "mailhook"]
    with subprocess.Popen(words, cwd=ROOT, env=product.environment) as process:
        try:
            wait_for(lambda: shown.exists() and shown.read_text() == "unset\n", what="the program")
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_events_are_forwarded_under_the_filters_of_the_mail_hook(product: Product, tmp_path):
    """The web hook's program, which starts a shell, curl and threads of it."""
    product.start_hook().stop("mailhook")
    program = tmp_path / "webhook"
    shutil.copy(APPLIANCE / "forward" / "webhook", program)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "curl.conf").write_text(f'url = "http://127.0.0.1:{server.getsockname()[1]}/"\n')
        product.maker(f'[mail]\nforward_command = "{program}"\n')
        entered = [sys.executable, "-m", "tests.helpers.sandbox", str(APPLIANCE / "device-ui-mailhook.service")]
        words = [*entered, sys.executable, "-m", "device_ui", "mailhook"]
        with subprocess.Popen(words, cwd=ROOT, env=product.environment) as process:
            try:
                wait_for(lambda: listens(product.folders.socket), what="its start")
                assert client.raise_event(product.folders.socket, "303")
                server.settimeout(60)
                connection, _ = server.accept()
                with connection, connection.makefile("rb") as lines:
                    taken = [line for line in iter(lambda: lines.readline().strip(), b"")]
                    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            finally:
                process.terminate()
            assert process.wait(60) == 0
    assert taken[0] == b"POST / HTTP/1.1"


def test_the_timer_starts_the_mail_hook_where_something_was_chosen():
    """The hook stays for an instant that is nearer than the next start, and the timer takes a minute longer at most (AccuracySec=)."""
    service = unit("device-ui-periodic.service")
    assert service["Unit"]["ConditionPathExists"] == str(Folders().notifications)
    assert service["Service"]["ExecStart"] == "/bin/systemctl --no-block start device-ui-mailhook.service"
    assert dict(unit("device-ui-periodic.timer")["Timer"]) == {"OnCalendar": "hourly"}
    assert AHEAD_SECONDS >= 3600 + 60 + 2 * 60


def test_the_setup_code_is_shown_until_it_is_used(product: Product, tmp_path):
    """The two lines of the unit, with the paths of a test: the record is the one that the product writes."""
    program = tmp_path / "device-ui"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m device_ui "$@"\n')
    program.chmod(0o755)
    service = unit("device-ui-setup-code.service")["Service"]

    def run(name: str) -> subprocess.CompletedProcess[str]:
        line = service[name].replace("/usr/bin/device-ui", str(program)).replace("$$", "$")
        words = shlex.split(line.replace("/var/lib/device-ui", str(product.folders.data)))
        return subprocess.run(
            words, cwd=ROOT, env=product.environment, capture_output=True, text=True, check=False, timeout=60
        )

    product.folders.administrator.parent.mkdir(parents=True)
    assert run("ExecCondition").returncode == 0
    shown = run("ExecStart")
    assert shown.stdout == f"device-ui: setup code: {product.call('setup-code').stdout}", shown.stderr
    assert run("ExecCondition").returncode == 0
    assert product.call("admin", "set-password", input=ADMIN_PASSWORD + "\n").returncode == 0
    assert run("ExecCondition").returncode == 1
    assert service["StandardOutput"] == "journal+console"


@pytest.mark.parametrize(("told", "code"), [(0, 0), (1, 1), (74, 255), (78, 255), (139, 255)])
def test_a_renewal_that_failed_fails_its_unit(tmp_path, told, code):
    """ExecCondition= takes 1 to 254 for "skip, and all is well" (systemd.service(5))."""
    program = tmp_path / "device-ui"
    program.write_text(f"#!/bin/sh\nexit {told}\n")
    program.chmod(0o755)
    line = unit("device-ui-certificate.service")["Service"]["ExecCondition"]
    words = shlex.split(line.replace("/usr/bin/device-ui", str(program)).replace("$$", "$"))
    assert subprocess.run(words, check=False, timeout=60).returncode == code


@pytest.mark.parametrize(("name", "user"), [(SERVICES[0], "device-ui"), (SERVICES[1], "device-mail")])
def test_each_runs_as_a_user_of_its_own_with_bounds(name, user):
    service = unit(name)["Service"]
    assert (service["User"], service["Group"]) == (user, user)
    assert (service["LimitCORE"], service["MemoryMax"]) == ("0", "64M")


def test_neither_sees_the_others_room():
    assert unit(SERVICES[0])["Service"]["InaccessiblePaths"] == "-/var/lib/device-ui/mail"
    assert unit(SERVICES[1])["Service"]["InaccessiblePaths"] == "-/var/lib/device-ui/web"


def test_the_pages_reach_no_network():
    service = unit(SERVICES[0])["Service"]
    assert (service["PrivateNetwork"], service["RestrictAddressFamilies"]) == ("yes", "AF_UNIX")


def test_who_calls_the_hook_can_be_told():
    """With PrivateUsers= every caller but root and the hook itself would be nobody to SO_PEERCRED."""
    assert "PrivateUsers" not in unit(SERVICES[1])["Service"]
    assert "ProcSubset" not in unit(SERVICES[1])["Service"]


def test_both_are_started_by_their_sockets():
    assert unit("device-ui-mailhook.socket")["Socket"]["ListenStream"] == str(Folders().socket)
    assert unit("device-ui-mailhook.socket")["Socket"]["SocketMode"] == "0666"
    assert unit("device-ui-web.socket")["Socket"]["SocketMode"] == "0660"


@pytest.mark.parametrize("name", ["device-ui-web.socket", "device-ui-mailhook.socket"])
def test_who_comes_while_nobody_runs_waits_in_the_queue(name):
    """systemd neither empties the queue (FlushPending=) nor starts a process for each connection (Accept=)."""
    assert set(unit(name)["Socket"]) <= {
        "ListenStream",
        "SocketMode",
        "SocketUser",
        "SocketGroup",
        "DirectoryMode",
        "Backlog",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_never_gives_up_starting(name):
    """At its limit of starts it would close the socket, too, until somebody comes to the console."""
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"
    assert (unit(name)["Service"]["Restart"], unit(name)["Service"]["RestartSec"]) == ("on-failure", "1")


def test_the_folders_are_those_that_the_processes_would_make():
    made = {}
    for line in (APPLIANCE / "tmpfiles.conf").read_text().splitlines():
        if line.startswith("d "):
            _, path, mode, user, group, _ = line.split()
            made[path] = (int(mode, 8), user, group)
    device = Device.plain(Folders())
    for path, mode, _ in [*device.layout("web"), *device.layout("mail")]:
        assert made[str(path)][0] == mode
    assert made[str(Folders().socket.parent)] == (0o755, "device-mail", "device-mail")


def test_the_users_are_those_of_the_settings():
    told = (APPLIANCE / "sysusers.conf").read_text()
    device = Device.plain(Folders())
    for name in ("web", "mail", "event_group"):
        assert re.search(rf"^[ug] {device[f'users.{name}']} ", told, re.MULTILINE)
