"""What can go wrong, and the evidence that each error carries. No error ever carries a secret."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any


class DeviceUIError(Exception):
    """The root of the tree: a problem that is told in one line to a person."""


class Damaged(DeviceUIError):
    """A file of ours that does not read back as it was written.

    ``path`` is the file, ``reason`` one line that says what is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name} is damaged: {reason}")
        self.path, self.reason = path, reason


class NotStored(DeviceUIError):
    """The operating system did not take a file; what stood there before still holds.

    ``path`` is the file, ``errno`` the system's number, ``reason`` its words. `in_doubt`: the new file is in place,
    but a power cut may still bring the old one back.
    """

    def __init__(self, path: Path, error: OSError, *, in_doubt: bool = False) -> None:
        self.path, self.errno, self.in_doubt = path, error.errno, in_doubt
        self.reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"{path.name} could not be stored: {self.reason}")


class NotReadable(DeviceUIError):
    """A file is there and the operating system does not give it; ``path``, ``errno``, ``reason``."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.path, self.errno = path, error.errno
        self.reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"{path.name} could not be read: {self.reason}")


class Conflict(DeviceUIError):
    """The settings changed since the page was opened; ``revision`` is the one that stands now."""

    def __init__(self, revision: str) -> None:
        super().__init__("the settings have changed since they were read")
        self.revision = revision


class NoKey(DeviceUIError):
    """The key that is needed is not on this device; ``key_id`` names it, ``""`` when none is there at all."""

    def __init__(self, key_id: str = "") -> None:
        super().__init__(f"the key {key_id} is not on this device" if key_id else "the mail hook has made no key yet")
        self.key_id = key_id


class CannotOpen(DeviceUIError):
    """A sealed password does not open: another server, another key, or changed bytes; ``reason`` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the stored password cannot be opened: {reason}")
        self.reason = reason


class MakerFile(DeviceUIError):
    """A file of the maker's (``device.toml``, ``events.toml``) is wrong; ``path``, ``reason``: one line, whatever it quotes."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, "".join(each if each.isprintable() else "?" for each in reason)
        super().__init__(f"{path}: {self.reason}")


class HookError(DeviceUIError):
    """The mail hook could not be asked, or said no. ``word`` is its one-word answer (see ``mail.client``).

    ``seconds``, where it says so: until the same request may be answered otherwise.
    """

    def __init__(self, word: str, reason: str, seconds: int = 0) -> None:
        super().__init__(reason)
        self.word, self.reason, self.seconds = word, reason, seconds


class RequestError(DeviceUIError):
    """A request to the mail hook that is answered with an error: a `word` and a `reason` for a person.

    ``seconds``, if not 0: until the same request may be answered otherwise.
    """

    def __init__(self, word: str, reason: str, seconds: int = 0) -> None:
        super().__init__(reason)
        self.word, self.reason, self.seconds = word, reason, seconds

    def as_answer(self) -> dict[str, Any]:
        """Return the line that answers the request."""
        answer = {"error": self.word, "reason": self.reason}
        return {**answer, "seconds": self.seconds} if self.seconds else answer


class ErrorConversion:
    """A context that raises `convert(error)` from an error of these `kinds`.

    A class and no generator: in Python 3.13.5 the frame of a generator that raises another error is part of a cycle,
    and with it every caller's frame, until a collection. One of them may hold the mail password.
    """

    def __init__(self, kinds: tuple[type[Exception], ...], convert: Callable[[Any], Exception]) -> None:
        self._kinds, self._convert = kinds, convert

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Raise what `convert` makes of the error. No local variable refers to it: its traceback refers to this frame."""
        if isinstance(error, self._kinds):
            raise self._convert(error) from error
