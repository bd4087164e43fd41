"""What filters and mail programs find in a mail: procmail, Sieve, notmuch, Python's email, and SpamAssassin's own rules."""

from __future__ import annotations

import email.utils
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import mails
from tests.helpers.product import ROOT

# Each mail with its codes and its numbers.
MAILS = {
    "single": (mails.single("en"), ["303"], "1741"),
    "digest": (mails.digest("en"), ["303", "304"], "1742-1744"),
    "Korean single": (mails.single("ko", number=1750), ["303"], "1750"),
    "Korean digest": (mails.digest("ko", number=1751), ["303", "304"], "1751-1753"),
    "summary": (mails.digest("en", number=1754, is_summary=True), ["303", "304"], "1754-1756"),
    "Korean summary": (mails.digest("ko", number=1757, is_summary=True), ["303", "304"], "1757-1759"),
}
SIGNS = {
    "sign of life": (mails.sign_of_life("en"), ["905"], "1770"),
    "Korean sign of life": (mails.sign_of_life("ko"), ["905"], "1770"),
}
# What no rule for the code 303 may take.
OTHERS = [mails.digest("en", codes=["304", "304"]), *(each[0] for each in SIGNS.values())]
# The heading that each document's example is under.
BEFORE = {"operator.md": "\n## The mail\n", "events-api.md": "\n## What a program finds in a mail\n"}
BEGIN = b"From alarm@mail.example.com Sun Nov 29 07:02:05 2026\n"
RECEIVED = b"Received: from nas-office.example.com ([192.168.1.40]) by mx.example.com with ESMTPSA id 1\n"
SCORE_MAXIMUM = 0.1


@pytest.fixture(params=MAILS.values(), ids=list(MAILS))
def mail(request) -> tuple[bytes, list[str], str]:
    return request.param


@pytest.fixture(params=[*MAILS.values(), *SIGNS.values()], ids=[*MAILS, *SIGNS])
def any_mail(request) -> tuple[bytes, list[str], str]:
    return request.param


@pytest.fixture(params=OTHERS, ids=["other code", *SIGNS])
def other(request) -> bytes:
    return request.param


