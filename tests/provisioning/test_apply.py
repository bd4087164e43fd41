"""``device-ui apply``: a document is applied whole, or refused with every broken field; a second run writes nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.config import Device, Folders
from device_ui.errors import Conflict
from device_ui.mail import catalog
from device_ui.provisioning import apply, document, sections, smtp
from device_ui.provisioning.document import Broken
from device_ui.provisioning.passwords import WrongSeal
from device_ui.settings import fields, keys, notifications, oauth_rules, recipients, seal
from device_ui.settings.fields import FIELDS, SmtpSettings
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import NotificationStore, RecipientStore, Store
from device_ui.storage import files
from tests.bench import fleet
from tests.helpers.product import PASSWORD
from tests.servers.authority import Authority

TAB = {"host": "relay.example.com", "port": 587, "sender_name": "UPS 17", "account": "ups@example.com"}
SMTP = {**TAB, "password": PASSWORD}
LIST = {"noc@example.com": "fault", "ops@example.com": "info ko"}
WHOLE = {"device_ui": 1, "smtp": SMTP, "recipients": LIST}
AUTHORITY = Authority("Our own").pem.decode().strip()
# Thousands of syncs.
MEMORY = Path("/dev/shm")
OTHER_PASSWORD = "Wq8?tRz5!Lmx"


def new_device(folder: Path, locked: tuple[str, ...] = ()) -> Device:
    """A device whose mail hook has made its keys."""
    folders = Folders(folder / "data", folder / "run", folder / "etc")
    device = Device.plain(folders)
    device = dataclasses.replace(device, settings={**device.settings, **{f"locks.{name}": True for name in locked}})
    for path, mode, owner in (*device.layout("mail"), *device.layout("web")):
        files.make_folder(path, mode, owner)
    keys.load_pair(folders.private_key, folders.public_key)
    return device


@pytest.fixture
def target(tmp_path):
    """A device without settings."""
    return new_device(tmp_path)


def run(content: dict, device: Device) -> dict:
    """Apply a document; what changed."""
    steps = apply.plan(document.read(json.dumps(content).encode()), device)
    apply.write(steps, device)
    return apply.summary(steps)


def refused(content: dict, device: Device) -> dict[str, str]:
    """The broken fields of a document, each with its sentence."""
    before = state(device)
    with pytest.raises(Broken) as broken:
        run(content, device)
    assert state(device) == before
    return {place: str(each.sentence) for place, each in broken.value.fields.items()}


def state(device: Device) -> dict[str, tuple[int, bytes]]:
    """Each file of the settings by its name, with its inode, which every write changes."""
    folder = device.folders.settings.parent
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}


def stored(device: Device) -> SmtpSettings:
    """The settings of the tab."""
    found = Store(device.folders.settings).read()[0]
    assert found
    return found


def password(device: Device) -> str:
    """The stored password, opened."""
    return keys.load_password(device.folders.private_key, stored(device))


def sealed(device: Device, text: str = PASSWORD, **changes: object) -> str:
    """A password that the controller sealed for this device and the server of `SMTP`."""
    content = {"device_ui": 1, "smtp": {**SMTP, "password": text, **changes}}
    public = keys.load_public(device.folders.public_key)
    return str(sections.seal_document(content, public, None)["smtp"]["sealed"])


# What a document does.


def test_document_sets_the_tab_and_the_list(target):
    answer = run(WHOLE, target)
    assert stored(target).host == "relay.example.com" and password(target) == PASSWORD
    assert RecipientStore(target.folders.recipients).read()[0] == (
        Recipient("noc@example.com", "fault"),
        Recipient("ops@example.com", "info", "ko"),
    )
    assert answer["changed"] and answer["recipients"] == {"added": [*LIST]}
    assert answer["smtp"] == {
        **{name: [None, value] for name, value in TAB.items()},
        **{"security": [None, "auto"], "sign_in": [None, "manual"]},
        **{"trust": [None, "system"], "password": "set"},
    }


@pytest.mark.parametrize("kind", ["password", "sealed", "kept"])
def test_second_run_changes_nothing_and_writes_no_byte(target, kind):
    content = {**WHOLE, "smtp": {**TAB, "sealed": sealed(target)} if kind == "sealed" else SMTP}
    assert run(content, target)["changed"]
    before = state(target)
    second = {**WHOLE, "smtp": TAB} if kind == "kept" else content
    assert run(second, target) == {"changed": False}
    assert state(target) == before


def test_password_that_the_controller_seals_anew_changes_nothing(target):
    run({"device_ui": 1, "smtp": {**TAB, "sealed": sealed(target)}}, target)
    before = state(target)
    assert run({"device_ui": 1, "smtp": {**TAB, "sealed": sealed(target)}}, target) == {"changed": False}
    assert state(target) == before


def test_changes_are_named_with_old_and_new_values_and_never_a_password(target):
    run(WHOLE, target)
    changed = {**SMTP, "port": 465, "password": OTHER_PASSWORD}
    answer = run(
        {"device_ui": 1, "smtp": changed, "recipients": {"ops@example.com": "fault", "new@example.com": "info"}}, target
    )
    assert answer == {
        "changed": True,
        "smtp": {"port": [587, 465], "password": "replaced"},
        "recipients": {
            "added": ["new@example.com"],
            "removed": ["noc@example.com"],
            "changed": {"ops@example.com": ["info ko", "fault"]},
        },
    }


def test_what_is_mailed_and_when(target):
    chosen = {"infos": False, "summary_time": "07:30", "sign_of_life": "weekly", "304": "never", "303": "summary"}
    answer = run({"device_ui": 1, "notifications": chosen}, target)
    assert answer == {
        "changed": True,
        "notifications": {
            "infos": [True, False],
            "summary_time": ["08:00", "07:30"],
            "sign_of_life": ["off", "weekly"],
            "303": ["at-once", "summary"],
            "304": ["at-once", "never"],
        },
    }
    assert sections.export(target)["notifications"] == chosen
    assert run({"device_ui": 1, "notifications": {"303": "at-once"}}, target)["notifications"]["303"] == [
        "summary",
        "at-once",
    ]
    assert sections.export(target)["notifications"] == {"infos": True, "summary_time": "08:00", "sign_of_life": "off"}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        *((code, "Events of this code are kept in the history and never mailed, so it has no choice.") for code in ("153", "306", "902", "904")),
        ("905", "The sign of life is mailed as sign_of_life says, so its code has no choice."),
    ],
)  # fmt: skip
def test_choice_that_would_have_no_effect_is_refused(code, sentence, target):
    found = refused({"device_ui": 1, "notifications": {code: "never", "303": "never"}}, target)
    assert found == {f"notifications.{code}": sentence}


def test_codes_without_a_choice_are_those_that_no_choice_changes():
    assert set(notifications.WITHOUT_CHOICE) == {
        kind.code for kind in catalog.OURS.values() if not kind.mail or kind == catalog.SIGN_OF_LIFE
    }


def test_choice_of_a_former_version_without_effect_is_left_out_and_writes_no_byte(target):
    run({"device_ui": 1, "notifications": {"303": "never"}}, target)
    store = NotificationStore(target.folders.settings.with_name(notifications.NOTIFICATIONS_FILE))
    former = notifications.Notifications(codes=(("303", "never"), ("905", "never")))
    store.save(former, store.look().revision)
    before = state(target)
    assert sections.export(target)["notifications"].keys() == {"infos", "summary_time", "sign_of_life", "303"}
    assert run(sections.export(target), target) == {"changed": False}
    assert state(target) == before
    run({"device_ui": 1, "notifications": {"303": "summary"}}, target)
    assert dict(store.read()[0].codes) == {"303": "summary"}


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"trust_key": "0f" * 32}, "trust_key"),
        ({"trust": "ca", "trust_ca": AUTHORITY, "trust_key": "0f" * 32}, "trust_key"),
        ({"trust": "system", "trust_ca": AUTHORITY}, "trust_ca"),
        ({"from_address": "root@example.com"}, "from_address"),
        ({"oauth_client": "a1b2"}, "oauth_client"),
    ],
)
def test_field_that_would_have_no_effect_is_refused(more, place, target):
    """A key without its `trust` looks like a trusted one."""
    found = refused({"device_ui": 1, "smtp": {**SMTP, **more}}, target)
    assert found == {
        f"smtp.{place}": "It has no effect with the other values of this section: remove it, or change those."
    }
    # An empty one is none: a template of a fleet may have it.
    assert run({"device_ui": 1, "smtp": {**SMTP, **more, place: ""}}, target)["changed"]


def test_order_of_the_list_counts(target):
    run(WHOLE, target)
    answer = run({**WHOLE, "recipients": dict(reversed(LIST.items()))}, target)
    assert answer == {"changed": True, "recipients": {"reordered": True}}


def test_missing_section_is_left_alone_and_one_that_is_there_is_whole(target):
    run({**WHOLE, "smtp": {**SMTP, "security": "starttls"}}, target)
    run({"device_ui": 1, "smtp": SMTP}, target)
    assert stored(target).security == "auto"
    assert len(RecipientStore(target.folders.recipients).read()[0]) == 2
    assert run({"device_ui": 1, "recipients": {}}, target)["recipients"] == {"removed": [*LIST]}


def test_relay_without_a_login_forgets_the_password(target):
    run(WHOLE, target)
    answer = run({"device_ui": 1, "smtp": {**TAB, "sign_in": "none"}}, target)
    assert answer["smtp"] == {"sign_in": ["manual", "none"], "password": "removed"}


def test_password_without_a_private_key_at_hand_is_sealed_anew(target):
    """The web process's user, and root where systemd encrypted the key: a comparison is not possible, so it is a change."""
    run(WHOLE, target)
    target.folders.private_key.rename(target.folders.data / "away")
    assert run(WHOLE, target) == {"changed": True, "smtp": {"password": "replaced"}}


