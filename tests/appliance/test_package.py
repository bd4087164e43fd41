"""What a maker puts into an image: the wheel, the Debian package, the recipes. Each is installed and used, or agrees with the rest."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import device_ui
from device_ui.cli.check import MINIMUM_VERSIONS
from tests.appliance.test_two_devices import SECRET
from tests.docs.documents import example
from tests.helpers.product import ROOT, Product, free_port

APPLIANCE = ROOT / "device_ui" / "appliance"
RECIPE = APPLIANCE / "yocto" / f"device-ui_{device_ui.__version__}.bb"
BUILDROOT = APPLIANCE / "buildroot" / "device-ui"
UNITS = [each for each in APPLIANCE.iterdir() if each.suffix in (".service", ".socket", ".timer")]
SOURCES = ("device_ui", "static", "views", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "Makefile", ".ci")
# Of a .pyc's flags (PEP 552): it is known by a hash of its source, which nobody looks at.
UNCHECKED_HASH = 0b01
SETUP = (ROOT / "setup.cfg").read_text().partition("[options.extras_require]")[0]
PINS = (ROOT / ".ci" / "bundled.txt").read_text()


def run(*words: str | Path, **options: object) -> str:
    """A program's output; it must succeed. Seconds for what hangs: a busy machine builds a package in minutes."""
    done = subprocess.run(words, **{"capture_output": True, "text": True, "timeout": 500, **options})  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources and nothing else, for what leaves files beside them."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        of = ROOT / name
        shutil.copytree(of, copy / name, ignore=shutil.ignore_patterns("__pycache__")) if of.is_dir() else shutil.copy(
            of, copy
        )
    return copy


# The wheel


class Installed(Product):
    """A device whose processes run what is installed, with nothing of the checkout in reach."""

    prefork = None

    def __init__(self, folder: Path, python: Path) -> None:
        super().__init__(folder)
        self.python = str(python)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of this device."""
        return {name: value for name, value in super().environment.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source)
    (found,) = (source / "dist").glob("*.whl")
    return found


def test_no_file_of_the_wheel_holds_a_secret(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert len([name for name in files if ".dist-info/" not in name]) > 70
    assert [name for name, content in files.items() if SECRET.search(content)] == []


def test_the_wheel_serves_pages_and_takes_events_by_itself(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--quiet", wheel)
    with Installed(tmp_path, python) as product:
        browser = product.start().logged_in()
        assert "SMTP Host" in browser.get("/smtp").text
        assert browser.get("/static/style.css").status == 200
        assert run(tmp_path / "empty" / "bin" / "device-ui", "event", "303", env=product.environment) == "accepted 1\n"


# make install


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make install`` puts under another prefix."""
    root = tmp_path_factory.mktemp("image")
    run("make", "-s", "-C", ROOT, "install", f"DESTDIR={root}", "PREFIX=/opt/lamp")
    return root


def test_everything_is_under_the_prefix(image: Path) -> None:
    assert [each.name for each in image.iterdir()] == ["opt"]
    assert {each.name for each in (image / "opt/lamp").iterdir()} == {"bin", "lib", "share"}


def test_no_file_names_the_place_where_the_image_was_made(image: Path) -> None:
    assert [each for each in image.rglob("*") if each.is_file() and str(image).encode() in each.read_bytes()] == []


def test_every_module_is_compiled_and_no_date_is_compared(image: Path) -> None:
    modules = [each for each in image.rglob("*.py")]
    compiled = [each for each in image.rglob("*.pyc")]
    assert len(compiled) == len(modules) > 70
    assert {int.from_bytes(each.read_bytes()[4:8], "little") for each in compiled} == {UNCHECKED_HASH}
    assert (
        b"/opt/lamp/lib/device-ui/device_ui/cli/check.py"
        in next(each for each in compiled if each.name.startswith("check.")).read_bytes()
    )


# The Debian package, in a copy of this machine that is thrown away


