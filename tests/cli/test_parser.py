"""The command line: what each command prints, where, and how it exits (sysexits.h)."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_ui.cli import check
from device_ui.cli.demo_server import Mailbox, Server
from device_ui.config import Folders
from device_ui.mail import client
from tests.helpers.product import (
    ADMIN_PASSWORD,
    PASSWORD,
    ROOT,
    SECONDS,
    Product,
    called,
    choose_password,
    free_port,
    settings_form,
    wait_for,
)

COMMANDS = ["run", "web", "mailhook", "event", "test", "history", "settings", "admin set-password"]
COMMANDS += ["apply", "export", "seal", "setup-code", "certificate", "rotate-key", "factory-reset", "check"]


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="called")
def called_for_product(product: Product) -> Command:
    """Runs a command for `product` in this process."""
    return product.call


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device with both processes and settings for a server that nobody runs; its tests raise events, and change nothing else."""
    with Product(tmp_path_factory.mktemp("saved")) as product:
        assert product.start().logged_in().update(**settings_form(2599)).status == 303
        yield product


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(called: Command, command):
    done = called(*command.split(), "--help")
    assert done.returncode == 0
    assert "--data" in done.stdout and len(done.stdout) > 200


@pytest.mark.parametrize("words", [[], ["fly"], ["event"], ["settings", "--format", "xml"], ["admin"]])
def test_wrong_words_are_usage_errors_of_one_line(called: Command, words):
    done = called(*words)
    assert done.returncode == 64
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_a_usage_error_is_the_exit_code_of_the_process(product: Product):
    done = product.command("event")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (64, "", 1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["event", "303"], 75),
        (["settings"], 78),
        (["settings", "--reveal"], 78),
    ],
)
def test_a_device_that_never_started_is_told_in_one_line(called: Command, words, code):
    done = called(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(r"device-ui: [^\n]+\n", done.stderr)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["event", "30"], 65),
        (["event", "3030"], 65),
        (["event", "abc"], 65),
        (["event", "303", "--time", "yesterday"], 65),
        (["event", "303", "--time", "2026-11-23T14:03:22"], 65),
    ],
)
def test_an_event_that_cannot_be_is_refused(saved: Product, words, code):
    done = saved.call(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("device-ui: ")


def test_an_event_is_accepted_with_its_number(saved: Product):
    before = client.raise_event(saved.folders.socket, "303", seconds=SECONDS)
    done = saved.command("event", "303", "--text", "x", "--source", "smart", "--time", "2026-11-23T14:03:22+09:00")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"accepted {before + 1}\n", "")


def test_the_environment_and_data_both_name_the_folders(product: Product, tmp_path):
    environment = {name: value for name, value in product.environment.items() if not name.startswith("DEVICE_UI")}
    by_option = product.command("setup-code", "--data", str(tmp_path / "a"), env=environment)
    by_variable = called({"DEVICE_UI_DATA": str(tmp_path / "a")}, "setup-code")
    assert by_option.returncode == 0
    assert by_option.stdout == by_variable.stdout


def test_settings_in_json_hold_every_field_but_the_password(saved: Product):
    found = json.loads(saved.call("settings").stdout)
    assert found == {
        "host": "127.0.0.1",
        "port": 2599,
        "sender_name": "Storage alarms",
        "account": "alarm@mail.example.com",
        "security": "auto",
        "sign_in": "manual",
        "from_address": "",
        "connection": "starttls",
        "mail_from": "alarm@mail.example.com",
    }


@pytest.mark.parametrize("kind", ["json", "env", "msmtprc"])
def test_only_reveal_shows_the_password(saved: Product, kind):
    plain = saved.call("settings", "--format", kind).stdout
    revealed = saved.call("settings", "--format", kind, "--reveal").stdout
    assert PASSWORD not in plain
    assert PASSWORD in revealed


def test_a_shell_reads_the_settings_back(saved: Product):
    found = saved.call("settings", "--format", "env", "--reveal").stdout
    script = found + 'printf "%s|" "$DEVICE_UI_SMTP_SENDER_NAME" "$DEVICE_UI_SMTP_PASSWORD"'
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"Storage alarms|{PASSWORD}|"
    assert all(len(shlex.split(line)) == 1 for line in found.splitlines())


def test_damaged_settings_are_told_and_not_shown(called: Command, product: Product, saved: Product):
    product.folders.settings.parent.mkdir(parents=True)
    product.folders.settings.write_bytes(saved.folders.settings.read_bytes().replace(b"2599", b"2598"))
    done = called("settings")
    assert (done.returncode, done.stdout) == (78, "")
    assert "damaged" in done.stderr


