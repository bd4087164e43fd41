"""The mail hook as a real process: from the requests of the page to the mail that a server took by token."""

from __future__ import annotations

import base64
import subprocess
import sys
from datetime import date, timedelta

import pytest

from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.mail.ipc.peer_credentials import EVENT_ONLY, EVERYTHING, PAGES
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.notifications import SUMMARY, Notifications
from device_ui.settings.store import NotificationStore, Store
from tests.helpers.product import SECONDS, wait_for
from tests.mail.test_daemon import raise_event, state
from tests.servers.authority import Certificates
from tests.servers.provider import STRICT, Provider
from tests.servers.scripted import ScriptedServer

ACCOUNT = "alarm@example.test"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return Certificates("localhost", tmp_path_factory.mktemp("local"))


@pytest.fixture
def provider(local):
    with Provider(local.chain(), STRICT, host="localhost", interval=1) as provider:
        yield provider


@pytest.fixture
def server(provider):
    """A mail server that takes the newest token of this account, and nothing else."""

    def judge(session, line):
        wanted = f"user={ACCOUNT}\x01auth=Bearer {provider.access[-1] if provider.access else '?'}\x01\x01"
        session.say("235 welcome" if base64.b64decode(line).decode() == wanted else "535 5.7.3 no")

    with ScriptedServer({"AUTH": judge}, features=("AUTH XOAUTH2",)) as server:
        yield server


@pytest.fixture
def hook(product, local, provider, server):
    """The running hook of a device whose operator saved a sign-in; call it with the grant and further fields."""
    local.authority.write(product.folder / "authority.pem")
    product.maker(f'[mail]\nca_file = "{product.folder / "authority.pem"}"\ndigest_window = 0\n')
    product.start_hook()

    def save(grant, **fields):
        values = {"host": "127.0.0.1", "port": server.port, "sender_name": "Alarms", "account": ACCOUNT}
        values |= {"security": "none", "sign_in": "oauth", "oauth_provider": "custom", "oauth_grant": grant}
        values |= {"oauth_issuer": provider.issuer, "oauth_client": provider.client, **fields}
        settings = SmtpSettings(**values)
        if settings.needs_secret:
            public = keys.load_public(product.folders.public_key)
            values["sealed"] = seal.seal(provider.secret, public, settings.bound_to)
        product.folders.settings.parent.mkdir(exist_ok=True)
        store = Store(product.folders.settings)
        store.save(SmtpSettings(**values), store.read()[1])
        client.settings_changed(product.folders.socket, seconds=SECONDS)
        return product

    yield save
    product.stop("mailhook")


def path(product):
    return product.folders.socket


def assert_nothing_secret_is_readable(product, provider):
    """The canary: no token, secret or key in a file or log of the device."""
    words = [provider.secret, *provider.access, *provider.refresh]
    files = [each for each in product.folder.rglob("*") if each.is_file() and each.name != "private.key"]
    found = [(each.name, word[:12]) for each in files for word in words if word.encode() in each.read_bytes()]
    assert found == []


def run(product, *words) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_ui", *words]
    return subprocess.run(command, env=product.environment, capture_output=True, text=True, timeout=SECONDS)


def test_certificate_from_the_page_to_the_mail(hook, provider, server):
    product = hook("certificate")
    (made,) = client.certificates(path(product))
    assert client.certificates(path(product)) == [made]
    provider.uploaded = [base64.b64decode(made["der"])]
    raise_event(product)
    wait_for(lambda: server.mails, what="the mail")
    wait_for(lambda: state(product)["problem"] == "", what="a good state")
    known = client.sign_in(path(product), seconds=SECONDS)
    assert (known["grant"], known["ends"], known["problem"]) == ("certificate", made["ends"], "")
    assert_nothing_secret_is_readable(product, provider)
    rsa = product.folders.sign_in_key.read_text()
    assert "PRIVATE" not in rsa and '\nsealed = "hpke1.' in rsa


def test_person_signs_in_with_a_code(hook, provider, server):
    product = hook("device")
    raise_event(product)
    wait_for(lambda: state(product)["step"] == "token sign-in", what="the missing sign-in")
    assert client.sign_in(path(product), "begin", seconds=SECONDS)["flow"]["phase"] in ("asking", "waiting")
    wait_for(lambda: client.sign_in(path(product), seconds=SECONDS)["flow"]["phase"] == "waiting", what="the code")
    shown = client.sign_in(path(product), seconds=SECONDS)["flow"]
    assert (shown["code"], shown["address"]) == ("WDJB-MJHT", f"{provider.issuer}/activate")
    for code in provider.codes:
        provider.codes[code] = "done"
    wait_for(lambda: server.mails, what="the mail")
    assert client.sign_in(path(product), seconds=SECONDS)["person"] == provider.person
    assert_nothing_secret_is_readable(product, provider)


