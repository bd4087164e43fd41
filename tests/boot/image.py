"""The Debian image that `make boot` boots: built once, and kept outside the checkout under a hash of what goes into it.

The image holds what a maker's image holds before this product is installed: systemd, nginx and Python. Beside that it has
an SSH server, by which the tests type their commands, and libeatmydata for a check that must fail.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The guest reaches the test's mail server by this name and address (QEMU's user network forwards it to the host).
MAIL_HOST, MAIL_ADDRESS = "mail.example.test", "10.0.2.100"
PACKAGES = "systemd-sysv udev dbus linux-image-cloud-amd64 nginx-light python3 openssh-server iproute2 ca-certificates libeatmydata1"
# Run by mmdebstrap with the new root as "$1". The initramfs has only what this machine needs: a boot without KVM is slow.
CUSTOMIZE = f"""
set -e
echo device > "$1/etc/hostname"
echo '127.0.0.1 localhost device' > "$1/etc/hosts"
echo '{MAIL_ADDRESS} {MAIL_HOST}' >> "$1/etc/hosts"
echo '/dev/vda / ext4 defaults 0 1' > "$1/etc/fstab"
printf '[Match]\\nName=en* eth*\\n[Network]\\nDHCP=ipv4\\n' > "$1/etc/systemd/network/device.network"
chroot "$1" systemctl enable systemd-networkd >/dev/null 2>&1
mkdir -p -m 700 "$1/root/.ssh"
printf '\\nUseDNS no\\nPrintMotd no\\nMaxSessions 100\\n' >> "$1/etc/ssh/sshd_config"
sed -i 's/^MODULES=.*/MODULES=list/' "$1/etc/initramfs-tools/initramfs.conf"
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >> "$1/etc/initramfs-tools/modules"
chroot "$1" update-initramfs -u >/dev/null 2>&1
chroot "$1" useradd --create-home --shell /bin/sh firmware
: > "$1/etc/machine-id"
"""
DISK_SIZE = "3G"


@dataclass(frozen=True)
class Image:
    """A built image: `folder` has the root file system as files (`root`) and as a disk (`disk`), and what boots it."""

    folder: Path

    @property
    def root(self) -> Path:
        """The root file system as a folder, for chroots."""
        return self.folder / "root"

    @property
    def disk(self) -> Path:
        """The root file system as a raw ext4 disk. Never written: machines use copies or overlays."""
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        """The kernel of the image."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initial RAM file system."""
        return self.folder / "initrd"

    @property
    def ssh_key(self) -> Path:
        """The private key that opens the SSH server of every machine of this image, and of nothing else."""
        return self.folder / "ssh-key"


def cached(suite: str) -> Image:
    """Return the image of this release of Debian; build it unless the cache has it. Raises `CalledProcessError`."""
    recipe = "\n".join((suite, PACKAGES, CUSTOMIZE, DISK_SIZE))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "device-ui-boot"
    folder = cache / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in two processes
        if not (folder / "disk.img").exists():
            # Images of former recipes of this release are not needed any more.
            for former in cache.glob(f"{suite}-*"):
                shutil.rmtree(former)
            folder.mkdir()
            _build(Image(folder), suite)
    return Image(folder)


def _build(image: Image, suite: str) -> None:
    options = [f"--include={PACKAGES.replace(' ', ',')}", f"--customize-hook={CUSTOMIZE}"]
    _run("mmdebstrap", "--quiet", "--variant=minbase", *options, suite, image.root)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", image.ssh_key)
    shutil.copy(image.ssh_key.with_suffix(".pub"), image.root / "root/.ssh/authorized_keys")
    for name, target in (("vmlinuz-*", image.kernel), ("initrd.img-*", image.initrd)):
        (found,) = (image.root / "boot").glob(name)
        shutil.copy(found, target)
    made = image.disk.with_suffix(".part")
    _run("mkfs.ext4", "-q", "-d", image.root, made, DISK_SIZE)
    made.rename(image.disk)


def _run(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
