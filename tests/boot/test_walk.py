"""A maker installs the package by the lines of docs/appliance.md, an operator uses the page, and the device lives on: one story.

The tests run in their order, on one machine: each begins where the one before has ended.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from cryptography import x509
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.appliance.test_units import EXPOSURES
from tests.boot.image import MAIL_HOST, Image
from tests.boot.machine import MAIL_PORT, Machine, accelerator, overlay
from tests.boot.readme import deb_steps, maker_example
from tests.boot.site import ACCOUNT, PAGE_SECONDS, Site, Visitor, answers, setup_code, until
from tests.browser.conftest import ARGUMENTS, SCREENSHOTS
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD

Figure = Callable[[str, object], None]
pytestmark = pytest.mark.timeout(900)

PROCESSES = "pgrep --full --list-full '/usr/bin/device-ui (web|mailhook)' || true"
MEMORY_MAXIMUM = 64 * 1024 * 1024
UNITS = ("device-ui-web.service", "device-ui-mailhook.service")
# A word of device.toml with a typing error, and how it comes there and goes.
TYPING_ERROR = "hourly_bugdet"
MISTYPE, CORRECT = f"echo '{TYPING_ERROR} = 5' >>/etc/device-ui/device.toml", "cp /root/device.toml /etc/device-ui/"
SAVED, SENT = "Saved.", "The mail server accepted the test mail"


@pytest.fixture(scope="module")
def disk(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overlay(image.disk, tmp_path_factory.mktemp("walk") / "disk.qcow2")


@pytest.fixture(scope="module")
def device(image: Image, disk: Path, site: Site) -> Iterator[Machine]:
    """The machine, as it comes from the maker's builder: booted, and without the package."""
    with Machine(image, disk, site.port) as machine:
        yield machine.start()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, device: Machine) -> Iterator[Page]:
    """A browser that took the device's self-signed certificate, as an operator does."""
    context = chromium.new_context(ignore_https_errors=True, base_url=f"https://127.0.0.1:{device.https_port}")
    context.set_default_timeout(PAGE_SECONDS * 1000)
    page = context.new_page()
    yield page
    # The process of the pages stays for a session.
    if page.get_by_role("button", name="Sign out").is_visible():
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/login*")
    context.close()


def certificate(device: Machine) -> x509.Certificate:
    """What the proxy shows."""
    pem = ssl.get_server_certificate(("127.0.0.1", device.https_port), timeout=PAGE_SECONDS)
    return x509.load_pem_x509_certificate(pem.encode())


def visit(page: Page, path: str) -> None:
    """Open a page; reload as a person does when the connection was lost: this guest may take longer than nginx waits."""
    for _ in range(3):
        with contextlib.suppress(PlaywrightError):
            page.goto(path)
            return
    page.goto(path)


def log_in(page: Page) -> None:
    visit(page, "/login")
    page.get_by_label("Administrator’s password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/smtp")


# The maker


def test_the_readme_s_lines_install_it(device: Machine, package: Path, site: Site) -> None:
    device.write(f"/root/{package.name}", package.read_bytes())
    before, after = by_hand()
    assert len(before) + 1 + len(after) == 10
    device.run(f"cd /root && {before[0]}")
    for path, content in site.files.items():
        device.write(path, content)
    for command in before[1:]:
        device.run(f"cd /root && {command}")


def by_hand() -> tuple[list[str], list[str]]:
    """The documented commands before and after what is done in a browser."""
    steps = deb_steps()
    browser = steps.index("")
    return steps[:browser], steps[browser + 1 :]


def test_check_finds_nothing_wrong_right_after_the_installation(device: Machine) -> None:
    code, printed = device.tried("device-ui check")
    assert code == 0, printed


def test_after_a_reboot_the_page_is_there_without_a_hand(device: Machine, figure: Figure) -> None:
    taken = device.reboot() + until(lambda: answers(device), 300, "the page after the reboot")
    figure("reboot to page", f"{taken:.0f} s ({accelerator(device.image)})")
    assert device.settled() == "running"
    figure("systemd-analyze", device.run("systemd-analyze").splitlines()[0])