def test_set_password_takes_standard_input_and_ends_sessions(product: Product):
    browser = product.start_web().logged_in()
    assert browser.get("/smtp").status == 200
    done = product.call("admin", "set-password", input="another plain sentence\n")
    assert done.returncode == 0
    assert browser.get("/smtp").headers["location"] == "/login"
    assert browser.post("/login", password=ADMIN_PASSWORD).status == 403
    assert browser.post("/login", password="another plain sentence").status == 303


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "qwertyuiop[]\\qwertyuiop"])
def test_a_password_that_is_too_easy_is_refused(called: Command, product: Product, password):
    done = called("admin", "set-password", input=password + "\n")
    assert done.returncode == 65
    assert done.stderr.count("\n") == 1
    assert not product.folders.administrator.exists()


def test_the_setup_code_stays_until_it_is_used(product: Product):
    first, second = product.setup_code(), product.call("setup-code").stdout.strip()
    assert first == second
    assert re.fullmatch(r"([2-9A-HJKMNP-TV-Z]{4}-){4}[2-9A-HJKMNP-TV-Z]{4}", first)
    choose_password(product.folders.administrator)
    done = product.call("setup-code")
    assert (done.returncode, done.stdout) == (78, "")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A running device whose settings fit a demo mail server, and whose one event was mailed."""
    folder = tmp_path_factory.mktemp("demo")
    mailbox = Mailbox(folder / "demo", io.StringIO())
    server = Server(mailbox, free_port())
    server.start()
    with Product(folder) as product:
        product.start_hook("--ca-file", str(mailbox.ca_file))
        product.save(**settings_form(server.port, account=mailbox.account, password=mailbox.password))
        product.event("303", "disk 2")
        wait_for(lambda: product.state()["waiting"] == 0, what="the mail")
        yield product
    server.shutdown()
    server.server_close()


def test_a_test_tells_every_step_and_the_end(demo: Product):
    done = demo.command("test")
    assert (done.returncode, done.stderr) == (0, "")
    steps = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("OK ")]
    assert steps == "name address connect greeting ehlo tls certificate ehlo login sender recipient content".split()
    assert re.search(r"operator@mail\.demo\.example: delivered, 250 2\.0\.0 kept as [0-9]{4}\.eml\n\Z", done.stdout)


def test_a_test_can_go_to_somebody_else_and_be_json(demo: Product):
    done = demo.call("test", "--json", "--to", "other@example.com")
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"], found["advice"]) == (0, "delivered", "")
    assert [each["recipient"] for each in found["recipients"]] == ["other@example.com"]


def test_a_test_that_fails_says_what_to_change(saved: Product):
    done = saved.call("test")
    assert done.returncode == 69
    assert "FAIL  connect" in done.stdout
    assert "Nothing listens at port 2599 of 127.0.0.1: change SMTP Port" in done.stdout


def test_a_test_needs_settings(product: Product):
    done = product.start_hook().call("test")
    assert (done.returncode, done.stderr) == (78, "device-ui: no settings are stored yet\n")


def test_the_history_is_told_in_three_forms(demo: Product):
    text, one, table = (demo.call("history", *words).stdout for words in ([], ["--json"], ["--csv"]))
    assert "fault 303  Audit log space: minor threshold exceeded  [delivered]" in text
    assert text.endswith("1 of 1 events\n")
    assert json.loads(one)["deliveries"][0]["recipient"] == "operator@mail.demo.example"
    assert list(csv.reader(io.StringIO(table)))[1][3:8] == [
        "303", "Audit log space: minor threshold exceeded", "", "delivered", "disk 2",
    ]  # fmt: skip


@pytest.mark.parametrize(("words", "count"), [(["--code", "101"], 0), (["--type", "fault"], 1), (["--limit", "1"], 1)])
def test_the_history_can_be_filtered(demo: Product, words, count):
    assert len(demo.call("history", "--json", *words).stdout.splitlines()) == count


def test_a_date_that_is_none_is_told(demo: Product):
    done = demo.call("history", "--from", "yesterday")
    assert (done.returncode, done.stderr) == (65, "device-ui: from is a date, written as 2026-11-23\n")


def test_a_state_program_that_cannot_be_run_is_found_by_check(called: Command, product: Product):
    product.folders.etc.mkdir()
    (product.folders.etc / "device.toml").write_text('[mail]\nstate_command = "/nowhere/led"\n')
    line = "FAIL  state program: /nowhere/led cannot be run (mail.state_command in device.toml)"
    assert line in called("check").stdout.splitlines()


def test_a_file_of_the_makers_that_a_process_cannot_read_is_found_by_check(called: Command, product: Product):
    product.maker('[users]\nweb = "nobody"\n').folders.etc.chmod(0o700)
    told = called("check").stdout
    wrong = f"FAIL  maker's files: {product.folders.etc}/device.toml cannot be read by nobody; repair it with chmod 644, and 755 for its folder"
    assert (wrong if os.geteuid() == 0 else "OK    maker's files: device.toml") in told.splitlines()


@pytest.mark.parametrize(("mode", "well"), [(0o644, True), (0o640, False)])
def test_who_can_read_a_file_is_asked_of_the_system(mode, well):
    with tempfile.NamedTemporaryFile() as file:
        os.fchmod(file.fileno(), mode)
        needed = [("-r", Path("/")), ("-r", Path(file.name))]
        missing = None if well or os.geteuid() != 0 else needed[1]
        assert check.missing_right("nobody", needed) == missing
        assert check.missing_right("nobody", [needed[0]] * 2500 + needed) == missing
        assert check.missing_right("root", needed) is None
        assert check.missing_right("nobody-knows-me", needed) is None


def test_check_finds_nothing_on_a_sound_device(demo: Product):
    choose_password(demo.folders.administrator)
    demo.start_web()
    done = demo.command("check")
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
    assert len(done.stdout.splitlines()) >= 9


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device whose hook runs, and whose pages were never started; its tests change copies."""
    with Product(tmp_path_factory.mktemp("hooked")) as product:
        product.start_hook().call("setup-code")
        product.folders.settings.parent.mkdir(exist_ok=True)
        yield product


