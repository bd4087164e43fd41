"""Whose turn it is while many guess: newcomers in a fair order, so that nobody gets in by luck or is kept out by numbers.

Checking a password takes a fraction of a second, and a thousand fresh addresses can ask for it at once. Each gets a
ticket with a moment at which to come back; the order is round robin over networks (/16 and /24 of IPv4, /32 and /48
of IPv6), and in a network first come, first served. So a wave of one network is one voice among the networks, and
who is told to wait waits once. Networks near the device, or near where the owner got in before, come first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from device_ui.web import client_address

# Seconds from one turn to the next, a little more than a password takes; tickets at most (300 bytes each): those of a
# minute. Whoever holds one gets in within it, and who lost his is not told to wait for longer.
PACE, TICKETS_MAXIMUM = 0.2, 300
# For so many seconds after its moment a ticket lets nobody behind it pass; for so many it is still good, and whoever
# comes with it waits for nobody behind: a person has to type a long password again.
PATIENCE, STANDS = 5.0, 90.0
# Seconds that are told to whoever comes at its moment while enough passwords are being checked.
BUSY_WAIT = 1.0


@dataclass
class Ticket:
    """One visitor's place: its networks, its place within the inner one, its `rank` among all, and its moment."""

    networks: tuple[client_address.Network, client_address.Network]
    place: int
    rank: tuple[bool, int, int, int]
    at: float


class Turns:
    """The tickets. `is_near` says of a visitor whether it comes before strangers. Not for two threads at once."""

    def __init__(self, is_near: Callable[[str], bool] = lambda _: False) -> None:
        self._is_near = is_near
        self._tickets: dict[str, Ticket] = {}
        self._order = itertools.count()
        self._free = float("-inf")

    def __contains__(self, visitor: str) -> bool:
        return visitor in self._tickets

    def ask(self, visitor: str, now: float, *, is_busy: bool) -> float:
        """Seconds until this visitor's turn; 0: it is now, and the ticket is used up. Nobody's turn is now while
        `is_busy`. Who asks before its moment changes nothing."""
        ticket = self._tickets.get(visitor)
        if ticket and now < ticket.at:
            return ticket.at - now
        is_due = ticket is not None
        ticket = ticket or self._join(visitor, now)
        ahead = sum(each.rank < ticket.rank and now <= each.at + PATIENCE for each in self._tickets.values())
        moment = max(now, self._free) + ahead * PACE
        if not ahead and not is_busy and (is_due or moment <= now):
            self.leave(visitor)
            self._free = moment + PACE
            return 0.0
        # Who comes at its moment and finds it taken has not lost its place.
        ticket.at = max(moment, now + BUSY_WAIT) if is_busy else moment
        return ticket.at - now

    def leave(self, visitor: str) -> None:
        """This visitor needs no turn any more."""
        self._tickets.pop(visitor, None)

    def _join(self, visitor: str, now: float) -> Ticket:
        for name in [name for name, each in self._tickets.items() if now > each.at + STANDS]:
            del self._tickets[name]
        inner, outer = client_address.networks(visitor)
        own = [each for each in self._tickets.values() if each.networks[1] == outer]
        nearest = [each for each in own if each.networks[0] == inner]
        place = max([0, *(each.place + 1 for each in nearest)])
        # Within the outer network, too, its inner ones take turns: only who has no later place there is ahead. But
        # nobody overtakes within the inner one, however many of it have had their turn meanwhile.
        turn = max([sum(each.place <= place for each in own), *(each.rank[1] for each in nearest)])
        ticket = Ticket((inner, outer), place, (not self._is_near(visitor), turn, place, next(self._order)), now)
        self._tickets[visitor] = ticket
        if len(self._tickets) > TICKETS_MAXIMUM:
            last = max(self._tickets, key=lambda name: self._tickets[name].rank)
            del self._tickets[last]
        return ticket
