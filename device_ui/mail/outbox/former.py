"""Turn the sentences of older databases into messages, once, when such a database is migrated. Pure but for the SQL.

Up to version 2 a database held finished English sentences, and version 3 had templates that were reworded since. Neither would be
shown in a reader's language. They are recognized here and nowhere else: from version 4 on, every stored sentence of this product
is a template of the catalogues with its values (`errors.to_stored`).
"""

from __future__ import annotations

import re
import sqlite3

from device_ui.errors import Message, Text, from_stored, to_stored
from device_ui.mail.catalog import SERVER_CHANGED

# Templates that were reworded, with their present words.
REWORDED = {
    "Nobody is warned by mail: no server before this one takes any.": "No warning is sent by mail: no earlier server accepted mail.",
    "the mail service had a fault; its log tells more": "the mail service had a fault; its log has the details",
    "four warnings an hour are the most": "at most four warnings an hour are sent",
    "too many servers were left already": "there are too many earlier servers",
}
SOURCE = re.compile(r"SMTP tab, from (?P<by>\S{1,100})")
LINE = re.compile(
    r"(?P<when>Before|Now): (?P<host>.{1,100}) port (?P<port>[0-9]{1,5}), account (?P<account>.{0,300}), security (?P<security>[a-z]{1,20})"
)
GIVEN_UP = re.compile(r"given up after 5 days: (?P<step>[A-Za-z]{1,20})(?: (?P<reply>.{0,4000}))?", re.DOTALL)


def convert(cursor: sqlite3.Cursor) -> None:
    """Rewrite what differs, in the transaction of the migration."""
    events = cursor.execute("SELECT source, text, number FROM event WHERE code = ?", (SERVER_CHANGED.code,)).fetchall()
    changed = [(source_of(source), text_of(text), number) for source, text, number in events]
    cursor.executemany("UPDATE event SET source = ?, text = ? WHERE number = ?", sorted({*changed} - {*events}))
    # A server's answer to a delivered mail is no sentence of ours. Only what differs is kept: a database may hold many results.
    replies = [
        (reply, number, recipient)
        for before, number, recipient in cursor.execute(
            "SELECT reply, number, recipient FROM delivery WHERE verdict <> 'delivered'"
        )
        if (reply := reply_of(before)) != before
    ]
    cursor.executemany("UPDATE delivery SET reply = ? WHERE number = ? AND recipient = ?", replies)


def source_of(stored: str) -> str:
    """Return the source of a server change as it is stored now."""
    found = SOURCE.fullmatch(stored)
    return to_stored(Message("SMTP tab, from {by}", **found.groupdict())) if found else stored


def text_of(stored: str) -> str:
    """Return the text of a server change as it is stored now: the servers before and now, each a line."""
    lines = [LINE.fullmatch(line) for line in stored.split("\n")[:2]]
    nobody = stored.split("\n")[2:]
    if len(lines) < 2 or not all(lines) or len(nobody) > 1:
        return _present(stored)
    template = "{when}: {host} port {port}, account {account}, security {security}"
    before, now = (Message(template, **{**each.groupdict(), "when": Message(each["when"])}) for each in lines if each)
    if not nobody:
        return to_stored(Message("{before}\n{now}", before=before, now=now))
    return to_stored(Message("{before}\n{now}\n{nobody}", before=before, now=now, nobody=_reworded(Message(nobody[0]))))


def reply_of(stored: str) -> str:
    """Return the reply of a result that is no delivery as it is stored now."""
    found = GIVEN_UP.fullmatch(stored)
    if not found:
        return _present(stored)
    reply = _reworded(Message(found["reply"] or ""))
    return to_stored(Message("given up after 5 days: {step} {reply}", step=Message(found["step"]), reply=reply))


def _present(stored: str) -> str:
    """Return a stored text with the present words, unchanged if it has no others."""
    text = from_stored(stored)
    present = _reworded(text)
    return stored if present == text else to_stored(present)


def _reworded(text: Text) -> Text:
    """Return a text or a message, and every message in it, with the present words."""
    if not isinstance(text, Message):
        return REWORDED.get(text, text)
    template = REWORDED.get(text.template, text.template)
    values = {name: _reworded(value) if isinstance(value, Message) else value for name, value in text.values.items()}
    return Message(template, **values)