@pytest.fixture
def copied(hooked: Product, product: Product) -> Product:
    """Its files, to be harmed, and the hook that answers."""
    shutil.copytree(hooked.folders.data, product.folders.data)
    product.folders = Folders(product.folders.data, hooked.folders.run, product.folders.etc)
    return product


def damaged_settings(product: Product) -> None:
    product.folders.settings.write_text("nonsense")


def open_key(product: Product) -> None:
    product.folders.private_key.chmod(0o644)


def damaged_key(product: Product) -> None:
    product.folders.public_key.write_bytes(b"")


def damaged_administrator(product: Product) -> None:
    product.folders.administrator.write_bytes(b"\0" * 100)


def broken_catalogue(product: Product) -> None:
    product.folders.etc.mkdir()
    (product.folders.etc / "events.toml").write_text("[1]\n")


def mail_about_mail(product: Product) -> None:
    product.folders.etc.mkdir()
    text = '[306]\ntype = "fault"\nname = "Mail failed"\ndescription = "It did."\n'
    (product.folders.etc / "events.toml").write_text(text)


def proxy_by_name(product: Product) -> None:
    product.maker('[web]\ntrusted_proxy = "nginx"\n')


def broken_words(product: Product) -> None:
    product.folders.etc.mkdir()
    (product.folders.etc / "ko.toml").write_text('"{count} infos" = "x"\n')


def no_hook(product: Product) -> None:
    product.folders = Folders(product.folders.data, product.folder / "run", product.folders.etc)


def set_aside(product: Product) -> None:
    product.folders.settings.with_name("smtp.toml.damaged-1").write_bytes(b"x")


def missing_key(product: Product) -> None:
    product.folders.private_key.unlink()


HARMS = [
    (damaged_settings, "SMTP settings"),
    (open_key, "private key"),
    (missing_key, "private key"),
    (damaged_key, "public key"),
    (damaged_administrator, "administrator"),
    (broken_catalogue, "event catalogue"),
    (mail_about_mail, "event catalogue"),
    (proxy_by_name, "pages"),
    (broken_words, "languages"),
    (no_hook, "mail hook"),
    (set_aside, "set aside"),
]


def wrong_lines(done: subprocess.CompletedProcess[str], subject: str) -> list[str]:
    """What check has against a subject."""
    return [each for each in done.stdout.splitlines() if each.startswith((f"FAIL  {subject}: ", f"WARN  {subject}: "))]


@pytest.mark.parametrize(("harm", "subject"), HARMS)
def test_check_names_what_is_wrong(copied: Product, harm, subject):
    harm(copied)
    done = copied.call("check")
    assert done.returncode == 78
    assert wrong_lines(done, subject), done.stdout


def test_check_names_none_of_it_before_it_is_wrong(hooked: Product):
    done = hooked.call("check")
    assert [each for _, subject in HARMS for each in wrong_lines(done, subject)] == []


