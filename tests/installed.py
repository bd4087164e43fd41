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


# In the place of systemctl: writes down what it was asked.
ASKED = "/root/asked"
SYSTEMCTL = f"""#!/bin/sh
echo "$@" >>{ASKED}
[ "$2" != is-enabled ] || echo enabled
"""


def upgraded(package: str) -> list[str]:
    """What systemd is asked when the package is installed over itself, on a machine that looks as if it ran."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink("/usr/sbin/policy-rc.d")
    os.unlink("/usr/bin/systemctl")
    with open("/usr/bin/systemctl", "w") as file:
        file.write(SYSTEMCTL)
    os.chmod("/usr/bin/systemctl", 0o755)
    os.makedirs("/run/systemd/system")
    told("dpkg", "--install", package)
    os.rmdir("/run/systemd/system")
    with open(ASKED) as file:
        return file.read().splitlines()


def main(package: str, port: str, example: str) -> None:
    """Install, use, upgrade, remove, purge."""
    subprocess.run(["dpkg", "--install", package], check=True, stdout=subprocess.DEVNULL)
    found = {name: told("stat", "-c", "%a %U:%G", f"/var/lib/device-ui/{name}") for name in FOLDERS}
    found["units"] = sorted(os.path.basename(each) for each in glob.glob(LINKS))
    web = ["device-ui", "web", "--listen", f"127.0.0.1:{port}"]
    processes = [
        subprocess.Popen(["runuser", "-u", user, "--", *words], stderr=subprocess.DEVNULL)
        for user, words in (("device-mail", ["device-ui", "mailhook"]), ("device-ui", web))
    ]
    found["event"] = tried(lambda: told("device-ui", "event", "303"))
    found["imported"] = told("/usr/bin/python3", "-c", f"{example}\nprint(number)")
    found["page"] = tried(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/setup").read().decode())
    found["check"] = subprocess.run(["device-ui", "check"], capture_output=True, text=True).stdout
    for process in processes:
        process.terminate()
        process.wait(SECONDS)
    found["upgrade"] = upgraded(package)
    os.makedirs("/etc/credstore.encrypted", exist_ok=True)
    with open(CREDENTIAL, "w") as file:
        file.write("as MAKER.md has it made")
    told("dpkg", "--remove", "device-ui")
    found["kept"] = os.path.exists("/var/lib/device-ui/mail/ledger.sqlite3") and os.path.exists(CREDENTIAL)
    told("dpkg", "--purge", "device-ui")
    found["left"] = [name for place in PLACES for name in glob.glob(place)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