def test_nginx_does_not_wait_for_the_certificate_check(device: Machine) -> None:
    chain = device.run("systemd-analyze critical-chain nginx.service")
    assert "device-ui" not in chain, chain
    assert "device-ui-certificate.service" not in device.run("systemctl show --property=After nginx.service")
    first = device.run("systemctl show --property=ConditionResult --value device-ui-certificate-first.service")
    assert first == "no", "with a certificate that is there nothing is started before nginx"


def test_the_setup_code_is_on_the_console_and_in_the_journal(device: Machine) -> None:
    code = setup_code(device)
    assert code in device.run("journalctl --boot --no-pager --quiet --unit=device-ui-setup-code.service")


def test_the_operator_sets_it_up_in_a_browser(device: Machine, page: Page) -> None:
    visit(page, "/")
    page.get_by_label("Setup code").fill(setup_code(device))
    for label in ("New administrator’s password", "The same password again"):
        page.get_by_label(label, exact=True).fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Set password").click()
    page.wait_for_url("**/smtp*")


def test_update_and_a_test_mail_reach_the_mail_server(device: Machine, page: Page, site: Site) -> None:
    log_in(page)
    values = {
        "SMTP Host": MAIL_HOST,
        "SMTP Port": str(MAIL_PORT),
        "Sender Name": "Storage alarms",
        "SMTP Account Address": ACCOUNT,
        "SMTP Account Password": PASSWORD,
    }
    for label, text in values.items():
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_role("button", name="Update", exact=True).click()
    expect(page.get_by_text(SAVED, exact=True)).to_be_visible()
    page.get_by_role("button", name="Send test email").click()
    site.server.wait_for(1, seconds=120)
    expect(page.get_by_text(SENT).first).to_be_visible()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "booted-smtp-tab.png", full_page=True)
    assert site.server.logins()[-1] == (ACCOUNT, True)


def test_the_readme_s_last_lines_send_the_first_mail(device: Machine, site: Site) -> None:
    before = len(site.mails())
    for command in by_hand()[1]:
        device.run(command)
    until(lambda: len(site.mails()) >= before + 2, 120, "the test mail and the event's mail")


def test_an_unprivileged_user_raises_an_event(device: Machine, site: Site) -> None:
    assert device.tried("device-ui event 303 --text 'by nobody of the group'", user="firmware")[0] == 77
    device.run("usermod --append --groups device-event firmware")
    printed = device.run("device-ui event 303 --text 'by the command'", user="firmware")
    number = int(printed.removeprefix("accepted "))
    until(lambda: number in site.numbers(), 120, "the event's mail")


def test_one_line_to_the_socket_raises_an_event(device: Machine, site: Site) -> None:
    script = "import socket as s; c = s.socket(s.AF_UNIX); c.connect('/run/device-ui/hook.sock'); c.sendall(b'event 304 by a line\\n'); print(c.recv(99).decode())"
    number = int(device.run(f'python3 -c "{script}"', user="firmware").removeprefix("accepted "))
    until(lambda: number in site.numbers(), 120, "the event's mail")


def test_python_raises_an_event_by_the_package(device: Machine) -> None:
    script = "from pathlib import Path; from device_ui.mail import client; print(client.raise_event(Path('/run/device-ui/hook.sock'), '303', 'by Python'))"
    assert int(device.run(f'python3 -c "{script}"', user="firmware")) > 0