# What is refused.


def test_every_broken_field_is_named_at_once_with_the_sentence_of_the_page(target):
    broken = {"host": "", "port": 0, "sender_name": "", "account": "x", "password": "short", "security": "maybe"}
    content = {"device_ui": 1, "smtp": broken, "recipients": {"nobody": "fault", "a@example.com": "all"}}
    assert refused(content, target) == {
        "smtp.host": "Please enter an SMTP host within 100 characters.",
        "smtp.port": "Please enter an SMTP port between 1 and 49151.",
        "smtp.sender_name": "Please enter a sender name.",
        "smtp.account": "Please enter an SMTP account address in email format.",
        "smtp.password": "The SMTP account password does not meet the rules.",
        "smtp.security": "Please choose one of the values listed.",
        "recipients.nobody": "Please enter an e-mail address, such as name@example.com.",
        "recipients.a@example.com": "Please choose one of the values listed.",
    }


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ({"hots": "x"}, "smtp.hots"),
        ({"host": 5}, "smtp.host"),
        ({"port": 587.0}, "smtp.port"),
        ({"port": True}, "smtp.port"),
        ({"sender_name": ["x"]}, "smtp.sender_name"),
        ({"sealed": "hpke1.no"}, "smtp.sealed"),
        ({"sealed": "hpke1.0123456789abcdef." + "A" * 64}, "smtp.sealed"),
        ({"password_set": "yes"}, "smtp.password_set"),
    ],
)
def test_value_of_a_wrong_kind_or_name_is_a_broken_field(target, section, place):
    assert place in refused({"device_ui": 1, "smtp": {**SMTP, **section}}, target)


