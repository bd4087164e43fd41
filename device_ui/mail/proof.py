"""What mail got through with, and who is to be told once that has changed: as the ledger keeps it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from device_ui import shape
from device_ui.settings.smtp import SmtpSettings, recheck
from device_ui.shape import Any, dataclass

# Addresses that stood for one account, where its login is none, and are told though another one does now; the first.
EARLIER_MAXIMUM = 4


@dataclass(frozen=True)
class Server:
    """Settings that mail got through with, who got it, and the `earlier` addresses of the account; once they have changed,
    the `number` of the event that says so, and how often the login was refused to its announcement."""

    settings: SmtpSettings
    recipients: tuple[str, ...]
    number: int = 0
    refusals: int = 0
    earlier: tuple[str, ...] = ()

    @property
    def everybody(self) -> list[str]:
        """Who is told: whoever got the mail, and the account itself."""
        return list(dict.fromkeys([*self.recipients, *self.earlier, self.settings.default_recipient]))

    def now(self, settings: SmtpSettings) -> Server:
        """The same server by newer settings; they ask for no password, so an address that was to be told stays one."""
        told = self.settings.default_recipient
        left = () if told == settings.default_recipient else (told,)
        earlier = tuple(dict.fromkeys((*self.earlier, *left)))[:EARLIER_MAXIMUM]
        return shape.replace(self, settings=settings, earlier=earlier)


def spelt(server: Server) -> str:
    """The text that `read` reads between brackets."""
    return json.dumps(shape.asdict(server))


def spelt_list(servers: Sequence[Server]) -> str | None:
    """The text that `read` reads; None for none."""
    return f"[{', '.join(map(spelt, servers))}]" if servers else None


def read(fact: str) -> list[Server]:
    """What a fact of the ledger holds; what is damaged is left out."""
    try:
        return [_server(each) for each in json.loads(fact)]
    except (ValueError, TypeError, KeyError):
        return []


def _server(values: Mapping[str, Any]) -> Server:
    settings = recheck(values["settings"])
    if isinstance(settings, str) or not isinstance(values["number"], int):
        raise ValueError
    recipients, earlier = tuple(map(str, values["recipients"])), tuple(map(str, values.get("earlier", ())))
    return Server(settings, recipients, values["number"], int(values.get("refusals", 0)), earlier)
