"""The page on which an operator sets up e-mail, and the hook that mails every event.

Flow 1, Update: ``web.pages.smtp.update`` asks ``web.guard`` who is calling, ``settings.smtp.parse`` what
was typed, ``settings.seal`` to close the password, ``settings.store`` to put it on flash, and
``mail.client`` to tell the mail hook. Only then does the browser read ``Saved.``

Flow 2, an alarm: the firmware writes one line to ``mail.hook``; ``mail.outbox`` commits it and the answer
``accepted N`` goes back; ``mail.postman`` wakes and decides that it is time, ``mail.dispatcher`` lets
``mail.message`` compose and ``mail.courier`` make one attempt, whose verdict ``mail.outbox`` keeps, and ``mail.state``
is told how the mail path is now.

Two processes share one folder of flash. The one that faces the network can write the password and cannot
read it; the one that can read it faces nobody.
"""

__version__ = "0.1.0"
# A clock that says an earlier day is wrong: nothing can happen before the program that records it was there.
RELEASED = "2026-11-01"