@pytest.mark.parametrize(
    ("content", "places"),
    [
        ({}, {"device_ui"}),
        ({"device_ui": 2}, {"device_ui"}),
        ({"device_ui": True}, {"device_ui"}),
        ({"device_ui": 1, "smpt": {}}, {"smpt"}),
        ({"device_ui": 1, "smtp": "x", "recipients": []}, {"smtp", "recipients"}),
    ],
)
def test_document_of_another_shape_is_refused(target, content, places):
    assert set(refused(content, target)) == places


@pytest.mark.parametrize(
    "raw",
    [
        b"device_ui = ",
        b'{"device_ui": 1, "device_ui": 1}',
        b'{"device_ui": 1',
        b"\xff",
        b"{" * 100_000,
        b'{"device_ui": 1, "smtp": ' * 3_000,
        b"a = [" + b"[" * 20_000,
        b'{"a": "\\ud800"}',
        b"{}" + b" " * document.SIZE_MAXIMUM,
        b"device_ui = 1\n\0",
        b"n = 1" + b"0" * 5_000,
    ],
)
def test_text_that_is_no_document_is_refused_in_one_line(raw):
    with pytest.raises(Broken) as broken:
        document.read(raw)
    assert list(broken.value.fields) == ["document"] and "\n" not in broken.value.lines[0]


