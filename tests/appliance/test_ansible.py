"""The Ansible role, run by ansible-core over SSH against two devices: once it changes, a second time it does not."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.settings.store import NotificationStore, RecipientStore
from tests.helpers.product import PASSWORD, ROOT, SECONDS, Product, free_port, wait_for

ROLES = ROOT / "device_ui" / "appliance" / "ansible"
DEVICES = ("ups-17.example.com", "ups-18.example.com")
GUIDE = (ROOT / "docs" / "appliance.md").read_text()
# ansible-core runs in UTF-8 alone.
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8"}
# What the tests look at, after the guide's play.
MORE = """
  post_tasks:
    - ansible.builtin.copy:
        dest: "{{ inventory_dir }}/{{ inventory_hostname }}.facts"
        content: "{{ device_ui | to_json }}"
        mode: "0644"
      delegate_to: localhost
      when: not ansible_check_mode
"""


def example(name: str) -> str:
    """The example of the guide whose first line names this file."""
    [text] = re.findall(rf"^```(?:yaml|ini)\n(# {re.escape(name)}[;\n].*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return str(text)


@contextlib.contextmanager
def sshd(folder: Path, product: Product, key: Path) -> Iterator[int]:
    """An SSH server on loopback whose sessions are on this device; the port."""
    port = free_port()
    host_key = folder / f"host-{port}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True, timeout=SECONDS)
    folders = {
        name: value for name, value in product.environment.items() if name.startswith(("DEVICE_UI_", "PYTHONPATH"))
    }
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host_key}",
        f"AuthorizedKeysFile {key}.pub",
        "AuthenticationMethods publickey",
        "PermitRootLogin prohibit-password",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        f"SetEnv {' '.join(f'{name}={value}' for name, value in folders.items())}",
    ]
    config = folder / f"sshd-{port}.conf"
    config.write_text("\n".join(lines) + "\n")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd(8), FILES
    log = folder / f"sshd-{port}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config], stderr=stream)
    try:
        wait_for(lambda: "Server listening" in log.read_text(), what=f"sshd: {log.read_text()}")
        yield port
    finally:
        process.terminate()
        process.wait(SECONDS)


@dataclass
class Fleet:
    """A repository of an operator, and two devices."""

    folder: Path
    devices: dict[str, Product]

    def play(self, *options: str) -> tuple[int, dict[str, dict[str, int]], str]:
        """Run the role; its exit code, the recap by device, and everything it wrote."""
        words = [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventory", "site.yml", "-vv"]
        environment = {
            **ENVIRONMENT,
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "HOME": str(self.folder / "home"),
            "ANSIBLE_HOME": str(self.folder / "home"),
        }
        words += ["--vault-password-file", "vault-password", *options]
        done = subprocess.run(
            words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=550, check=False
        )
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        lines = re.findall(r"^(\S+) +: (.*)$", recap, re.MULTILINE)
        counts = {host: {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)} for host, line in lines}
        return done.returncode, counts, done.stdout + done.stderr


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=SECONDS)
    with contextlib.ExitStack() as stack:
        devices = {}
        (folder / "host_vars").mkdir()
        for name in DEVICES:
            (folder / name).mkdir()
            product = devices[name] = stack.enter_context(Product(folder / name)).start_hook()
            here = {
                "ansible_host": "127.0.0.1",
                "ansible_port": stack.enter_context(sshd(folder, product, key)),
                "device_ui_data": str(product.folders.data),
            }
            (folder / "host_vars" / f"{name}.yml").write_text(json.dumps(here))
        here = {
            # The program of this checkout; sudo would forget the folders of its device.
            "device_ui_command": [sys.executable, "-m", "device_ui"],
            "ansible_become": False,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(key),
            # The system's, as on an appliance: each task starts it anew.
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=accept-new",
        }
        # The guide's files, and beside them what is different here.
        (folder / "inventory").write_text(example("inventory"))
        (folder / "site.yml").write_text(example("site.yml") + MORE.lstrip("\n"))
        (folder / "ansible.cfg").write_text(
            # ansible looks every millisecond, by default, whether a device has answered.
            f"[defaults]\nroles_path = {ROLES}\nhost_key_checking = true\ninternal_poll_interval = 0.05\n"
            "[ssh_connection]\npipelining = true\n"
        )
        (folder / "vault-password").write_text("a vault of the tests\n")
        group = folder / "group_vars" / "appliances"
        group.mkdir(parents=True)
        (group / "main.yml").write_text(example("group_vars/appliances/main.yml"))
        (group / "here.yml").write_text(json.dumps(here))
        vault = group / "vault.yml"
        vault.write_text(f'vault_smtp_password: "{PASSWORD}"\n')
        ansible_vault = Path(sys.executable).with_name("ansible-vault")
        words = [ansible_vault, "encrypt", "--vault-password-file", folder / "vault-password", vault]
        subprocess.run(words, env=ENVIRONMENT, check=True, capture_output=True, timeout=120)
        assert PASSWORD not in vault.read_text()
        yield Fleet(folder, devices)


@pytest.mark.timeout(2400)
def test_the_role_sets_up_two_devices_once(fleet: Fleet):
    """Check mode for one of them, twice for real with a plain password in a vault, then a replaced device and a broken document."""
    code, recap, output = fleet.play("--check", "-l", DEVICES[0])
    assert code == 0, output
    # The document would be applied, and the key pinned.
    assert [(name, each["changed"] >= 2) for name, each in recap.items()] == [(DEVICES[0], True)], output
    assert not (fleet.folder / "device_ui_keys").exists()
    for product in fleet.devices.values():
        assert not product.folders.settings.exists()
    code, recap, output = fleet.play()
    assert code == 0, output
    assert all(each["failed"] == 0 for each in recap.values())
    # The key is pinned, the document applied, and the facts of `MORE` kept; the folder of the keys is made for the first device.
    assert sorted(each["changed"] for each in recap.values()) == [3, 4], output
    assert PASSWORD not in output
    before = {}
    for name, product in fleet.devices.items():
        folders = product.folders
        assert [each.address for each in RecipientStore(folders.recipients).read()[0]] == [
            "noc@example.com",
            "ops@example.com",
        ]
        assert NotificationStore(folders.notifications).read()[0].of("304") == "summary"
        facts = json.loads((fleet.folder / f"{name}.facts").read_text())
        assert facts["document"]["smtp"]["sender_name"] == name
        assert facts["public_key"] == (fleet.folder / "device_ui_keys" / f"{name}.pub").read_text()
        assert facts["public_key"] == folders.public_key.read_text()
        assert PASSWORD not in json.dumps(facts)
        revealed = product.command("settings", "--reveal", "--format", "json")
        assert json.loads(revealed.stdout)["password"] == PASSWORD
        before[name] = {each: each.stat().st_mtime_ns for each in folders.settings.parent.iterdir()}
    code, recap, output = fleet.play()
    assert (code, {name: each["changed"] for name, each in recap.items()}) == (0, {name: 0 for name in DEVICES}), output
    for name, product in fleet.devices.items():
        assert {each: each.stat().st_mtime_ns for each in product.folders.settings.parent.iterdir()} == before[name]
    # One device is replaced: another key than the pinned one. The other is not held up, and has a broken document: each field is named.
    one, other = DEVICES
    shutil.copy(fleet.devices[other].folders.public_key, fleet.folder / "device_ui_keys" / f"{one}.pub")
    variables = fleet.folder / "host_vars" / f"{other}.yml"
    here = json.loads(variables.read_text())
    variables.write_text(json.dumps({**here, "device_ui_document": {"smtp": {"port": 0}, "colour": "red"}}))
    code, recap, output = fleet.play()
    assert code != 0
    assert {name: each["failed"] for name, each in recap.items()} == {one: 1, other: 1}
    found = dict(re.findall(r"^fatal: \[(\S+)\]: FAILED! => (.*?)^(?=\S)", output, re.MULTILINE | re.DOTALL))
    assert "does not have the pinned public key" in found[one]
    assert "Please enter an SMTP port between 1 and 49151." in found[other] and "colour" in found[other]