def test_memory_stays_below_what_the_units_allow(device: Machine, figure: Figure) -> None:
    Visitor(device).get("/login")
    device.run("device-ui check")
    for unit in UNITS:
        shown = device.run(f"systemctl show --property=MemoryMax,ControlGroup,MainPID,NRestarts {unit}")
        values = dict(line.split("=", 1) for line in shown.splitlines())
        assert int(values["MemoryMax"]) == MEMORY_MAXIMUM
        assert int(values["NRestarts"]) == 0
        peak = int(device.run(f"cat /sys/fs/cgroup{values['ControlGroup']}/memory.peak"))
        assert peak < MEMORY_MAXIMUM
        rss = re.search(r"VmRSS:\s+(\d+) kB", device.run(f"cat /proc/{values['MainPID']}/status"))
        assert rss
        figure(unit, f"RSS {int(rss[1]) / 1024:.1f} MiB, cgroup peak {peak / 2**20:.1f} MiB, 0 restarts")


@pytest.mark.parametrize("unit", EXPOSURES)
def test_a_unit_is_as_closed_as_the_documents_say(device: Machine, unit: str, figure: Figure) -> None:
    printed = device.run(f"systemd-analyze security --no-pager {unit}")
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
    assert found, printed
    figure(f"exposure of {unit}", found[1])
    assert float(found[1]) <= EXPOSURES[unit], printed


def test_idle_it_is_no_process_and_the_next_visitor_starts_it(device: Machine, page: Page) -> None:
    until(lambda: device.run(PROCESSES) == "", 300, "the end of both processes")
    log_in(page)
    assert "web" in device.run(PROCESSES)


# What goes wrong around it


def test_a_typing_error_in_device_toml_is_one_line_and_no_spinning(device: Machine, site: Site) -> None:
    begun = device.run("date +%s")
    device.run(f"systemctl stop {' '.join(UNITS)}")
    device.run(f"cp /etc/device-ui/device.toml /root/ && {MISTYPE}")
    with waiting_event(device) as answer:
        assert "device-ui check" in Visitor(device).get("/smtp").text
        device.run("sleep 30")
        both_wait(device, f"--since=@{begun}")
        device.run(CORRECT)
        number = accepted(answer)
    until(lambda: number in site.numbers(), 120, "the mail of the event that waited")
    until(lambda: Visitor(device).get("/login").status == 200, 120, "the page")


def both_wait(device: Machine, journal: str) -> None:
    """Assert that both processes wait for the maker's file: one line a process, no restart, and everything that shows why.

    A page that no client asks for ends after a minute, and the next client starts another.
    """
    assert Visitor(device).get("/smtp").status == 503
    assert TYPING_ERROR in device.run("systemctl status --no-pager --lines=0 device-ui-mailhook.service", check=False)
    assert TYPING_ERROR in device.run("device-ui check", check=False)
    for unit in UNITS:
        lines = device.run(f"journalctl --no-pager --quiet {journal} --unit={unit}")
        assert lines.count(TYPING_ERROR) == lines.count(f"Started {unit}") in (1, 2), lines
        assert device.run(f"systemctl show --property=NRestarts --value {unit}") == "0"


@contextlib.contextmanager
def waiting_event(device: Machine) -> Iterator[IO[bytes]]:
    """An event that the firmware raises while the file is wrong; its answer. In the end the file is right."""
    try:
        with device.stream(f"printf 'event 303 while the file is wrong\\n' | python3 -c '{RELAY}'") as answer:
            yield answer
    finally:
        device.run(CORRECT)


def accepted(answer: IO[bytes]) -> int:
    """Wait for the answer; the event's number."""
    return int(answer.read().decode().removeprefix("accepted "))


RELAY = (
    'import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect("/run/device-ui/hook.sock"); '
    "c.sendall(sys.stdin.buffer.read()); print(c.recv(99).decode())"
)


def test_a_second_address_of_an_interface_is_in_the_certificate(device: Machine) -> None:
    device.run("ip address add 192.0.2.7/24 dev $(ip -o route get 10.0.2.2 | sed 's/.* dev \\([^ ]*\\).*/\\1/')")
    device.run("systemctl start device-ui-certificate.service", check=False)
    until(lambda: "192.0.2.7" in names(certificate(device)), 60, "a certificate with the second address")
    assert "10.0.2.15" in names(certificate(device))


def names(found: x509.Certificate) -> set[str]:
    alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in alternatives}