def test_password_is_kept_only_for_its_server(target):
    run(WHOLE, target)
    assert refused({"device_ui": 1, "smtp": {**TAB, "host": "other.example.com"}}, target) == {
        "smtp.password": "The SMTP account password does not meet the rules."
    }


def test_list_of_21_names_the_one_that_is_too_many(target):
    listed = {f"a{number}@example.com": "info" for number in range(21)}
    assert set(refused({"device_ui": 1, "recipients": listed}, target)) == {"recipients.a20@example.com"}


def test_choice_that_the_maker_locked_is_refused_unless_it_was_stored_before(tmp_path):
    free = new_device(tmp_path)
    content = {"device_ui": 1, "smtp": {**SMTP, "security": "tls"}}
    run(content, free)
    locked = new_device(tmp_path, ("security",))
    assert run(sections.export(locked), locked) == {"changed": False}
    assert set(refused({"device_ui": 1, "smtp": {**SMTP, "security": "starttls"}}, locked)) == {"smtp.security"}


@pytest.mark.parametrize("change", [{"host": "other.example.com"}, {"port": 465}, {"security": "tls"}])
def test_sealed_password_of_another_server_is_refused_before_anything_is_written(target, change):
    content = {"device_ui": 1, "smtp": {**TAB, "sealed": sealed(target, **change)}, "recipients": LIST}
    before = state(target)
    with pytest.raises(WrongSeal, match="typed for another server"):
        run(content, target)
    assert state(target) == before


def test_sealed_password_of_another_device_is_refused_and_the_key_to_seal_for_is_named(target, tmp_path):
    other = new_device(tmp_path / "other")
    own = keys.load_pair(target.folders.private_key, target.folders.public_key).id
    with pytest.raises(WrongSeal, match=f"this device's key, {own}"):
        run({**WHOLE, "smtp": {**TAB, "sealed": sealed(other)}}, target)
    assert state(target) == {}


def test_sealed_password_that_breaks_the_rules_is_refused(target):
    public = keys.load_public(target.folders.public_key)
    weak = seal.seal("weak", public, ("relay.example.com", "587", "ups@example.com", "auto"))
    with pytest.raises(WrongSeal, match="breaks the rules"):
        run({"device_ui": 1, "smtp": {**TAB, "sealed": weak}}, target)
    assert state(target) == {}


# The trusted certificate.

TRUSTS = [{"trust": "pin", "trust_key": "0f" * 32}, {"trust": "ca", "trust_ca": AUTHORITY}]