THROWAWAY = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
cp "$2" "$1/root/root/device-ui.deb"
cp "$3" "$1/root/root/installed.py"
exec chroot "$1/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/usr/bin/python3 /root/installed.py /root/device-ui.deb "$4" "$5"
"""


@pytest.fixture(scope="module")
def packages(source: Path) -> dict[str, Path]:
    """The packages of both kinds."""
    (source / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return {kind: source / run("sh", ".ci/deb", "dist", kind, cwd=source).strip() for kind in ("bundled", "plain")}


@pytest.fixture(scope="module")
def used(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What `installed` found on a machine with the package."""
    words = ["unshare", "--mount", "sh", "-c", THROWAWAY, "sh", tmp_path_factory.mktemp("machine")]
    return dict(
        json.loads(
            run(
                *words,
                packages["bundled"],
                ROOT / "tests" / "helpers" / "installed.py",
                str(free_port()),
                example("README.md", "python"),
            )
        )
    )


def test_the_package_makes_two_users_rooms_and_enables_its_units(used: dict[str, object]) -> None:
    rooms = ("2750 device-ui:device-mail", "700 device-ui:device-ui", "700 device-mail:device-mail")
    assert [used[name] for name in ("settings", "web", "mail")] == list(rooms)
    assert used["units"] == sorted(each.name for each in UNITS if "[Install]" in each.read_text())


def test_what_the_package_installs_serves_pages_and_takes_events(used: dict[str, object]) -> None:
    assert used["event"] == "accepted 1"
    assert "Setup code" in str(used["page"])
    for name in MINIMUM_VERSIONS:
        assert re.search(rf"^OK +{name}: ", str(used["check"]), re.MULTILINE), used["check"]


def test_a_program_of_the_firmware_imports_the_client_as_the_readme_says(used: dict[str, object]) -> None:
    assert used["imported"] == "2"


def test_after_an_upgrade_what_runs_is_the_new_version(used: dict[str, object]) -> None:
    *before, last = list(used["upgrade"])
    assert last == "try-restart device-ui-mailhook.service device-ui-web.service"
    first = "--quiet --system start device-ui-ownership.service device-ui-web.socket device-ui-mailhook.socket"
    assert before[-1].startswith(first)
    assert "daemon-reload" in before


def test_what_was_recorded_stays_until_the_package_is_purged(used: dict[str, object]) -> None:
    assert used["kept"] is True
    assert used["left"] == []


def test_a_purge_names_the_configuration_that_keeps_the_proxy_from_starting(used: dict[str, object]) -> None:
    told = "device-ui: /etc/nginx/conf.d/nas.conf names a certificate that was removed: remove this file, or the proxy does not start\n"
    assert told in str(used["purge"])


def test_a_purge_goes_on_where_something_is_mounted_and_says_so(used: dict[str, object]) -> None:
    assert "device-ui: something is mounted in /var/lib/device-ui: remove the rest by hand\n" in str(used["purge"])
    assert used["mounted"] == []


def test_a_removal_that_dpkg_gives_up_leaves_the_units_running(used: dict[str, object]) -> None:
    enabled = [each.name for each in UNITS if "[Install]" in each.read_text()]
    stopped, started = (
        [line.split() for line in list(used["abort"]) if f" {verb} " in f" {line} "] for verb in ("stop", "start")
    )
    assert stopped and started, used["abort"]
    assert set(enabled) <= {word for words in stopped for word in words}
    assert set(enabled) <= {word for words in started for word in words}


def test_a_factory_reset_stops_the_units_and_starts_them_again(used: dict[str, object]) -> None:
    sockets, services = (
        " ".join(f"device-ui-{each}.{kind}" for each in ("web", "mailhook")) for kind in ("socket", "service")
    )
    first = "device-ui-setup-code.service device-ui-certificate-first.service"
    assert list(used["reset"])[-2:] == [f"stop {sockets} {services}", f"start {sockets} {first}"]
    told = "Everything is erased. device-ui setup-code shows the new setup code; the page starts with it."
    assert used["reset_told"] == told


