"""The page on which an operator sets up e-mail, and the process that mails the appliance's events.

Two processes share one folder of flash. The web process faces the network; it can write the mail password and cannot read
it. The mail hook can read it; it faces only the firmware and the mail server. Three things enforce that: the seal
(``settings.seal``: the web process has the public key alone), the mode of the private key's folder (``config.Device.layout``),
and the two users of the units in ``appliance``. ``tests/test_imports.py`` fails if a module of ``web`` names a function that unseals,
and for every import that the table in docs/architecture.md does not allow, such as ``mail.smtp`` in a page.

Flow 1, an Update: ``web.pages.smtp`` gets the form after ``web.auth.guard`` has checked session, origin and host.
``settings.fields.parse`` checks every field; with a broken rule the same page is sent with all sentences and status 422, and
nothing is written. ``settings.seal`` seals a password that was typed. ``settings.store`` writes the file through
``storage.files``, ``mail.client`` notifies the mail hook, and the answer is a redirect to the page that shows ``Saved.``

Flow 2, an event: the firmware writes one line to the socket of ``mail.ipc``. ``mail.outbox`` commits it, together with the lines
that arrived at the same time, and the answer ``accepted 1742`` is sent. ``mail.delivery.worker`` wakes up;
``mail.delivery.batching`` decides which events go into the next mail, and ``mail.outbox`` commits that decision.
``mail.message`` composes the mail; ``mail.smtp.client`` makes one attempt and returns one outcome, which ``mail.outbox`` commits
and the History shows. A deferred mail waits for ``mail.delivery.retry``.

To start reading: ``web.pages.smtp`` for a page, ``mail.delivery.worker`` for the mail, ``storage.files`` for what is durable.
"""

__version__ = "0.1.0"
# A clock before this day is wrong: no event is older than the program that records it.
RELEASED = "2026-11-01"