@pytest.mark.parametrize("trust", TRUSTS, ids=["pin", "ca"])
@pytest.mark.parametrize("spell", [document.to_toml, document.to_json])
def test_trust_is_applied_and_exported_and_a_second_run_changes_nothing(trust, spell, target):
    run({"device_ui": 1, "smtp": {**SMTP, **trust}}, target)
    assert {name: getattr(stored(target), name) for name in trust} == trust
    assert password(target) == PASSWORD
    exported = sections.export(target)
    assert {name: value for name, value in exported["smtp"].items() if name.startswith("trust")} == trust
    again = document.read(spell(exported).encode())
    assert apply.summary(apply.plan(again, target)) == {"changed": False}


@pytest.mark.parametrize("trust", TRUSTS, ids=["pin", "ca"])
def test_password_sealed_for_one_trust_is_not_taken_for_another(trust, target):
    text = sealed(target, **trust)
    run({"device_ui": 1, "smtp": {**TAB, **trust, "sealed": text}}, target)
    assert password(target) == PASSWORD
    with pytest.raises(WrongSeal):
        run({"device_ui": 1, "smtp": {**TAB, "sealed": text}}, target)


def test_broken_trust_names_its_field(target):
    assert list(refused({"device_ui": 1, "smtp": {**SMTP, "trust": "pin"}}, target)) == ["smtp.trust_key"]
    assert list(refused({"device_ui": 1, "smtp": {**SMTP, "trust": "none"}}, target)) == ["smtp.trust"]


# OAuth 2.0.

APP = {**TAB, "sign_in": "oauth", "oauth_tenant": "contoso.example", "oauth_client": "a1b2"}
SECRET_APP = {**APP, "oauth_grant": "secret", "oauth_until": "2028-11-01"}
CLIENT_SECRET = "aB3~a.client_secret-of-the-tenant"


def test_sign_in_by_certificate_needs_no_secret_and_a_second_run_changes_nothing(target):
    run({"device_ui": 1, "smtp": {**APP, "password": PASSWORD}}, target)
    assert stored(target).sealed is None and stored(target).oauth_grant == "certificate"
    exported = sections.export(target)
    more = {"security": "auto", "oauth_provider": "microsoft", "oauth_grant": "certificate", "password_set": False}
    assert exported["smtp"] == {**APP, **more, "trust": "system"}
    assert run(exported, target) == {"changed": False}


def test_client_secret_is_sealed_for_a_device_and_applied_there(target):
    public = keys.load_public(target.folders.public_key)
    content = {"device_ui": 1, "smtp": {**SECRET_APP, "password": CLIENT_SECRET}}
    made = sections.seal_document(content, public, None)
    assert CLIENT_SECRET not in json.dumps(made)
    answer = run(made, target)
    assert answer["smtp"]["oauth_client"] == [None, "a1b2"] and answer["smtp"]["password"] == "set"
    assert password(target) == CLIENT_SECRET
    assert run(content, target) == {"changed": False}
    assert password(target) == CLIENT_SECRET


@pytest.mark.parametrize(
    "change",
    [
        {"host": "other.example.com"},
        {"oauth_client": "a1b3"},
        {"oauth_tenant": "fabrikam.example"},
        {"oauth_provider": "custom", "oauth_issuer": "https://login.example.com"},
        {"sign_in": "provider"},
    ],
)
def test_client_secret_of_another_application_or_server_is_refused(target, change):
    public = keys.load_public(target.folders.public_key)
    other = sections.seal_document(
        {"device_ui": 1, "smtp": useful({**SECRET_APP, **change, "password": CLIENT_SECRET})}, public, None
    )
    content = {"device_ui": 1, "smtp": {**SECRET_APP, "sealed": other["smtp"]["sealed"]}}
    with pytest.raises(WrongSeal, match="typed for another server"):
        run(content, target)
    assert state(target) == {}


def test_client_secret_is_kept_only_for_its_application(target):
    run({"device_ui": 1, "smtp": {**SECRET_APP, "password": CLIENT_SECRET}}, target)
    run({"device_ui": 1, "smtp": {**SECRET_APP, "oauth_until": "2029-11-01"}}, target)
    assert password(target) == CLIENT_SECRET
    assert set(refused({"device_ui": 1, "smtp": {**SECRET_APP, "oauth_client": "a1b3"}}, target)) == {"smtp.password"}