def test_a_broken_maker_file_stops_the_start_with_its_line(called: Command, product: Product):
    product.folders.etc.mkdir()
    (product.folders.etc / "device.toml").write_text("[locks]\nsecurity = maybe\n")
    done = called("check")
    assert done.returncode == 78
    assert "line 2" in done.stderr


def test_a_device_that_cannot_be_written_is_an_input_output_error(called: Command, product: Product):
    product.folders.data.parent.mkdir(parents=True, exist_ok=True)
    product.folders.data.write_text("a file where the folder should be")
    done = called("setup-code")
    assert done.returncode == 74
    assert done.stderr.count("\n") == 1


def started_run(product: Product, *options: str) -> tuple[subprocess.Popen[str], str]:
    """``device-ui run`` up to its last line of greeting; the process and what it printed."""
    port = free_port()
    words = [sys.executable, "-u", "-m", "device_ui", "run", "--listen", f"127.0.0.1:{port}", *options]
    log = product.folder / "run.log"
    with log.open("w") as out:
        process = subprocess.Popen(words, env=product.environment, cwd=ROOT, stdout=out, stderr=out, text=True)
    last = "Ctrl-C ends both." if "--demo" in options else "is ready"
    wait_for(lambda: last in log.read_text() or process.poll() is not None, what="run")
    product.port = port
    return process, log.read_text()