def test_cancelled_code_is_over(hook, provider):
    product = hook("device")
    client.sign_in(path(product), "begin", seconds=SECONDS)
    assert client.sign_in(path(product), "cancel", seconds=SECONDS)["flow"]["phase"] == "cancelled"


def test_client_secret_and_the_steps_of_a_test(hook, provider, server):
    product = hook("secret", oauth_until="2099-01-01")
    *steps, last = client.test(path(product))
    assert last["result"]["verdict"] == "delivered"
    names = list(dict.fromkeys(each["step"]["name"] for each in steps))
    token = ["token name", "token address", "token connect", "token tls", "token certificate", "token answer"]
    assert names[:7] == [*token, "name"]
    assert_nothing_secret_is_readable(product, provider)


def test_failed_test_names_step_field_and_advice(hook, provider):
    provider.answers["/token"] = (401, {"error": "invalid_client", "error_codes": [7000222]})
    product = hook("secret", oauth_until="2099-01-01")
    *_, last = client.test(path(product))
    result = last["result"]
    assert (result["step"], result["problem"], result["field"]) == ("token answer", "client refused", "password")
    assert str(result["advice"]).startswith("The client secret has ended")


def test_refused_sign_in_is_no_lockout_and_shows_without_waiting_mail(hook, provider, server):
    product = hook("secret", oauth_until="2099-01-01")
    provider.secret, right = "another", provider.secret
    with pytest.raises(HookError) as caught:
        client.keep_alive(path(product))
    assert caught.value.word == "no-token"
    wait_for(lambda: state(product)["problem"] == "sign-in", what="the word")
    assert str(state(product)["advice"]).startswith("The provider refuses this device: check the client ID, and ")
    provider.secret = right
    client.keep_alive(path(product))
    wait_for(lambda: state(product)["problem"] == "", what="a good state")
    raise_event(product)
    wait_for(lambda: server.mails, what="the mail")


def test_second_problem_of_a_sign_in_has_its_own_advice(hook, provider):
    product = hook("secret", oauth_until="2099-01-01")
    for number, said in ((7000222, "The client secret has ended"), (7000215, "The client secret is wrong")):
        provider.answers["/token"] = (401, {"error": "invalid_client", "error_codes": [number]})
        with pytest.raises(HookError):
            client.keep_alive(path(product))
        wait_for(lambda said=said: str(state(product).get("advice")).startswith(said), what=said)
        written = product.folders.sign_in.read_bytes()
        with pytest.raises(HookError):
            client.keep_alive(path(product))
        assert product.folders.sign_in.read_bytes() == written


def test_warning_of_an_end_is_mailed_as_the_operator_chose(hook, provider):
    until = date.today() + timedelta(10)
    product = hook("secret", oauth_until=str(until))
    product.stop("mailhook")
    store = NotificationStore(product.folders.notifications)
    store.save(Notifications(codes=(("903", SUMMARY),)), store.read()[1])
    product.start_hook()
    client.keep_alive(path(product))
    event = next(each["event"] for each in client.history(path(product), {"code": "903"}))
    assert str(event["text"]).startswith(f"The client secret of the sign-in ends on {until}, in ")
    assert [str(each["reply"]) for each in event["deliveries"]] == ["in the next daily summary"]


def test_command_prints_a_token_for_another_mailer(hook, provider):
    product = hook("secret", oauth_until="2099-01-01")
    done = run(product, "token")
    assert (done.returncode, done.stdout) == (0, f"{provider.access[-1]}\n")
    assert run(product, "token", "--keep-alive").stdout == ""
    assert 'passwordeval "device-ui token"' in run(product, "settings", "--format", "msmtprc").stdout


def test_key_that_is_rotated_keeps_the_sign_in(hook, provider, server):
    product = hook("secret", oauth_until="2099-01-01")
    token = client.token(path(product))
    assert run(product, "rotate-key").returncode == 0
    assert client.token(path(product)) == token


def test_without_oauth_a_day_asks_nobody(product):
    product.start_hook()
    client.keep_alive(product.folders.socket)
    for do in (client.token, client.sign_in):
        with pytest.raises(HookError) as caught:
            do(product.folders.socket)
        assert caught.value.word == "unset"
    product.stop("mailhook")


def test_pages_get_no_token():
    assert EVERYTHING - PAGES == {"token", "keep-alive"}
    assert {"sign-in", "certificate"} <= PAGES
    assert {"event"} == EVENT_ONLY