def test_fields_that_the_provider_and_the_grant_need_are_named_together(target):
    content = {"device_ui": 1, "smtp": {**TAB, "sign_in": "oauth", "oauth_grant": "secret"}}
    needed = {"smtp.oauth_tenant", "smtp.oauth_client", "smtp.oauth_until", "smtp.password"}
    assert set(refused(content, target)) == needed


# Somebody else saves, files are damaged.


def test_page_that_saves_meanwhile_is_not_overwritten(target):
    run(WHOLE, target)
    steps = apply.plan({**WHOLE, "smtp": {**SMTP, "port": 465}}, target)
    run({"device_ui": 1, "smtp": {**SMTP, "port": 25}}, target)
    with pytest.raises(Conflict):
        apply.write(steps, target)
    assert stored(target).port == 25


def test_page_that_saves_what_was_unchanged_is_a_conflict_too(target):
    run(WHOLE, target)
    steps = apply.plan(WHOLE, target)
    run({"device_ui": 1, "smtp": {**SMTP, "port": 25}}, target)
    with pytest.raises(Conflict):
        apply.write(steps, target)


def test_damaged_file_is_set_aside_by_an_apply_and_not_by_a_plan(target):
    run(WHOLE, target)
    target.folders.settings.write_bytes(b"damaged")
    steps = apply.plan(WHOLE, target)
    assert [path.name for path in sorted(target.folders.settings.parent.iterdir())] == ["recipients.toml", "smtp.toml"]
    apply.write(steps, target)
    assert stored(target).port == 587
    assert (target.folders.settings.parent / "smtp.toml.damaged-1").read_bytes() == b"damaged"


def test_lost_key_is_reported_when_something_else_changes(target):
    """By the tab's own rule: a password that cannot be opened any more is not kept."""
    run(WHOLE, target)
    target.folders.private_key.unlink()
    keys.load_pair(target.folders.private_key, target.folders.public_key)
    assert run(sections.export(target), target) == {"changed": False}
    assert "smtp.password" in refused({"device_ui": 1, "smtp": {**TAB, "sender_name": "UPS 18"}}, target)


# An export is a document.

TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)
ADDRESSES = st.from_regex(r"[a-z0-9.-]{1,12}@[a-z]{1,8}\.[a-z]{2,5}", fullmatch=True)
RELAYS = {
    "host": TEXTS,
    "port": st.integers(1, 49151),
    "sender_name": TEXTS,
    "security": st.sampled_from(fields.SECURITIES),
    "sign_in": st.sampled_from(fields.SIGN_INS),
    "account": st.one_of(ADDRESSES, st.just("ups@example.com"), TEXTS),
    "from_address": st.one_of(st.just(""), ADDRESSES),
    "password": st.sampled_from([PASSWORD, OTHER_PASSWORD, "a provider's key"]),
    "trust": st.sampled_from(["", "system", "pin", "ca"]),
    "trust_key": st.sampled_from(["0f" * 32, ":".join(["0F"] * 32), "no key"]),
    "trust_ca": st.sampled_from([AUTHORITY, f"subject\n{AUTHORITY}\r\n", "no authority"]),
    "oauth_provider": st.sampled_from(oauth_rules.PROVIDERS),
    "oauth_grant": st.sampled_from(oauth_rules.GRANTS),
    "oauth_tenant": st.sampled_from(["contoso.example", "common"]),
    "oauth_issuer": st.sampled_from(["https://login.example.com", "https://login.example.com/realms/a"]),
    "oauth_client": st.sampled_from(["a1b2", "no client"]),
    "oauth_scope": st.sampled_from(["", "smtp.send offline_access"]),
    "oauth_until": st.sampled_from(["2028-11-01", "soon"]),
}
LISTS = st.dictionaries(ADDRESSES, st.sampled_from(["info", "fault", "info ko", "fault en"]), max_size=22)
CODES = st.one_of(st.integers(0, 999).map("{:03}".format), st.sampled_from(["153", "902", "905", "906"]))