def children(pid: int) -> list[int]:
    """The process's children that are still there."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_prints_the_setup_link_and_leaves_nothing_behind(product: Product, number):
    process, told = started_run(product)
    try:
        assert re.search(rf"http://127\.0\.0\.1:{product.port}/setup\?code=[A-Z0-9-]{{24}}", told)
        both = children(process.pid)
        assert len(both) == 2
        assert product.browser().get("/login").status == 303
    finally:
        process.send_signal(number)
        assert process.wait(60) == 0
    assert all(gone(pid) for pid in both)


def test_run_ends_with_an_error_when_one_of_the_two_ends(product: Product):
    process, _ = started_run(product)
    try:
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert process.wait(60) == 70
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("command", "listen"),
    [("web", "127.0.0.1:99999"), ("web", "127.0.0.1:x"), ("web", "nonsense"), ("run", "127.0.0.1:99999")],
)
def test_an_address_that_cannot_be_is_one_line(product: Product, command, listen):
    done = product.command(command, "--listen", listen)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 78
    assert last.startswith(f"device-ui: the pages cannot be served at {listen}: ")
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, str]]:
    """``device-ui run --demo`` with data in a folder of an odd name, and what it printed before its first mail."""
    product = Product(tmp_path_factory.mktemp("demonstrated"))
    data = product.folder / "a folder; with $signs"
    product.folders = Folders(data, product.folders.run, product.folders.etc)
    process, told = started_run(product, "--demo", "--data", str(data))
    try:
        yield product, told
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_run_says_in_one_line_that_the_port_is_taken(demonstrated):
    product, _ = demonstrated
    other = {**product.environment, "DEVICE_UI_RUN": str(product.folder / "b" / "run")}
    words = ["run", "--listen", f"127.0.0.1:{product.port}", "--data", str(product.folder / "b")]
    second = product.command(*words, env=other)
    assert second.returncode != 0
    assert "cannot be served" in second.stderr
    assert second.stderr.count("\n") == 1


def test_a_second_run_on_the_same_data_says_so_before_anything_else(hooked: Product):
    second = hooked.command("run", "--demo", "--listen", f"127.0.0.1:{hooked.port}")
    assert (second.returncode, second.stdout) == (78, "")
    assert second.stderr == f"device-ui: already running: a mail hook answers at {hooked.folders.socket}\n"
    assert not (hooked.folders.data / "demo").exists()


def test_the_printed_event_command_is_one_for_a_shell(demonstrated):
    product, told = demonstrated
    (line,) = re.findall(r"^    (.* event 303 .*)$", told, re.MULTILINE)
    done = subprocess.run(["sh", "-c", line], env=product.environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("accepted 1\n", "")


def test_the_demo_prints_what_to_type_and_the_mail_arrives(demonstrated):
    product, told = demonstrated
    values = dict(re.findall(r"^    (SMTP [A-Za-z ]+?)\s{2,}(\S+)$", told, re.MULTILINE))
    form = settings_form(
        int(values["SMTP Port"]),
        host=values["SMTP Host"],
        account=values["SMTP Account Address"],
        password=values["SMTP Account Password"],
    )
    assert product.logged_in().update(**form).status == 303
    product.event("304", "it works")
    mails = product.folders.data / "demo"
    wait_for(lambda: list(mails.glob("*.eml")), what="the mail")
    wait_for(lambda: "it works" in (product.folder / "run.log").read_text(), what="the print of the mail")


def test_mail_waits_for_a_server_and_goes_out_when_it_is_there(product: Product, tmp_path):
    mailbox = Mailbox(tmp_path / "demo", out=io.StringIO())
    product.start("--ca-file", str(mailbox.ca_file))
    product.event("304", "before the settings")
    server = Server(mailbox, free_port())
    server.start()
    try:
        form = settings_form(server.port, account=mailbox.account, password=mailbox.password)
        assert product.logged_in().update(**form).status == 303
        wait_for(lambda: list(mailbox.folder.glob("*.eml")), what="the mail")
    finally:
        server.shutdown()
        server.server_close()


def test_a_typing_error_of_the_maker_loses_no_alarm(product: Product, saved: Product):
    product.folders = Folders(product.folders.data, saved.folders.run, product.folders.etc)
    product.maker("[locks]\nsecurty = true\n")
    assert product.call("event", "303").returncode == 0
    assert product.command("sendmail", "root", input="x\n").returncode == 0
    assert product.call("check").returncode == 78


def test_what_a_user_may_not_read_is_a_matter_of_permission(saved: Product):
    for folder in (saved.folder, *saved.folder.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    child = (
        "import os, sys\nsys.path[:0] = sys.argv[1].split(os.pathsep)\n"
        "from device_ui.cli.parser import main\nmain(['settings'])\n"  # once as root: this user cannot read modules
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\nsys.exit(main(['settings']))"
    )
    words = [sys.executable, "-c", child, os.pathsep.join(sys.path)]
    # This user can write nowhere, so its coverage is not measured.
    environment = {name: value for name, value in saved.environment.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.count('"host"'), done.stderr.count("\n")) == (77, 1, 1), done.stderr


def test_root_at_the_console_makes_folders_for_those_who_need_them(product: Product):
    product.folders.etc.mkdir()
    (product.folders.etc / "device.toml").write_text('[users]\nweb = "daemon"\nmail = "bin"\n')
    assert product.call("setup-code").returncode == 0
    web, settings = product.folders.administrator.parent, product.folders.settings.parent
    assert (web.owner(), oct(web.stat().st_mode & 0o7777)) == ("daemon", "0o700")
    assert (settings.owner(), settings.group(), oct(settings.stat().st_mode & 0o7777)) == ("daemon", "bin", "0o2750")
    assert product.folders.administrator.owner() == "daemon"
    mail, public = product.folders.private_key.parent, product.folders.public_key.parent
    assert (mail.owner(), oct(mail.stat().st_mode & 0o7777)) == ("bin", "0o700")
    assert (public.owner(), oct(public.stat().st_mode & 0o7777)) == ("bin", "0o755")


def test_run_serves_an_ipv6_address(product: Product):
    port = free_port()
    words = [sys.executable, "-m", "device_ui", "run", "--listen", f"[::1]:{port}"]
    log = product.folder / "run.log"
    with log.open("w") as out:
        process = subprocess.Popen(words, env=product.environment, cwd="/", stdout=out, stderr=out)
    try:
        wait_for(lambda: "is ready" in log.read_text() or process.poll() is not None, what="run")
        assert f"http://[::1]:{port}/setup?code=" in log.read_text()
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_make_install_needs_nothing_but_python_and_runs_from_there(tmp_path):
    prefix = tmp_path / "usr"
    words = ["make", "--silent", "install", f"PREFIX={prefix}", f"PYTHON={sys.executable}"]
    subprocess.run(words, cwd=ROOT, check=True, timeout=60)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, prefix / "bin" / "device-ui", "check", "--data", tmp_path / "data"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60)
    assert "OK    event catalogue" in done.stdout, done.stderr
    assert list(prefix.rglob("__pycache__/*.pyc"))
    assert (prefix / "lib/device-ui/static/style.css").exists() and (prefix / "lib/device-ui/views/smtp.tpl").exists()


def test_make_install_stages_below_destdir(tmp_path):
    words = ["make", "--silent", "install", f"DESTDIR={tmp_path}", "PREFIX=/usr", f"PYTHON={sys.executable}"]
    subprocess.run(words, cwd=ROOT, check=True, timeout=60)
    assert "/usr/lib/device-ui" in (tmp_path / "usr/bin/device-ui").read_text()
    assert (tmp_path / "usr/lib/device-ui/device_ui/__main__.py").exists()
