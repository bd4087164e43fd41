"""Errors and the messages they carry: a template and its values, so that a reader's language is chosen where it is shown.

No error carries a secret. This module is imported by the fast path of ``device-ui event`` and imports nothing at its start.
"""

from __future__ import annotations

import os

# As `typing.TYPE_CHECKING`, which a type checker takes for true: importing typing would cost an event a third of its
# time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

# A place for a value in a template. Braces around anything else are text.
PLACE_PATTERN = r"\{([A-Za-z_]+)\}"


class Message:
    """A sentence as data: its English `template`, which is the key of every catalogue, and the `values` of its places.

    A value that is a `Message` is translated with it; a text stays as it is. ``str()`` returns the English sentence, for
    logs, the console and the database.
    """

    __slots__ = ("template", "values")

    def __init__(self, template: Text, /, **values: object) -> None:
        """Take a template or, without values, another message."""
        # Errors wrap a reason without asking whether it is a text or a message already.
        self.template: str = template.template if isinstance(template, Message) else template
        self.values: Mapping[str, object] = template.values if isinstance(template, Message) else values

    def render(self, translate: Callable[[str], str]) -> str:
        """Return the sentence; `translate` returns the template in the reader's language.

        Values are put in by name and are not searched for places, so no text of a mail server can reach an attribute, as
        with `str.format`. A place without a value stays as it is.
        """
        template = translate(self.template)
        if not self.values:
            return template
        # Imported here: most processes that raise an event show no message.
        import re

        # One pass over the template: a value that holds braces is not filled a second time.
        texts = {
            name: value.render(translate) if isinstance(value, Message) else str(value)
            for name, value in self.values.items()
        }
        return re.sub(PLACE_PATTERN, lambda place: texts.get(place[1], place[0]), template)

    def __str__(self) -> str:
        return self.render(str)

    def __bool__(self) -> bool:
        return bool(self.template)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.template!r}, **{self.values!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (type(self), self.template, self.values) == (type(other), other.template, other.values)

    def __hash__(self) -> int:
        return hash(self.template)


class Sentence(Message):
    """A message that is the reason within an error, as a sentence of its own: a capital letter first, a full stop last."""

    __slots__ = ()

    def render(self, translate: Callable[[str], str]) -> str:
        """Return the sentence, as `Message.render` does."""
        # Korean has no capitals; its first character stays as it is.
        text = super().render(translate)
        return text[:1].upper() + text[1:] + "."


# What the pages and the mails show: a text is a template without places, or words of a mail server, which no catalogue has.
Text = str | Message


def to_json(value: object) -> Any:
    """Return a `Message` as a JSON object: the `default` of ``json.dumps``. Raises `TypeError` for any other value."""
    if isinstance(value, Message):
        return {"template": value.template, "values": value.values}
    raise TypeError(f"{type(value).__name__} is not JSON")


def from_json(found: dict[str, Any]) -> Any:
    """Return the `Message` that `to_json` wrote, and any other object as it is: the `object_hook` of ``json.loads``."""
    if (
        set(found) == {"template", "values"}
        and isinstance(found["template"], str)
        and isinstance(found["values"], dict)
    ):
        return Message(found["template"], **found["values"])
    return found


def to_stored(text: Text) -> str:
    """Return a text or a message as the database stores it, in a column of texts."""
    # A template alone is its own text, so most rows can be read with sqlite3 as they are.
    if not (isinstance(text, Message) and text.values):
        return str(text)
    import json

    return json.dumps(text, default=to_json, ensure_ascii=False)


def from_stored(stored: str) -> Text:
    """Return the message that `to_stored` wrote, and any other text as it is: older versions stored finished sentences."""
    # Not any JSON: the firmware may raise an event whose text is JSON, which must be shown as it is.
    if not stored.startswith('{"template": '):
        return stored
    import json

    try:
        found = json.loads(stored, object_hook=from_json)
    except (ValueError, RecursionError):
        return stored
    # The beginning of a message, but a different object: text of the firmware, or damage.
    return found if isinstance(found, Message) else stored


class DeviceUIError(Exception):
    """The root of the tree: a problem that a person can read in one line."""

    def __init__(self, message: Text) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return str(self.message)

    @property
    def sentence(self) -> Sentence:
        """The message as a sentence for a page."""
        # An error of a file begins with the file's name, and "Smtp.toml" would be a different file.
        return Sentence("the file {text}", text=self.message) if hasattr(self, "path") else Sentence(self.message)


class Damaged(DeviceUIError):
    """A file of this product that does not read back as it was written.

    ``path`` is the file, ``reason`` a message of one line.
    """

    def __init__(self, path: Path, reason: Text) -> None:
        super().__init__(Message("{name} is damaged: {reason}", name=path.name, reason=Message(reason)))
        self.path, self.reason = path, reason


class NotStored(DeviceUIError):
    """The operating system did not store a file; the one before it is still in place.

    ``path`` is the file, ``errno`` the system's number, ``reason`` its text. `in_doubt`: the new file is in place, but a
    power cut may still bring the old one back.
    """

    def __init__(self, path: Path, error: OSError, *, in_doubt: bool = False) -> None:
        self.path, self.errno, self.in_doubt = path, error.errno, in_doubt
        self.reason = _system_text(error)
        super().__init__(Message("{name} could not be stored: {reason}", name=path.name, reason=Message(self.reason)))


class NotReadable(DeviceUIError):
    """The operating system does not let a file be read; ``path``, ``errno``, ``reason`` as in `NotStored`."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.path, self.errno = path, error.errno
        self.reason = _system_text(error)
        super().__init__(Message("{name} could not be read: {reason}", name=path.name, reason=Message(self.reason)))


class Conflict(DeviceUIError):
    """The settings changed since the page was opened; ``revision`` is the present one."""

    def __init__(self, revision: str) -> None:
        super().__init__("the settings have changed since they were read")
        self.revision = revision


class NoKey(DeviceUIError):
    """A key that is needed is not on this device; ``key_id`` is its name, ``""`` when there is no key at all."""

    def __init__(self, key_id: str = "") -> None:
        present = Message("the key {key_id} is not on this device", key_id=key_id)
        super().__init__(present if key_id else "the mail hook has made no key yet")
        self.key_id = key_id


class CannotOpen(DeviceUIError):
    """A sealed password does not open: a different server or key, or changed bytes; ``reason`` says which."""

    def __init__(self, reason: Text) -> None:
        super().__init__(Message("the stored password cannot be opened: {reason}", reason=Message(reason)))
        self.reason = reason


class MakerFile(DeviceUIError):
    """A file of the maker (``device.toml``, ``events.toml``) is wrong; ``path``, ``reason``: one printable line in English."""

    def __init__(self, path: Path, reason: str) -> None:
        # The reason may quote the file. A control character in it must not end a log line, or reach a terminal of root.
        self.path, self.reason = path, "".join(each if each.isprintable() else "?" for each in reason)
        super().__init__(f"{path}: {self.reason}")


class HookError(DeviceUIError):
    """The client's error: the mail hook did not answer, or refused a request. ``word`` is as in ``mail.client``.

    ``seconds``, if not 0: until the same request may be answered differently.
    """

    def __init__(self, word: str, reason: Text, seconds: int = 0) -> None:
        super().__init__(reason)
        self.word, self.reason, self.seconds = word, reason, seconds


class RequestError(DeviceUIError):
    """The mail hook's error: a request is answered with a `word` and a `reason` for a person; a client raises `HookError`.

    ``seconds`` as in `HookError`.
    """

    def __init__(self, word: str, reason: Text, seconds: int = 0) -> None:
        super().__init__(reason)
        self.word, self.reason, self.seconds = word, reason, seconds

    def as_answer(self) -> dict[str, Any]:
        """Return the line that answers the request."""
        answer = {"error": self.word, "reason": self.reason}
        return {**answer, "seconds": self.seconds} if self.seconds else answer


class ErrorConversion:
    """A context that raises `convert(error)` from an error of these `kinds`.

    A class and not a generator: in Python 3.13.5 the frame of a generator that raises a different error becomes part of a
    reference cycle. So do the frames of its callers, which then live until the next garbage collection. One of them may hold the
    mail password.
    """

    def __init__(self, kinds: tuple[type[Exception], ...], convert: Callable[[Any], Exception]) -> None:
        self._kinds, self._convert = kinds, convert

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Raise the converted error. No local variable refers to it: its traceback refers to this frame."""
        if isinstance(error, self._kinds):
            raise self._convert(error) from error


def _system_text(error: OSError) -> str:
    # Not `strerror` of the error: it is missing where this product raises an OSError with a text alone, such as SQLite's.
    return os.strerror(error.errno) if error.errno else str(error)