def useful(section: dict[str, object]) -> dict[str, object]:
    """The fields of a section that its choices need."""
    defaults = {"oauth_provider": oauth_rules.PROVIDERS[0], "oauth_grant": oauth_rules.GRANTS[0]}
    needed = {each.name for each in fields.needed_fields({**defaults, **section})}
    if section["sign_in"] not in ("provider", "oauth", "none"):
        needed.discard("from_address")
    return {name: value for name, value in section.items() if name in needed}


def sections_of(values: dict[str, st.SearchStrategy[object]]) -> st.SearchStrategy[dict[str, object]]:
    """Mostly with the fields alone that their choices need."""
    return st.tuples(st.fixed_dictionaries(values), st.integers(0, 3)).map(
        lambda drawn: useful(drawn[0]) if drawn[1] else drawn[0]
    )


CHOICES = {
    "infos": st.booleans(),
    "summary_time": st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}"),
    "sign_of_life": st.sampled_from(["off", "daily", "weekly"]),
}
NOTIFICATIONS = st.builds(
    lambda values, codes: {**values, **codes},
    st.fixed_dictionaries({}, optional=CHOICES),
    st.dictionaries(CODES, st.sampled_from(["at-once", "summary", "never"]), max_size=4),
)
DOCUMENTS = st.fixed_dictionaries(
    {"device_ui": st.just(1)},
    optional={"smtp": sections_of(RELAYS), "recipients": LISTS, "notifications": NOTIFICATIONS},
)


