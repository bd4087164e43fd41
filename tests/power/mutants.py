"""Products with one fault each: the suite must find a broken promise in every one of them, or it proves nothing.

A mutant is a scratch copy of the product in which texts are replaced; a text that is not found once is an error, so that
a change of the product cannot make a mutant empty. It counts as killed only by a broken promise, not by a crash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
COPIED = ("device_ui", "static", "views", "tests")
FLASH, RECORD = "device_ui/storage/files.py", "device_ui/storage/toml_file.py"
KEYS = "device_ui/settings/keys.py"
LEDGER, OUTBOX, LIMIT = (f"device_ui/mail/outbox/{name}.py" for name in ("database", "outbox", "retention"))
SENDER = "device_ui/mail/delivery/sender.py"
FORWARDED, PERIODIC = (f"device_ui/mail/delivery/{name}.py" for name in ("forward_command", "periodic"))
REQUESTS, APPLY = "device_ui/mail/ipc/requests.py", "device_ui/provisioning/apply.py"
FACTORY, ROTATION = "device_ui/cli/factory_reset.py", "device_ui/settings/rotation.py"
ADMINISTRATOR, PAGE = "device_ui/web/auth/administrator.py", "device_ui/web/pages/smtp.py"
# What `run` exits with when a promise was broken.
BROKEN = 3
STATES = 60

SYNCED = "        os.fchmod(descriptor, mode)\n        os.fsync(descriptor)\n    except OSError:"
NOT_SYNCED = "        os.fchmod(descriptor, mode)\n    except OSError:"
MODE_LAST = "        os.fsync(descriptor)\n        os.fchmod(descriptor, mode)\n    except OSError:"
RENAMED = "        os.fsync(folder)\n        _in_doubt.discard(path)\n"
NOT_RENAMED = "        _in_doubt.discard(path)\n"
FOLDER_MADE = "                    raise\n            os.fsync(folder)\n"
FOLDER_STANDS = "open_folder(path.parent) as folder:\n            os.fsync(folder)\n"
FOLDER_MODE = "and chown takes the set-group-ID bit\n        os.fsync(descriptor)\n"
FULL = "PRAGMA synchronous = FULL"
KEY_STANDS = "cache only.\n    _store_private(private_path, pairs)\n"
KEY_MADE = "    if not pairs:\n        pairs = [KeyPair(seal.new_private_key())]\n"
PRIVATE = "    _store_private(private_path, pairs)\n    _store_public(public_path, pairs)\n    return pairs[0]"
PUBLIC_FIRST = "    _store_public(public_path, pairs)\n    _store_private(private_path, pairs)\n    return pairs[0]"
COMMITTED = "self._rows += len(rows) - self.write(insert, user)"
LATER = '__import__("threading").Timer(0.3, '
IN_PLACE = [
    (FLASH, 'return f".{path.name}.new"', "return path.name"),
    (FLASH, "        os.unlink(name, dir_fd=folder)  # left by a power cut\n", "        pass\n"),
    (FLASH, "os.O_CREAT | os.O_EXCL |", "os.O_CREAT |"),
    (FLASH, "        if read_damaged(path) != present:\n", "        if False:\n"),
    (FLASH, "        _remove_new_files(folder, path)\n", ""),
]
TAKEN_IN = "        with contextlib.suppress(sqlite3.OperationalError):\n            self._connection.execute("
TAKEN_IN += '"PRAGMA wal_checkpoint(TRUNCATE)").fetchall()\n\n    def _check'
CHECKSUM = "if sha256(body).hexdigest() != found:"
OPENED = "        self._connection = sqlite3.connect("
UNCHANGED = "                    _fsync_existing(path.name, folder)\n                    os.fsync(folder)\n                    return False\n"
RESEALED = "    store.save(dataclasses.replace(settings, sealed=sealed), revision)\n"


@dataclass(frozen=True)
class Mutant:
    """A fault: `edits` are file, old text, new text. The story that finds it, and what must be found (a pattern)."""

    name: str
    edits: Sequence[tuple[str, str, str]]
    story: str
    finds: str = "."
    killed: int = 0
    deeper: int = 0


MUTANTS: Sequence[Mutant] = (
    Mutant("the file is not synced", [(FLASH, SYNCED, NOT_SYNCED)], "save"),
    Mutant("the folder is not synced after the rename", [(FLASH, RENAMED, NOT_RENAMED)], "save"),
    Mutant(
        "the file is synced after the rename",
        [(FLASH, SYNCED, NOT_SYNCED), (FLASH, RENAMED, f"        _fsync_existing(path.name, folder)\n{RENAMED}")],
        "password",
    ),
    Mutant("the old file is written over", IN_PLACE, "password"),
    Mutant("the mode is set after the sync", [(FLASH, SYNCED, MODE_LAST)], "save", "has mode"),
    Mutant(
        "a new folder is not synced",
        [
            (FLASH, FOLDER_MADE, FOLDER_MADE.partition("\n")[0] + "\n"),
            (FLASH, FOLDER_STANDS, FOLDER_STANDS.partition("\n")[0] + "\n            pass\n"),
        ],
        "start+save",
    ),
    Mutant(
        "a folder that stands is not synced",
        [(FLASH, FOLDER_STANDS, FOLDER_STANDS.partition("\n")[0] + "\n            pass\n")],
        "start",
        killed=3,
    ),
    Mutant("a new folder's mode is not synced", [(FLASH, FOLDER_MODE, FOLDER_MODE.partition("\n")[0] + "\n")], "start"),
    Mutant(
        "the checksum is ignored, the old file written over",
        [*IN_PLACE, (RECORD, CHECKSUM, "if False:")],
        "save",
        "mix|strange|does not open",
    ),
    Mutant("the public key is shown first", [(KEYS, PRIVATE, PUBLIC_FIRST)], "start", "no private key"),
    Mutant(
        "the old record goes before the new one",
        [
            (
                ADMINISTRATOR,
                "        self._store(_hashed(password))\n",
                "        self.path.unlink(missing_ok=True)\n        self._store(_hashed(password))\n",
            )
        ],
        "password",
    ),
    Mutant(
        "saved is said before it is",
        [
            (
                PAGE,
                "        revision = site.store.save(settings, revision)\n",
                f"        {LATER}site.store.save, (settings, revision)).start()\n",
            )
        ],
        "save",
        "called saved",
    ),
    Mutant(
        "accepted is said before it is",
        [(OUTBOX, COMMITTED, f"{LATER}self.write, (insert, user)).start()\n            self._rows += len(rows)")],
        "accept",
        "lost",
    ),
    Mutant(
        "the ledger is synced at checkpoints only", [(LEDGER, FULL, "PRAGMA synchronous = NORMAL")], "accept", "lost"
    ),
    Mutant(
        "a recovery empties the log before the ledger is synced",
        [(LEDGER, TAKEN_IN, f'        self._connection.execute("PRAGMA synchronous = OFF")\n{TAKEN_IN}')],
        "accept",
        "again at",
        deeper=STATES,
    ),
    Mutant("the ledger is never synced", [(LEDGER, FULL, "PRAGMA synchronous = OFF")], "accept", "lost"),
    Mutant(
        "the ledger has no journal on flash",
        [(LEDGER, "PRAGMA journal_mode = WAL", "PRAGMA journal_mode = MEMORY")],
        "deliver",
    ),
    Mutant(
        "a key that stands is not synced",
        [
            (KEYS, KEY_STANDS, "cache only.\n"),
            (KEYS, KEY_MADE, f"{KEY_MADE}        _store_private(private_path, pairs)\n"),
        ],
        "start",
        "no private key",
        killed=6,
    ),
    Mutant(
        "a reset erases the settings first",
        [(FACTORY, "    yield from _siblings(folders.key_file)\n", "")],
        "reset",
        "before the key",
    ),
    Mutant(
        "a reset begins before its mark is on flash",
        [(FACTORY, "        _fsync(mark)\n        _fsync(folders.data)\n", "        pass\n")],
        "reset",
    ),
    Mutant(
        "the key before is forgotten before the password is sealed anew",
        [
            (
                ROTATION,
                RESEALED,
                RESEALED.replace("store.save(", f"{LATER}store.save, (").replace("revision)", "revision)).start()"),
            )
        ],
        "rotate",
        "does not open",
    ),
    Mutant(
        "a file that stands is not synced", [(FLASH, UNCHANGED, "                    return False\n")], "save", killed=6
    ),
    Mutant(
        "the journal is taken for rubbish",
        [(LEDGER, OPENED, f'        self.path.with_name(self.path.name + "-wal").unlink(missing_ok=True)\n{OPENED}')],
        "accept",
        "lost",
    ),
    Mutant(
        "what the limit takes is not counted",
        [(LIMIT, "count(cursor, name, events)", "pass")],
        "prune",
        "limit",
    ),
    Mutant(
        "a mail is done once one recipient has it",
        [(SENDER, "is_done = all(name in ended", "is_done = any(name in ended")],
        "mixed",
        "has no result",
    ),
    Mutant(
        "a recipient that waits gets a result with the others",
        [(SENDER, "            if name not in self.deferred\n", "")],
        "mixed",
        "which the server did not say",
    ),
    Mutant(
        "the list of a document is written before its tab",
        [(APPLY, "    for step in steps:\n        store =", "    for step in reversed(steps):\n        store =")],
        "apply",
        "the list of a document stands",
    ),
    Mutant(
        "what is sent again does not wait",
        [(REQUESTS, "waiting=action == Action.SEND_AGAIN", "waiting=False")],
        "again",
        "neither waits nor was sent",
    ),
    Mutant(
        "what was sent again is queued anew at each start",
        [
            (
                LEDGER,
                "        self._check()\n        if has_wal:",
                "        self._check()\n        execute('UPDATE event SET waiting = 1 WHERE about')\n        if has_wal:",
            )
        ],
        "again",
        "waits again",
    ),
    Mutant(
        "the note of a summary is a commit of its own",
        [
            (
                OUTBOX,
                "            write_metadata(cursor, metadata(mails))\n            return mails\n",
                "            return mails\n",
            ),
            (
                OUTBOX,
                "            mails = self.write(begin, MAIL)\n",
                "            mails = self.write(begin, MAIL)\n            self.write(lambda cursor: write_metadata(cursor, metadata(mails)))\n",
            ),
        ],
        "periodic",
        "its note has",
    ),
    Mutant(
        "the note of a sign of life is a commit before it",
        [
            (
                PERIODIC,
                "            numbers = self._outbox.accept(\n"
                "                [event], singles, lambda number: {SIGN_METADATA: self._begun(day, number=number)}\n"
                "            )\n",
                "            self._outbox.set_metadata(SIGN_METADATA, self._begun(day, number=self._outbox.last + 1))\n"
                "            numbers = self._outbox.accept([event], singles)\n",
            )
        ],
        "periodic",
        "the signs of life are",
    ),
    Mutant(
        "the cursor moves before the program has the events",
        [
            (
                FORWARDED,
                "        failure = self._program.run({}",
                "        self._outbox.forwarded(last, outcomes)\n        failure = self._program.run({}",
            ),
        ],
        "forward",
        "the engine lacks",
    ),
    Mutant(
        "a program that fails moves the cursor",
        [(FORWARDED, "        if failure:\n            if failure", "        if False:\n            if failure")],
        "away",
        "the engine lacks",
    ),
    Mutant(
        "the outcome of a mail is a commit of its own",
        [
            (
                OUTBOX,
                "            if done:\n                self._keep_outcome(cursor, OF_MAIL, (number,))\n",
                "            if done:\n",
            ),
            (
                OUTBOX,
                "        if done:\n            self._outcomes_kept()\n",
                "        if done:\n            __import__('threading').Timer(0.3, lambda: (self.write(lambda cursor: "
                "self._keep_outcome(cursor, OF_MAIL, (number,))), self._outcomes_kept())).start()\n",
            ),
        ],
        "forward",
        "outcomes of",
    ),
    Mutant(
        "the number of an event is not kept",
        [(LEDGER, "SELECT coalesce(max(number), 0) FROM event", "SELECT count(*) FROM event")],
        "prune",
        "given twice|does not start",
    ),
)


def mutate(mutant: Mutant, copy: Path) -> None:
    """Make the mutant in `copy`, a new folder. Raises ValueError when a text stands there not exactly once."""
    ignored = shutil.ignore_patterns("__pycache__", "screenshots", "browser")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name, old, new in mutant.edits:
        text = (copy / name).read_text()
        if text.count(old) != 1:
            raise ValueError(f"{mutant.name}: {name} holds {text.count(old)} times: {old!r}")
        (copy / name).write_text(text.replace(old, new))


def verdict(mutant: Mutant, copy: Path) -> str:
    """What the suite finds in the mutant: a broken promise, "" when it found none. Raises RuntimeError on a crash."""
    mutate(mutant, copy)
    words = [
        sys.executable,
        "-m",
        "tests.power",
        "--story",
        mutant.story,
        "--states",
        str(STATES),
        "--killed",
        str(mutant.killed),
        "--deeper",
        str(mutant.deeper),
    ]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode not in (0, BROKEN):
        raise RuntimeError(f"{mutant.name}: {done.stdout}{done.stderr}")
    found = [line for line in done.stdout.splitlines() if line.startswith("BROKEN") and re.search(mutant.finds, line)]
    return found[0] if found else ""


def tried(mutant: Mutant) -> str:
    """The same in a folder of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="device-ui-mutant-") as folder:
        return verdict(mutant, Path(folder))
