"""``device-ui apply``, ``export`` and ``seal`` as commands: what they print, and how they exit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email import message_from_bytes, policy

import pytest

from device_ui.settings import keys
from device_ui.settings.store import Store
from tests.helpers.product import PASSWORD, ROOT, SECONDS, Product, called, free_port, read_only, wait_for
from tests.provisioning.test_apply import SMTP, TAB, WHOLE
from tests.security import test_separation
from tests.security.test_separation import HOOK, MEMBER, STRANGER, WEB, Installed
from tests.servers.scripted import ScriptedServer

home, python = test_separation.home, test_separation.python

DOCUMENT = f"""
device_ui = 1
[smtp]
host = "relay.example.com"
port = 587
sender_name = "UPS 17"
account = "ups@example.com"
password = "{PASSWORD}"
[recipients]
"noc@example.com" = "fault"
"ops@example.com" = "info ko"
"""


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device whose mail hook runs, so that it has its keys."""
    with Product(tmp_path_factory.mktemp("hooked")) as product:
        yield product.start_hook()


@pytest.fixture
def hooked(hook: Product) -> Product:
    """The same without what an earlier test applied."""
    for path in (hook.folders.settings, hook.folders.recipients, hook.folders.notifications):
        path.unlink(missing_ok=True)
    return hook


# A controller has no folder of a device.
NOWHERE = {"DEVICE_UI_DATA": "/nonexistent"}


def sealed_document(device: Product, **changes: object) -> str:
    """A document that the controller has sealed for this device."""
    text = json.dumps({**WHOLE, "smtp": {**SMTP, **changes}})
    done = called(NOWHERE, "seal", "--to", keys.load_public(device.folders.public_key).hex(), "-", input=text)
    assert (done.returncode, PASSWORD in done.stdout) == (0, False), done.stderr
    return done.stdout


