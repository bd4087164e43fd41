"""``/metrics``: the numbers of the mail path for a monitoring system, in Prometheus' text format 0.0.4, for its token alone.

Without the right token the answer is 401, also where no token was made: counts show when nobody looks at the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bottle import HTTPResponse, request, response

from device_ui import __version__
from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.web.auth.metrics_token import MetricsToken
from device_ui.web.context import AppContext

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
GAUGE, COUNTER = "gauge", "counter"
# Each metric: name, type, help, and its numbers: labels and the name in the hook's answer. A name ends in its unit, and a counter
# in _total (prometheus.io, "Metric and label naming").
METRICS = (
    ("mail_ok", GAUGE, "Whether the mail path is well; /health has the word for the problem.", (("", "mail_ok"),)),
    ("events_total", COUNTER, "Events accepted since the ledger was made.", (("", "events"),)),
    ("events_stored", GAUGE, "Events in the ledger.", (("", "stored"),)),
    ("events_waiting", GAUGE, "Events whose mail is still to be sent.", (("", "waiting"),)),
    (
        "events_removed_total",
        COUNTER,
        "Events that the ledger's limit removed; unmailed: before they were mailed.",
        (
            ('{kind="info"}', "removed_info"),
            ('{kind="fault"}', "removed_fault"),
            ('{kind="unmailed"}', "removed_waiting"),
        ),
    ),
    ("events_to_forward", GAUGE, "Events that mail.forward_command has not taken yet.", (("", "forward"),)),
    (
        "mail_delivered_timestamp_seconds",
        GAUGE,
        "When the newest mail was delivered; 0 for none.",
        (("", "delivered"),),
    ),
    ("disk_reserve_used", GAUGE, "Whether the disk was so full that the reserve is used.", (("", "reserve_used"),)),
    ("clock_right", GAUGE, "Whether the device's clock is set.", (("", "clock_right"),)),
)


def show(site: AppContext, token: MetricsToken) -> str | HTTPResponse:
    """Return the metrics; of a mail hook that does not answer, that it is down."""
    if not token.is_right(str(request.environ.get("HTTP_AUTHORIZATION", ""))):
        # RFC 6750, 3: the scheme that is asked for.
        headers = {"WWW-Authenticate": "Bearer", "Content-Type": "text/plain; charset=UTF-8"}
        return HTTPResponse("A token is missing or wrong: device-ui metrics-token makes one.\n", 401, headers)
    response.content_type = CONTENT_TYPE
    try:
        numbers = client.metrics(site.device.folders.socket)
    except HookError:
        return text({}, is_up=False)
    return text(numbers, is_up=True)


def text(numbers: Mapping[str, Any], *, is_up: bool) -> str:
    """Return the text of some numbers by the names of the hook's answer; what is no number is left out."""
    lines = _metric("info", GAUGE, "The program's version.", [(f'{{version="{__version__}"}}', 1)])
    lines += _metric("mail_hook_up", GAUGE, "Whether the mail hook answers.", [("", int(is_up))])
    for name, kind, about, samples in METRICS:
        # The hook is another user: what it says must not become a line of its own.
        found = [(labels, numbers[key]) for labels, key in samples if isinstance(numbers.get(key), int | float)]
        lines += _metric(name, kind, about, [(labels, float(number)) for labels, number in found])
    return "".join(f"{line}\n" for line in lines)


def _metric(name: str, kind: str, about: str, samples: list[tuple[str, float]]) -> list[str]:
    if not samples:
        return []
    full = f"device_ui_{name}"
    return [
        f"# HELP {full} {about}",
        f"# TYPE {full} {kind}",
        *(f"{full}{labels} {each!r}" for labels, each in samples),
    ]
