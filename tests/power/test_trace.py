"""What strace writes is read as the calls that were made, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.power.story import Ack, Asked, NotUnderstood, Synced, read
from tests.power.trace import calls


def hexed(text: str) -> str:
    """A text as ``strace -xx`` writes it."""
    return "".join(f"\\x{each:02x}" for each in text.encode())


FOLDER, FILE, NULL, SOCKET = (hexed(each) for each in ("/flash/a", "/flash/a/f", "/dev/null", "UNIX-STREAM:[7]"))


def line(name: str, arguments: str, returned: object = 0, process: int = 7) -> str:
    """One whole line."""
    return f"{process} {name}({arguments}) = {returned}"


def test_a_call_that_others_interrupt_begins_and_ends_apart():
    found = list(
        calls(
            [
                f"7 fsync(3<{FILE}> <unfinished ...>",
                line("lseek", f"4<{FOLDER}>, 0, SEEK_SET", 0, 8),
                "7 <... fsync resumed>) = 0",
            ]
        )
    )
    assert [(each.name, each.begins, each.ends) for each in found] == [("lseek", 1, 1), ("fsync", 0, 2)]
    assert found[1].paths == ["/flash/a/f"]


@pytest.mark.parametrize("ending", ["-1 EIO (Input/output error)", "? ERESTARTSYS (To be restarted)"])
def test_a_call_that_failed_changed_nothing(ending):
    assert not list(calls([line("fsync", f"3<{FILE}>", ending)]))


def test_written_bytes_their_count_and_place_are_read():
    [call] = calls([line("pwrite64", f'3<{FILE}>, "{hexed("ab, c")}", 5, 4096', 5)])
    assert (call.texts, call.numbers, call.result, call.descriptor) == ([b"ab, c"], [5, 4096], 5, 3)


def test_a_text_that_strace_cut_short_is_an_error():
    [call] = calls([line("write", f'3<{FILE}>, "{hexed("ab")}"..., 5', 5)])
    with pytest.raises(ValueError, match="cut a text short"):
        _ = call.texts


def test_an_acknowledgement_stands_where_it_was_begun_and_a_sync_where_it_returned():
    lines = [
        line(
            "write",
            f'5<{NULL}>, "{hexed("mark [" + chr(34) + "event" + chr(34) + ", " + chr(34) + "it" + chr(34) + "]")}", 21',
            21,
        ),
        f"7 fsync(3<{FILE}> <unfinished ...>",
        line("sendto", f'4<{SOCKET}>, "{hexed("accepted 12" + chr(10))}", 12, 0, NULL, 0', 12, 8),
        "7 <... fsync resumed>) = 0",
    ]
    assert read(lines, Path("/flash")) == [Asked("event", ("it",)), Ack("event", (12, "it")), Synced("a/f", 1)]


@pytest.mark.parametrize(
    "text",
    [
        line("sync_file_range", f"3<{FILE}>, 0, 0, 0"),
        line("linkat", f'3<{FOLDER}>, "{hexed("f")}", 3<{FOLDER}>, "{hexed("g")}", 0'),
    ],
)
def test_a_call_on_the_disk_that_the_model_does_not_know_is_an_error(text):
    with pytest.raises(NotUnderstood):
        read([text], Path("/flash"))


def test_what_lies_elsewhere_is_not_the_disk():
    assert not read([line("unlink", f'"{hexed("/run/hook.sock")}"'), line("fsync", f"1<{NULL}>")], Path("/flash"))
