"""The cache of the image, and what `make boot` refuses: without a machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boot.image import Image, cached
from tests.helpers.product import ROOT


def build(image: Image, _suite: str, _packages: str) -> None:
    """Leave what says that an image was built."""
    image.disk.touch()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "device-ui-boot"


def test_an_image_of_another_recipe_is_removed_once_it_is_not_used(cache: Path) -> None:
    with cached("release", "one", build) as one, cached("release", "two", build) as two:
        assert one.disk.exists() and two.disk.exists()
    with cached("release", "three", build) as three:
        assert [each for each in cache.iterdir() if each.is_dir()] == [three.folder]


def test_an_image_that_is_there_is_not_built_again(cache: Path) -> None:
    with cached("release", "one", build) as one:
        before = one.disk.stat()
    with cached("release", "one", build) as one, cached("other release", "one", build):
        assert one.disk.stat() == before


def test_an_image_whose_building_was_interrupted_is_built_anew(cache: Path) -> None:
    with cached("release", "one", build) as one:
        one.disk.rename(one.disk.with_suffix(".part"))
    with cached("release", "one", build) as one:
        assert [each.name for each in one.folder.iterdir()] == ["disk.img"]


@pytest.mark.parametrize("pulls", ["0", "-1", "", "a dozen"])
def test_a_number_of_power_cuts_that_is_none_is_refused_in_one_line(pulls: str) -> None:
    words = [sys.executable, "-m", "pytest", "--numprocesses", "0", "--collect-only", "tests/boot/test_write_log.py"]
    environment = {**os.environ, "PULLS": pulls}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == "ERROR: PULLS= must be a number from 1 to 9999: how many power cuts are tried"
