"""Run by `test_package` as root of a machine that is thrown away: install a package, use it as two users, upgrade it, remove it.

What was found is printed as JSON. It imports nothing but the standard library: nothing of the checkout is in reach.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

FOLDERS = ("settings", "web", "mail", "public")
LINKS = "/etc/systemd/system/*.wants/device-ui*"
CREDENTIAL = "/etc/credstore.encrypted/device-ui.private.key"
PLACES = (
    "/etc/device-ui*",
    "/run/device-ui*",
    "/usr/*/device-ui*",
    "/usr/lib/python3/dist-packages/device_ui",
    "/var/lib/device-ui*",
    CREDENTIAL,
    LINKS,
)
PROXY = "/etc/nginx/conf.d/nas.conf"
SECONDS = 20.0


def told(*words: str) -> str:
    """What a program prints."""
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def tried(look):
    """What `look` gives, once it gives something."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return look()
    raise SystemExit("nothing answers")


DATA, PRERM = "/var/lib/device-ui", "/var/lib/dpkg/info/device-ui.prerm"
# In the place of systemctl: writes down what it was asked.
ASKED = "/root/asked"
SYSTEMCTL = f"""#!/bin/sh
echo "$@" >>{ASKED}
[ "$2" != is-enabled ] || echo enabled
"""


@contextlib.contextmanager
def booted() -> Iterator[list[str]]:
    """A machine that looks as if systemd ran; yields what it was asked, once that is over."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(ASKED)
    os.unlink("/usr/bin/systemctl")
    with open("/usr/bin/systemctl", "w") as file:
        file.write(SYSTEMCTL)
    os.chmod("/usr/bin/systemctl", 0o755)
    os.makedirs("/run/systemd/system")
    asked: list[str] = []
    yield asked
    os.rmdir("/run/systemd/system")
    with open(ASKED) as file:
        asked += file.read().splitlines()


def upgraded(package: str) -> list[str]:
    """What systemd is asked when the package is installed over itself."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/usr/sbin/policy-rc.d")
    with booted() as asked:
        told("dpkg", "--install", package)
    return asked


def kept_after_all() -> list[str]:
    """What systemd is asked when the package is to be removed and its last script before that fails: dpkg keeps it."""
    with open(PRERM, "a") as file:
        file.write("exit 1\n")
    with booted() as asked:
        subprocess.run(["dpkg", "--remove", "device-ui"], capture_output=True, timeout=60)
    with open(PRERM) as file:
        text = file.read()
    with open(PRERM, "w") as file:
        file.write(text.removesuffix("exit 1\n"))
    return asked


def main(package: str, port: str, example: str) -> None:
    """Install, use, upgrade, remove, purge."""
    subprocess.run(["dpkg", "--install", package], check=True, stdout=subprocess.DEVNULL)
    found = {name: told("stat", "-c", "%a %U:%G", f"/var/lib/device-ui/{name}") for name in FOLDERS}
    found["units"] = sorted(os.path.basename(each) for each in glob.glob(LINKS))
    with booted() as found["reset"]:
        found["reset_told"] = told("device-ui", "factory-reset", "--yes")
    web = ["device-ui", "web", "--listen", f"127.0.0.1:{port}"]
    processes = [
        subprocess.Popen(["runuser", "-u", user, "--", *words], stderr=subprocess.DEVNULL)
        for user, words in (("device-mail", ["device-ui", "mailhook"]), ("device-ui", web))
    ]
    found["event"] = tried(lambda: told("device-ui", "event", "303"))
    words = ["/usr/bin/python3", "-c", f"{example}\nprint(number)"]
    found["imported"] = subprocess.run(words, capture_output=True, text=True).stdout.strip()
    found["page"] = tried(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/setup").read().decode())
    found["check"] = subprocess.run(["device-ui", "check"], capture_output=True, text=True).stdout
    for process in processes:
        process.terminate()
        process.wait(SECONDS)
    found["upgrade"] = upgraded(package)
    found["abort"] = kept_after_all()
    os.makedirs("/etc/credstore.encrypted", exist_ok=True)
    with open(CREDENTIAL, "w") as file:
        file.write("as docs/appliance.md has it made")
    told("dpkg", "--remove", "device-ui")
    found["kept"] = os.path.exists("/var/lib/device-ui/mail/ledger.sqlite3") and os.path.exists(CREDENTIAL)
    # What systemd and an operator leave.
    os.makedirs("/run/device-ui-web")
    open("/run/device-ui-web/web.sock", "w").close()
    os.makedirs(os.path.dirname(PROXY), exist_ok=True)
    with open(PROXY, "w") as file:
        file.write("ssl_certificate /var/lib/device-ui/tls/certificate.pem;\n")
    told("mount", "--bind", DATA, DATA)  # a device whose data has a file system of its own
    words = ["dpkg", "--purge", "device-ui"]
    found["purge"] = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stderr
    found["mounted"] = os.listdir(DATA)
    told("umount", DATA)
    os.rmdir(DATA)
    found["left"] = [name for place in PLACES for name in glob.glob(place)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
