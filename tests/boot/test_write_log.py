"""The disks that a power cut could have left, from a log that QEMU itself wrote."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.boot import write_log

MIB = 1024 * 1024
# One letter a write of 4 KiB; F is a flush.
COMMANDS = {
    "F": "flush",
    "A": "write -P 65 0 4k",
    "B": "write -P 66 4k 4k",
    "C": "write -P 67 0 4k",
    "D": "write -P 68 8k 4k",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "before").open("wb") as file:
        file.truncate(MIB)
    return tmp_path


def logged(folder: Path, commands: str) -> Path:
    """Let QEMU write to a disk; its log."""
    shutil.copy(folder / "before", folder / "disk")
    log = folder / "log"
    log.touch()
    driver = f"driver=blklogwrites,file.filename={folder}/disk,log.filename={log},log-sector-size=512"
    words = ["qemu-io", "--image-opts", driver]
    subprocess.run([*words, *(word for each in commands for word in ("-c", COMMANDS[each]))], check=True, timeout=60)
    return log


def rebuilt(folder: Path, log: Path, position: int, seed: int = 0) -> bytes:
    """The first three blocks of the disk after a cut."""
    made = Path(shutil.copy(folder / "before", folder / "made"))
    write_log.cut(log, made, position, random.Random(seed))
    return made.read_bytes()[: 3 * 4096]


def first_letters(blocks: bytes) -> str:
    return "".join(chr(blocks[number * 4096] or 46) for number in range(3))


def test_the_whole_log_makes_the_disk_that_qemu_wrote(folder: Path) -> None:
    log = logged(folder, "ABFCDF")
    assert rebuilt(folder, log, log.stat().st_size) == (folder / "disk").read_bytes()[: 3 * 4096]


def test_a_flushed_write_is_on_every_disk(folder: Path) -> None:
    log = logged(folder, "AFBD")
    last = [each for each in write_log.requests(log) if not each.is_flush][-1].end
    seen = {first_letters(rebuilt(folder, log, last, seed)) for seed in range(60)}
    assert {each[0] for each in seen} == {"A"}
    assert {"A..", "ABD"} < seen, "what was not flushed is lost on some disks, and there on others"


def test_nothing_after_the_cut_is_on_the_disk(folder: Path) -> None:
    log = logged(folder, "AFBF")
    flush = next(each for each in write_log.requests(log) if each.is_flush)
    assert first_letters(rebuilt(folder, log, flush.end)) == "A.."


def test_a_write_can_be_torn_at_a_sector(folder: Path) -> None:
    log = logged(folder, "A")
    (write,) = (each for each in write_log.requests(log) if each.sectors)
    seen = {rebuilt(folder, log, write.end, seed)[:4096].count(b"A") for seed in range(60)}
    assert any(0 < each < 4096 for each in seen)


def test_a_log_cut_short_is_read_up_to_its_last_whole_entry(folder: Path) -> None:
    log = logged(folder, "AFB")
    whole = list(write_log.requests(log))
    for number in reversed(range(len(whole))):
        with log.open("r+b") as file:
            file.truncate(whole[number].end - 1)
        assert list(write_log.requests(log)) == whole[:number]


def test_another_file_is_no_log(folder: Path) -> None:
    with pytest.raises(ValueError):
        list(write_log.requests(folder / "before"))