# An image builder's chroot: no /proc.
BARE = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
cp "$2" "$1/root/root/device-ui.deb"
exec chroot "$1/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -ec '
	[ ! -e /proc/self ]
	mkdir -m 711 /root/elsewhere /var/lib/device-ui
	[ "$0" != link ] || ln -s /root/elsewhere /var/lib/device-ui/web
	dpkg --install /root/device-ui.deb >&2
	cd /var/lib/device-ui
	stat -c "%a %U:%G" . settings web mail public tls /root/elsewhere' "$3"
"""


def test_the_package_installs_in_a_chroot_without_proc(packages: dict[str, Path], tmp_path: Path) -> None:
    words = ["unshare", "--mount", "sh", "-c", BARE, "sh", tmp_path]
    assert run(*words, packages["bundled"], "plain").splitlines() == [
        "755 root:root",
        "2750 device-ui:device-mail",
        "700 device-ui:device-ui",
        "700 device-mail:device-mail",
        "755 device-mail:device-mail",
        "700 root:root",
        "711 root:root",
    ]


def test_in_a_chroot_without_proc_a_link_in_the_place_of_a_folder_leads_nowhere(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    words = ["unshare", "--mount", "sh", "-c", BARE, "sh", tmp_path]
    assert run(*words, packages["bundled"], "link").splitlines()[-1] == "711 root:root"


@pytest.mark.parametrize("kind", ["bundled", "plain"])
def test_a_package_names_what_it_needs(packages: dict[str, Path], kind: str) -> None:
    named = run("dpkg-deb", "--field", packages[kind], "Depends")
    found = dict(re.findall(r"python3-([a-z]+) \(>= ([0-9.]+)\)", named))
    assert found == ({} if kind == "bundled" else {name: told(version) for name, version in MINIMUM_VERSIONS.items()})
    own = run("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    below = dict(re.findall(r"python3-([a-z]+) \(<< ([0-9.]+)\)", named))
    assert below == ({} if kind == "bundled" else bounds(SETUP))
    assert f"python3 (>= {own if kind == 'bundled' else '3.11'})" in named


# What is written down in several places


def told(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def minimums(text: str) -> dict[str, str]:
    """The three names in a text, each with the least version that stands behind it."""
    names = "|".join(MINIMUM_VERSIONS)
    found = re.findall(rf"({names})\W+(?:runtime, )?>= ([0-9.]+)", text.replace("_", "-").lower())
    assert len(found) == len(dict(found)) == len(MINIMUM_VERSIONS)
    return dict(found)


def bounds(text: str) -> dict[str, str]:
    """The three names in a text, each with the version that it must be below."""
    found = re.findall(rf"({'|'.join(MINIMUM_VERSIONS)})[^\n]*?< ([0-9.]+)", text.replace("_", "-").lower())
    assert len(found) == len(dict(found)) == len(MINIMUM_VERSIONS)
    return dict(found)


@pytest.mark.parametrize(
    "path", ["setup.cfg", RECIPE, BUILDROOT / "Config.in"], ids=["setup.cfg", "Yocto", "Buildroot"]
)
def test_every_recipe_names_the_least_versions_that_check_asks_for(path: str | Path) -> None:
    text = (ROOT / path).read_text().partition("[options.extras_require]")[0]
    assert minimums(text) == {name: told(version) for name, version in MINIMUM_VERSIONS.items()}


@pytest.mark.parametrize("path", [RECIPE, BUILDROOT / "Config.in"], ids=["Yocto", "Buildroot"])
def test_every_recipe_has_the_bounds_of_setup_cfg(path: Path) -> None:
    assert bounds(path.read_text()) == bounds(SETUP)


def test_what_is_bundled_is_pinned_with_hashes_within_the_bounds() -> None:
    pinned = dict(re.findall(r"^([a-z]+)==([0-9.]+) \\\n    --hash=sha256:[0-9a-f]{64}", PINS, re.MULTILINE))
    assert len(pinned) == len(re.findall("==", PINS)) and set(MINIMUM_VERSIONS) < set(pinned)
    versions = {name: tuple(map(int, pinned[name].split("."))) for name in MINIMUM_VERSIONS}
    most = {name: tuple(map(int, bound.split("."))) for name, bound in bounds(SETUP).items()}
    assert [name for name, least in MINIMUM_VERSIONS.items() if not least <= versions[name] < most[name]] == []


def test_the_pins_name_no_host() -> None:
    assert re.findall(r"https?:|--index|--find-links|--trusted", PINS) == []


def test_a_changed_hash_keeps_the_package_from_being_built(source: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(source, tmp_path / "copy", ignore=shutil.ignore_patterns(".venv", "dist"))
    (copy / ".venv").symlink_to(Path(sys.executable).parent.parent)
    pins = copy / ".ci" / "bundled.txt"
    pins.write_text(re.sub("sha256:[0-9a-f]{4}", "sha256:0000", PINS))
    done = subprocess.run(["sh", ".ci/deb", "dist", "bundled"], cwd=copy, capture_output=True, text=True, timeout=500)
    assert done.returncode != 0 and "DO NOT MATCH THE HASHES" in done.stderr
    assert not (copy / "dist").exists()


@pytest.fixture(scope="module")
def sbom(packages: dict[str, Path]) -> str:
    """The bill of materials that is in the package."""
    line = 'dpkg-deb --fsys-tarfile "$0" | tar -xO ./usr/share/doc/device-ui/sbom.cdx.json'
    return run("sh", "-c", line, packages["bundled"])


def test_the_sbom_is_valid_cyclonedx(sbom: str) -> None:
    # Their import compiles grammars for a second or two, which each worker would spend when it collects.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(sbom) is None
    assert validator.validate_str(sbom.replace('"library"', '"no such type"')) is not None


def test_the_sbom_lists_the_product_and_each_package_that_is_inside(packages: dict[str, Path], sbom: str) -> None:
    told = json.loads(sbom)
    product = told["metadata"]["component"]
    assert (product["name"], product["version"]) == ("device-ui", device_ui.__version__)
    names = run("dpkg-deb", "--contents", packages["bundled"])
    inside = dict(re.findall(r"/bundled/([a-z]+)-([0-9.]+)\.dist-info/METADATA", names))
    assert len(inside) == names.count(".dist-info/METADATA") and set(inside) > set(MINIMUM_VERSIONS)
    assert {each["name"]: each["version"] for each in told["components"]} == inside
    for each in told["components"]:
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
        assert f"sha256:{each['hashes'][0]['content']}" in PINS
        assert each["licenses"]


def test_every_python_that_is_named_is_one_that_was_seen_to_pass() -> None:
    """`make versions` runs the unit tests with each; the README tells with which they passed, and this run is one of them."""
    named = re.findall(r"Language :: Python :: ([0-9.]+)", (ROOT / "setup.cfg").read_text())
    (seen,) = re.findall(r"pass with Python ([0-9., and]+)\. Libraries", (ROOT / "README.md").read_text())
    assert re.findall(r"([0-9]+\.[0-9]+)\.[0-9]+", seen) == named
    assert f"python_requires = >={named[0]}\n" in (ROOT / "setup.cfg").read_text()
    assert told(sys.version_info[:2]) in named


def test_the_recipes_are_of_this_version_and_licence() -> None:
    assert f"DEVICE_UI_VERSION = {device_ui.__version__}\n" in (BUILDROOT / "device-ui.mk").read_text()
    checksum = hashlib.md5((ROOT / "LICENSE").read_bytes(), usedforsecurity=False).hexdigest()
    assert f"file://LICENSE;md5={checksum}" in RECIPE.read_text()


def test_the_recipes_make_the_users_and_enable_the_units_of_the_image() -> None:
    names = re.findall(r"^[ug] ([a-z-]+)", (APPLIANCE / "sysusers.conf").read_text(), re.MULTILINE)
    assert len(names) == 3
    for recipe in (RECIPE, BUILDROOT / "device-ui.mk"):
        assert [name for name in names if not re.search(rf"[ \t]{name}\b", recipe.read_text())] == []
    enabled = re.findall(r"device-ui-[a-z-]+\.[a-z]+", RECIPE.read_text())
    assert sorted(enabled) == sorted(each.name for each in UNITS if "[Install]" in each.read_text())