@pytest.fixture(scope="module")
def shared():
    """A device for the examples of a property."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield new_device(Path(folder))


@given(DOCUMENTS)
@settings(max_examples=75)
def test_export_of_every_state_applied_again_changes_nothing_and_writes_no_byte(shared, content):
    try:
        run(content, shared)
    except Broken:
        return
    before = state(shared)
    for text in (document.to_toml, document.to_json):
        for public in (None, keys.load_public(shared.folders.public_key)):
            steps = apply.plan(document.read(text(sections.export(shared, public)).encode()), shared)
            apply.write(steps, shared)
            assert apply.summary(steps) == {"changed": False}
    assert state(shared) == before


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just(""), st.lists(st.text(max_size=2), max_size=2)
)
NAMES = [each.name for each in FIELDS]
HALF_BROKEN = st.fixed_dictionaries(
    {"device_ui": st.sampled_from([1, 1, 1, 2, "1"])},
    optional={
        "smtp": sections_of({name: st.one_of(RELAYS[name], JUNK) for name in NAMES}),
        "recipients": st.dictionaries(st.one_of(ADDRESSES, TEXTS), st.one_of(st.just("info"), JUNK), max_size=4),
        "notifications": st.builds(
            lambda values, codes: {**values, **codes},
            st.fixed_dictionaries({}, optional={name: st.one_of(CHOICES[name], JUNK) for name in CHOICES}),
            st.dictionaries(st.one_of(CODES, TEXTS), st.one_of(st.just("summary"), JUNK), max_size=3),
        ),
        "more": JUNK,
    },
)


@given(HALF_BROKEN)
@settings(max_examples=100)
def test_any_document_is_applied_whole_or_refused_with_every_broken_field(shared, content):
    """Which fields are broken is asked of each rule by itself."""
    before = state(shared)
    try:
        steps = apply.plan(content, shared)
    except Broken as broken:
        assert state(shared) == before
        named = set(broken.fields)
        assert ("device_ui" in named) == (content["device_ui"] != 1)
        assert ("more" in named) == ("more" in content)
        section = content.get("smtp", {})
        rule = {each.name: each.by_sign_in for each in FIELDS}
        sign_in = section.get("sign_in") if section.get("sign_in") in fields.SIGN_INS else "manual"
        for name in ("host", "sender_name", "account"):
            if name in section:
                value = section[name]
                is_right = isinstance(value, str) and not isinstance(rule[name][sign_in](value), fields.Invalid)
                assert (f"smtp.{name}" in named) != is_right
        for address, value in content.get("recipients", {}).items():
            alone = recipients.add((), address, value) if isinstance(value, str) else fields.Invalid("")
            if isinstance(alone, fields.Invalid):
                assert f"recipients.{address}" in named
        for name, value in content.get("notifications", {}).items():
            assert (f"notifications.{name}" in named) == isinstance(notifications.parse({name: value}), dict)
        return
    apply.write(steps, shared)
    exported = sections.export(shared)
    for name, value in content.get("smtp", {}).items():
        if name in ("host", "port", "sender_name", "account"):
            assert str(exported["smtp"][name]) == str(
                fields.BY_NAME[name].by_sign_in[exported["smtp"]["sign_in"]](str(value))
            )
    if "notifications" in content:
        assert notifications.parse(exported["notifications"]) == notifications.parse(content["notifications"])
    if "recipients" in content:
        assert [each.lower() for each in exported["recipients"]] == [
            each.strip().lower() for each in content["recipients"]
        ]


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans())))
def test_toml_that_is_written_is_read_back_and_holds_nothing_that_a_terminal_obeys(table):
    text = document.to_toml({"device_ui": 1, "table": table})
    assert tomllib.loads(text) == {"device_ui": 1, "table": table}
    assert all(each.isprintable() or each == "\n" for each in text)


def test_export_has_no_password_and_says_whether_there_is_one(target):
    defaults = {"infos": True, "summary_time": "08:00", "sign_of_life": "off"}
    assert sections.export(target) == {"device_ui": 1, "recipients": {}, "notifications": defaults}
    run(WHOLE, target)
    exported = sections.export(target)
    assert exported["smtp"] == {
        **TAB,
        **{"security": "auto", "sign_in": "manual", "trust": "system", "password_set": True},
    }
    assert exported["recipients"] == LIST


def test_replaced_device_takes_a_nightly_export_that_is_sealed_to_the_operator(target, tmp_path):
    operator = keys.load_pair(tmp_path / "operator.key", tmp_path / "operator.key.pub")
    run(WHOLE, target)
    nightly = sections.export(target, operator.public)
    assert PASSWORD not in json.dumps(nightly)
    new = new_device(tmp_path / "new")
    with pytest.raises(WrongSeal):
        run(nightly, new)
    public = keys.load_public(new.folders.public_key)
    content = sections.seal_document(nightly, public, lambda each: keys.load_password(tmp_path / "operator.key", each))
    run(content, new)
    assert password(new) == PASSWORD
    assert run(content, new) == {"changed": False}


def test_file_whose_writer_was_killed_before_its_sync_is_made_durable_by_the_next_run(target):
    run(WHOLE, target)
    steps = apply.plan(WHOLE, target)
    synced = _synced(lambda: apply.write(steps, target))
    assert {os.fspath(target.folders.settings), os.fspath(target.folders.recipients)} <= synced


def _synced(work) -> set[str]:
    """The files that `work` synced."""
    found: set[str] = set()
    real = os.fsync

    def fsync(descriptor):
        found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        work()
    return found


def test_changes_of_a_section_name_no_secret_field():
    assert "sealed" not in smtp.to_table(SmtpSettings("h", 25, "n", "a@b.c", sealed="x"))


def test_fleet_is_provisioned_once_and_the_second_pass_writes_no_byte():
    """`make bench` does the same with 2,000 devices."""
    first, second = fleet.passes(40)
    assert first.changed == 40 and first.written > 40 * 500
    assert (second.changed, second.written) == (0, 0)