def run(words, tmp_path: Path, **options) -> subprocess.CompletedProcess[bytes]:
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin", "LANG": "C.UTF-8"}
    done = subprocess.run(words, env=environment, capture_output=True, timeout=600, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done


def documented(document: str, language: str) -> str:
    """Return the example in this language of a document."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    (found,) = re.findall(f"```{language}\n(.*?)```", text.partition(BEFORE[document])[2], re.DOTALL)
    return found


def test_pythons_email_finds_code_number_and_serial_as_documented(any_mail, tmp_path, monkeypatch):
    raw, codes, numbers = any_mail
    (tmp_path / "mail.eml").write_bytes(raw)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(documented("events-api.md", "python"), names)
    assert (names["codes"], names["numbers"], names["serial"]) == (codes, numbers, mails.SERIAL)


def test_the_bracket_is_in_the_raw_line(any_mail):
    raw, codes, _ = any_mail
    kind = "info" if codes == ["905"] else "fault"
    assert f"\r\nSubject: [{kind} {' '.join(codes)}] ".encode() in raw


PROCMAIL = r"""
MAILDIR=.
VERBOSE=off
:0 c
* ^Subject: \[fault [0-9 ]*303
* ^X-Device-Event-Number: 17[45]
* ^X-Device-Serial: 4P-000017$
serial/
"""


def by_procmail(raw: bytes, tmp_path: Path) -> list[str]:
    """Return the folders that procmail puts the mail into: by a rule of ours, and by the documented one."""
    (tmp_path / "rc").write_text(PROCMAIL + documented("operator.md", "procmail") + ":0\nelse/\n")
    run(["procmail", "-m", "rc"], tmp_path, cwd=tmp_path, input=raw.replace(b"\r\n", b"\n"))
    return sorted(each.parent.parent.name for each in tmp_path.glob("*/new/*"))


def test_procmail_finds_code_number_and_serial_and_the_bracket_in_the_raw_line(mail, tmp_path):
    assert by_procmail(mail[0], tmp_path) == ["disk", "serial"]


def test_procmail_leaves_other_codes_alone(other, tmp_path):
    assert by_procmail(other, tmp_path) == ["else"]


SIEVE = """
require ["fileinto", "copy", "variables"];
if allof (header :contains "subject" "[fault 303",
          header :matches "x-device-event-number" "*",
          header :is "x-device-serial" "4P-000017") {
    fileinto :copy "found-${1}";
}
"""


def by_sieve(raw: bytes, tmp_path: Path) -> list[str]:
    """Return the folders that Pigeonhole puts the mail into: by the documented rule, and by one of ours."""
    required = documented("operator.md", "sieve").partition("\n")
    (tmp_path / "rules.sieve").write_text(required[0] + SIEVE + required[2])
    (tmp_path / "mail.eml").write_bytes(raw)
    shutil.chown(tmp_path, "nobody")  # Dovecot's programs never run as root
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    user = ("-o", "mail_uid=nobody", "-o", "mail_gid=nogroup")
    words = ["sieve-test", *user, "-l", f"maildir:{tmp_path}/mails", "rules.sieve", "mail.eml"]
    said = run(words, tmp_path, cwd=tmp_path).stdout.decode()
    return re.findall(r"store message in folder: (\S+)", said)


def test_sieve_finds_code_number_and_serial(mail, tmp_path):
    raw, _, numbers = mail
    assert by_sieve(raw, tmp_path) == [f"found-{numbers}", "disk"]


def test_sieve_leaves_other_codes_alone(other, tmp_path):
    assert by_sieve(other, tmp_path) == ["INBOX"]


@pytest.fixture(scope="module")
def notmuch(tmp_path_factory):
    """Searches an index of all mails; one more single and one more digest of code 303 are in it."""
    folder = tmp_path_factory.mktemp("notmuch")
    for name in ("cur", "new", "tmp"):
        (folder / "mail" / name).mkdir(parents=True)
    more = [mails.digest("en", codes=["303", "303"], number=1800), mails.single("ko", number=1802)]
    others = [mails.digest("en", codes=["304", "304"], number=1810), SIGNS["sign of life"][0]]
    for place, raw in enumerate([*(each[0] for each in MAILS.values()), *more, *others]):
        (folder / "mail" / "cur" / f"{place}:2,S").write_bytes(raw.replace(b"\r\n", b"\n"))
    (folder / "config").write_text(
        f"[database]\npath={folder}/mail\n[user]\nname=a\nprimary_email=a@b.cc\n[new]\ntags=\n"
        "[index]\nheader.Code=X-Device-Event-Code\nheader.Number=X-Device-Event-Number\nheader.Serial=X-Device-Serial\n"
    )
    run(["notmuch", f"--config={folder}/config", "new"], folder)

    def search(query: str, output: str = "messages") -> list[str]:
        words = ["notmuch", f"--config={folder}/config", "search", "--format=json", f"--output={output}", query]
        return json.loads(run(words, folder).stdout)

    return search


def test_notmuch_finds_singles_and_digests_by_header(notmuch):
    assert len(notmuch("Code:303")) == 8
    assert len(notmuch("Code:304")) == 5
    assert len(notmuch("Code:905")) == 1
    assert len(notmuch(f"Code:303 Number:1750 Serial:{mails.SERIAL}")) == 1


def test_notmuch_threads_singles_and_digests_of_a_code_together(notmuch):
    assert len(notmuch("Code:303", "threads")) == 1
    assert len(notmuch("*", "threads")) == 3


# A score of SpamAssassin's report: points, and the rule.
SCORE = re.compile(r"^ *(-?[0-9]+\.[0-9]+) +([A-Z][A-Z0-9_]+)", re.MULTILINE)
# In place of Date in a mail that is to be found bad.
BAD = b"X-Old: "


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> list[tuple[bool, dict[str, float]]]:
    """Whether a mail is the bad one, and the rules of SpamAssassin that match it and need no network, for every mail.

    One run for all: the program takes seconds to start. It reports in an order of its own.
    """
    date = b"Date: " + email.utils.formatdate().encode()
    raws = [re.sub(rb"Date: [^\r]+", date, raw, count=1) for raw in mails.every_kind().values()]
    raws.append(mails.single("en").replace(b"Date: ", BAD, 1))
    box = b"".join(BEGIN + RECEIVED + raw.replace(b"\r\n", b"\n") + b"\n" for raw in raws)
    words = ["spamassassin", "--local", "--test-mode", "--nocreate-prefs", "--mbox"]
    parts = run(words, tmp_path_factory.mktemp("spamassassin"), input=box).stdout.split(b"Content analysis details:")
    found = [{name: float(points) for points, name in SCORE.findall(part.decode(errors="replace"))} for part in parts]
    # A part has the scores of one mail, then the header of the next.
    return [(BAD in before, scores) for before, scores in zip(parts, found[1:], strict=False)]


@pytest.mark.timeout(900)
def test_spamassassin_finds_nothing_in_any_mail_and_the_bad_one_bad(reports):
    assert all("HTML_MESSAGE" in scores for _, scores in reports)
    above = [is_bad for is_bad, scores in reports if max(scores.values()) > SCORE_MAXIMUM]
    assert (len(reports), above) == (len(mails.every_kind()) + 1, [True])
