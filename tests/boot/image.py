"""The Debian image that `make boot` boots: built once, and kept outside the checkout under a hash of what goes into it.

The image holds what a maker's image holds before this product is installed: systemd, nginx and Python. Beside that it has
an SSH server, by which the tests type their commands, and libeatmydata for a check that must fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def cached(
    suite: str, packages: str = PACKAGES, build: Callable[[Image, str, str], None] | None = None
) -> Iterator[Image]:
    """Yield the image of this release of Debian, built unless the cache has it; it stays until the block ends.

    Raises `RuntimeError` when it cannot be built.
    """
    recipe = "\n".join((suite, packages, CUSTOMIZE, DISK_SIZE))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "device-ui-boot"
    folder = cache / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as used:
        with _locked(cache / "lock", fcntl.LOCK_EX):  # tests run in two processes
            if not (folder / "disk.img").exists():
                _clear(cache, suite)
                folder.mkdir()
                (build or _build)(Image(folder), suite, packages)
            used.enter_context(_locked(_lock_of(folder), fcntl.LOCK_SH))
        yield Image(folder)


def _clear(cache: Path, suite: str) -> None:
    """Remove the images of former recipes of this release, but for those that another run uses."""
    for former in [each for each in cache.glob(f"{suite}-*") if each.is_dir()]:
        with contextlib.suppress(BlockingIOError), _locked(_lock_of(former), fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(former)
            _lock_of(former).unlink()


def _lock_of(folder: Path) -> Path:
    """Return the lock that every run shares while it uses the image; beside the image, which is removed as a whole."""
    return folder.with_name(f"{folder.name}.lock")


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, kind)
        yield


def _build(image: Image, suite: str, packages: str) -> None:
    options = [f"--include={packages.replace(' ', ',')}", f"--customize-hook={CUSTOMIZE}"]
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