def test_mail_that_waits_goes_out_after_a_reboot(device: Machine, site: Site) -> None:
    with device.without_mail():
        number = int(device.run("device-ui event 303 --text 'before the reboot'").removeprefix("accepted "))
        device.wait_until(f"device-ui history --json | grep -q '\"number\": *{number}\\b'")
        device.reboot()
    until(lambda: number in site.numbers(), 240, "the mail that waited")
    assert device.settled() == "running"


def test_an_encrypted_key_opens_the_password_after_a_reboot(device: Machine, site: Site) -> None:
    device.run(maker_example("The key, encrypted"))
    device.reboot()
    before = site.tests()
    device.run("device-ui test")
    until(lambda: site.tests() == before + 1, 60, "the test mail")
    code, printed = device.tried("device-ui settings --reveal")
    assert (code, "the private key is encrypted" in printed) == (78, True), printed
    assert PASSWORD in device.run(printed.partition("as root: ")[2])


def test_no_unit_of_ours_failed_or_complained(device: Machine) -> None:
    assert "Failed to" not in device.run("journalctl --no-pager --quiet --unit='device-ui*'", check=False)


def test_the_timer_renews_the_certificate(device: Machine, image: Image, disk: Path, site: Site) -> None:
    before = certificate(device)
    device.power_off()
    later = before.not_valid_after_utc - datetime.timedelta(days=20)
    with Machine(image, disk, site.port, clock=later.strftime("%Y-%m-%dT%H:%M:%S")) as future:
        future.start()
        until(lambda: certificate(future).serial_number != before.serial_number, 240, "a new certificate at the proxy")
        after = certificate(future)
        assert after.public_key() == before.public_key()
        assert after.not_valid_after_utc > later + datetime.timedelta(days=300)
        assert future.settled() == "running"
        assert "active" in future.run("systemctl is-active device-ui-certificate.timer")
        # The next start is a new device's, and its maker's file is wrong.
        future.run(f"touch /var/lib/device-ui/factory-reset-begun && {MISTYPE}")
        future.power_off()


# The end


def test_a_reset_that_was_interrupted_is_finished_at_the_next_start(device: Machine) -> None:
    device.start()
    assert device.settled() == "running"
    assert setup_code(device), "printed on a device that is not set up, and on no other"
    erased = "/var/lib/device-ui/settings/smtp.toml /etc/credstore.encrypted/device-ui.private.key"
    assert device.run(f"ls {erased} /var/lib/device-ui/factory-reset-begun 2>/dev/null", check=False) == ""


def test_a_first_start_with_a_wrong_device_toml_makes_what_a_page_needs_and_waits(device: Machine) -> None:
    """The start of the test before: with a certificate and a setup code, by the defaults, the page can say what is wrong."""
    assert names(certificate(device))
    with waiting_event(device) as answer:
        both_wait(device, "--boot")
        device.run(CORRECT)
        assert accepted(answer) == 1
    until(lambda: Visitor(device).get("/setup").status == 200, 120, "the set-up")


def test_a_factory_reset_leaves_a_device_to_set_up(device: Machine, page: Page) -> None:
    Visitor(device).set_up(former := setup_code(device))
    printed = device.run("device-ui factory-reset --yes")
    assert "setup code" in printed.splitlines()[-1]
    until(lambda: setup_code(device) != former, 120, "a new setup code on the console")
    visit(page, "/")
    page.get_by_label("Setup code").fill(setup_code(device))
    assert device.run("device-ui event 303") == "accepted 1"


def test_a_purge_leaves_nothing(device: Machine) -> None:
    printed = device.run("dpkg --purge device-ui")
    assert "nginx" in printed
    left = device.run(
        "ls -d /var/lib/device-ui* /run/device-ui* /etc/device-ui* /etc/systemd/system/*.wants/device-ui* 2>/dev/null",
        check=False,
    )
    assert left == ""
    assert device.run("systemctl list-unit-files --no-legend 'device-ui*'", check=False) == ""
