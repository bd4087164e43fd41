"""atheris on one target: ``python -m tests.audit.fuzz form --seconds 30``. Exit code 3 and a line for a broken promise.

Coverage leads it: an input that reaches a line of the product that none reached before is kept and changed further, byte by
byte as libFuzzer does it, or word by word.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import tempfile
import traceback
from pathlib import Path

import atheris

BROKEN = 3
# Of ten changes, those that libFuzzer makes.
BYTEWISE = 4
PIECE = re.compile(rb"\w+|\s|.", re.DOTALL)
ODD = (b"", b"0", b"-1", b"99999", b" ", b"\n", b"\0", b"\x1c", "가".encode())

with atheris.instrument_imports(include=["device_ui"]):
    from tests.audit.seeds import SEEDS, WORDS
    from tests.audit.targets import TARGETS


def main(arguments: list[str]) -> None:
    """Fuzz until the time is over or a promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    target = TARGETS[given.target]

    words_of = (*WORDS[given.target], *ODD)

    def changed(raw: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.randrange(10) < BYTEWISE:
            return bytes(atheris.Mutate(raw, most))
        pieces = PIECE.findall(raw)
        at = chance.randrange(len(pieces) + 1)
        pieces[at : at + chance.choice((0, 1, 1, 3))] = [chance.choice(words_of)]
        return b"".join(pieces)[:most]

    def tried(raw: bytes) -> None:
        try:
            target(raw)
        except BaseException as broken:
            last = traceback.extract_tb(broken.__traceback__)[-1]
            told = str(broken).partition("\n")[0]
            print(f"BROKEN {given.target}: {type(broken).__name__} at {Path(last.filename).name}:{last.lineno}: {told}")
            print(f"       by {raw!r}", flush=True)
            os._exit(BROKEN)

    with tempfile.TemporaryDirectory(prefix="device-ui-corpus-") as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate(SEEDS[given.target]):
            (corpus / str(number)).write_bytes(seed)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS[given.target]))
        limits = [
            f"-max_total_time={given.seconds}",
            f"-seed={given.seed}",
            "-max_len=4096",
            "-timeout=20",
            "-rss_limit_mb=1024",
        ]
        atheris.Setup(
            [sys.argv[0], *limits, f"-dict={words}", "-verbosity=0", "-print_final_stats=1", str(corpus)],
            tried,
            custom_mutator=changed,
        )
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(sys.argv[1:])