def test_controller_seals_with_nothing_of_a_device(hooked):
    """As a process of its own, on a machine with the packages alone."""
    nowhere = {**NOWHERE, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    words = [sys.executable, "-m", "device_ui", "seal", "--to", keys.load_public(hooked.folders.public_key).hex(), "-"]
    run = {"capture_output": True, "text": True, "timeout": SECONDS}
    done = subprocess.run(words, env=nowhere, cwd="/", input=json.dumps({**WHOLE, "smtp": SMTP}), **run)
    assert (done.returncode, PASSWORD in done.stdout) == (0, False), done.stderr
    assert hooked.call("apply", "-", input=done.stdout).returncode == 0


def test_document_of_toml_from_standard_input_is_applied_and_the_second_run_says_so(hooked):
    first = hooked.command("apply", "-", "--json", input=DOCUMENT)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["changed"] is True
    second = hooked.call("apply", "-", "--json", input=DOCUMENT)
    assert (second.returncode, json.loads(second.stdout)) == (0, {"changed": False})
    assert hooked.call("apply", "-", input=DOCUMENT).stdout == "Nothing changed.\n"


def test_changes_are_listed_for_a_person(hooked, tmp_path):
    (tmp_path / "document.toml").write_text(DOCUMENT.replace("587", "25"))
    hooked.call("apply", str(tmp_path / "document.toml"))
    done = hooked.call("apply", "-", input=DOCUMENT.replace('"noc@example.com" = "fault"\n', ""))
    assert done.stdout.splitlines() == [
        "smtp: port: 25 → 587",
        "smtp: password replaced",
        "recipients: removed noc@example.com",
    ]


def test_dry_run_writes_nothing_and_exits_as_diff(hooked):
    done = hooked.call("apply", "-", "--dry-run", "--json", input=DOCUMENT)
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (1, True)
    assert not hooked.folders.settings.exists()
    hooked.call("apply", "-", input=DOCUMENT)
    assert hooked.call("apply", "-", "--dry-run", input=DOCUMENT).returncode == 0


def test_broken_fields_are_one_line_each_and_65(hooked):
    broken = DOCUMENT.replace("587", "0").replace(PASSWORD, "short").replace('"fault"', '"faults"')
    done = hooked.call("apply", "-", input=broken)
    assert (done.returncode, done.stdout) == (65, "")
    assert [line.partition(": ")[2].partition(": ")[0] for line in done.stderr.splitlines()] == [
        "smtp.port",
        "smtp.password",
        "recipients.noc@example.com",
    ]
    assert "device-ui: smtp.port: Please enter an SMTP port between 1 and 49151.\n" in done.stderr
    answer = json.loads(hooked.call("apply", "-", "--json", input=broken).stdout)
    assert answer["changed"] is False
    assert answer["broken"]["smtp.port"] == {"sentence": "Please enter an SMTP port between 1 and 49151.", "hints": []}
    assert "short" not in json.dumps(answer)


def test_sealed_document_of_a_machine_without_a_data_folder_is_applied(hooked):
    text = sealed_document(hooked)
    assert hooked.call("apply", "-", input=text).returncode == 0
    settings = Store(hooked.folders.settings).read()[0]
    assert settings and keys.load_password(hooked.folders.private_key, settings) == PASSWORD
    assert settings.sealed == json.loads(text)["smtp"]["sealed"]


def test_password_that_is_sealed_for_another_server_is_78_and_writes_nothing(hooked):
    content = json.loads(sealed_document(hooked))
    content["smtp"]["host"] = "evil.example.com"
    done = hooked.call("apply", "-", "--json", input=json.dumps(content))
    assert done.returncode == 78 and "typed for another server" in done.stderr
    assert json.loads(done.stdout)["changed"] is False
    assert not hooked.folders.settings.exists()


def test_password_that_was_sealed_before_the_key_was_rotated_is_78_and_says_seal_again(product):
    hooked = product.start_hook()
    text = sealed_document(hooked)
    hooked.call("apply", "-", input=text)
    assert hooked.call("rotate-key").returncode == 0
    done = hooked.call("apply", "-", input=text)
    assert done.returncode == 78 and "seal it again for this device's key" in done.stderr


@pytest.mark.parametrize("fault", ["server", "key", ""])
def test_hook_says_whether_a_password_opens_where_the_private_key_cannot_be_read(hooked, tmp_path, fault):
    """As with a key that systemd encrypted for the hook: the command's folder has none."""
    content = json.loads(sealed_document(hooked))
    if fault == "server":
        content["smtp"]["port"] = 465
    if fault == "key":
        pair = keys.load_pair(tmp_path / "a.key", tmp_path / "a.pub")
        content["smtp"] = {**TAB, "sealed": content["smtp"]["sealed"].replace(content["smtp"]["sealed"][6:22], pair.id)}
    view = tmp_path / "view"
    view.mkdir()
    for name in ("public", "settings", "web"):
        (hooked.folders.data / name).mkdir(exist_ok=True)
        (view / name).symlink_to(hooked.folders.data / name)
    (view / "mail").mkdir(mode=0o700)
    environment = {**hooked.environment, "DEVICE_UI_DATA": str(view)}
    done = called(environment, "apply", "-", input=json.dumps(content))
    said = {"server": "typed for another server", "key": "seal it again", "": ""}[fault]
    assert (done.returncode, said in done.stderr) == (78 if fault else 0, True), done.stderr


def test_device_without_a_key_is_75(product):
    done = product.call("apply", "-", input=DOCUMENT)
    assert done.returncode == 75 and "no key yet" in done.stderr


def test_root_and_the_pages_user_may_apply_and_nobody_else(home, python, tmp_path):
    """The pages' user cannot open a sealed password: the mail hook does."""
    folder = home / tmp_path.name
    folder.mkdir()
    with Installed(folder, python) as device:
        device.start_hook(**HOOK)
        text = sealed_document(device)
        assert device.command("apply", "-", input=text).returncode == 0
        files = [device.folders.settings, device.folders.recipients]
        assert {(path.owner(), path.group(), path.stat().st_mode & 0o777) for path in files} == {
            ("daemon", "bin", 0o640)
        }
        again, other = sealed_document(device), json.loads(text)
        assert device.command("apply", "-", input=text, **WEB).stdout == "Nothing changed.\n"
        assert device.command("apply", "-", input=again, **WEB).stdout == "smtp: password replaced\n"
        other["smtp"]["host"] = "evil.example.com"
        assert device.command("apply", "-", input=json.dumps(other), **WEB).returncode == 78
        for who in (MEMBER, STRANGER):
            done = device.command("apply", "-", input=text.replace("587", "25"), **who)
            assert (done.returncode, done.stdout) == (77, ""), done.stderr
        assert device.command("export", **STRANGER).returncode == 77
        assert device.command("export", "--seal-to", str(device.folders.public_key), **WEB).returncode == 77


def test_read_only_flash_is_75(hooked):
    hooked.call("apply", "-", input=DOCUMENT)
    with read_only(hooked.folders.settings.parent):
        done = hooked.call("apply", "-", input=DOCUMENT.replace("587", "25"))
    assert done.returncode == 75, done.stderr


def test_missing_file_and_missing_words_are_reported(product):
    assert product.call("apply").returncode == 64
    assert product.call("seal", "-").returncode == 64
    assert product.call("apply", "/nonexistent/file").returncode == 71


def test_export_is_applied_again_without_a_change(hooked):
    hooked.call("apply", "-", input=DOCUMENT)
    exported = hooked.call("export")
    assert tomllib.loads(exported.stdout)["smtp"]["password_set"] is True
    assert json.loads(hooked.call("export", "--json").stdout) == tomllib.loads(exported.stdout)
    assert hooked.call("apply", "-", input=exported.stdout).stdout == "Nothing changed.\n"


def test_backup_that_is_sealed_to_the_operator_is_sealed_again_for_a_new_device(hooked, tmp_path):
    hooked.call("apply", "-", input=DOCUMENT)
    key = tmp_path / "operator.key"
    made = hooked.call("seal", "--new-key", str(key))
    assert made.returncode == 0 and len(made.stdout.strip()) == 64 and key.stat().st_mode & 0o777 == 0o600
    assert hooked.call("seal", "--new-key", str(key)).returncode == 78
    backup = hooked.call("export", "--seal-to", f"{key}.pub").stdout
    assert PASSWORD not in backup
    with Product(tmp_path / "new") as new:
        new.folder.mkdir()
        new.start_hook()
        assert new.call("apply", "-", input=backup).returncode == 78
        public = str(new.folders.public_key)
        assert new.call("seal", "--to", public, "-", input=backup).returncode == 78
        again = new.call("seal", "--open", str(key), "--to", public, "-", input=backup)
        assert new.call("apply", "-", input=again.stdout).returncode == 0, again.stderr
        settings = Store(new.folders.settings).read()[0]
        assert settings and keys.load_password(new.folders.private_key, settings) == PASSWORD


@pytest.mark.parametrize("way", ["repository", "nightly"])
def test_replaced_device_mails_as_the_old_one_did_and_its_mail_names_another_ledger(tmp_path, way):
    """From the document of the fleet's repository, or from a nightly export that is sealed to the operator."""
    with (
        ScriptedServer(features=("AUTH PLAIN LOGIN",)) as server,
        Product(tmp_path / "old") as old,
        Product(tmp_path / "new") as new,
    ):
        old.folder.mkdir()
        old.start_hook()
        relay = {"host": "127.0.0.1", "port": server.port, "security": "none"}
        content = json.dumps({**WHOLE, "smtp": {**SMTP, **relay}})
        assert old.call("apply", "-", input=content).returncode == 0
        assert old.event("303", "the old one") == 1
        wait_for(lambda: server.mails, what="the old device's mail")
        key = tmp_path / "operator.key"
        old.call("seal", "--new-key", str(key))
        backup = old.call("export", "--seal-to", f"{key}.pub").stdout
        old.stop("mailhook")
        new.folder.mkdir()
        new.start_hook()
        public = str(new.folders.public_key)
        given = {"repository": (content, []), "nightly": (backup, ["--open", str(key)])}[way]
        sealed = new.call("seal", *given[1], "--to", public, "-", input=given[0])
        assert PASSWORD not in sealed.stdout
        assert new.call("apply", "-", input=sealed.stdout).returncode == 0, sealed.stderr
        assert new.call("apply", "-", input=sealed.stdout).stdout == "Nothing changed.\n"
        assert new.event("303", "the new one") == 1  # numbers begin anew
        wait_for(lambda: len(server.mails) == 2, what="the new device's mail")
        mails = [message_from_bytes(each, policy=policy.SMTP) for each in server.mails]
        assert [each["X-Device-Event-Number"] for each in mails] == ["1", "1"]
        assert mails[0]["To"] == mails[1]["To"]
        ledgers = [re.fullmatch(r"<1\.([0-9a-f]{16})@.*>", each["Message-ID"])[1] for each in mails]
        assert ledgers[0] != ledgers[1]


def test_document_without_a_password_cannot_be_sealed(hooked):
    done = hooked.call("seal", "--to", str(hooked.folders.public_key), "-", input=json.dumps({**WHOLE, "smtp": TAB}))
    assert (done.returncode, done.stdout) == (65, "")
    assert "smtp.password" in done.stderr


def test_schema_is_a_json_schema_that_these_documents_satisfy(product):
    # Its import takes two seconds, which every worker that collects this file would pay.
    import jsonschema

    schema = json.loads(product.call("apply", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(WHOLE) and validator.is_valid(tomllib.loads(DOCUMENT))
    for wrong in (
        {},
        {**WHOLE, "smpt": {}},
        {**WHOLE, "smtp": {**SMTP, "prot": 1}},
        {**WHOLE, "recipients": {"a@b.c": "all"}},
    ):
        assert not validator.is_valid(wrong)
    assert not validator.is_valid({**WHOLE, "smtp": {**SMTP, "sealed": "hpke1." + "0" * 16 + "." + "A" * 64}})


def test_history_says_that_apply_changed_the_server(product):
    hooked = product.start_hook()
    with ScriptedServer(port=free_port()) as before, ScriptedServer(port=free_port()) as after:
        relay = {"host": "127.0.0.1", "sender_name": "UPS 17", "account": "ups@example.com", "security": "none"}

        def apply(port: int) -> None:
            content = {"device_ui": 1, "smtp": {**relay, "port": port, "sign_in": "none"}}
            assert hooked.call("apply", "-", input=json.dumps(content)).returncode == 0

        apply(before.port)
        hooked.event("303", "the first")
        wait_for(lambda: before.mails and not hooked.state()["waiting"], what="the first alarm")
        apply(after.port)
        wait_for(lambda: len(before.mails) == 2, what="the warning")
        history = [json.loads(line) for line in hooked.call("history", "--json").stdout.splitlines()]
        assert [each["source"] for each in history if each["code"] == "902"] == ["by apply"]
        warning = message_from_bytes(before.mails[1], policy=policy.SMTP)
        assert re.search("Source: +by apply", warning.get_body(("plain",)).get_content())
