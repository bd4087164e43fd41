"""Events: accepted from the firmware, stored, and mailed to the recipients.

    firmware, web ── client ──▶ ipc ──▶ outbox ──▶ delivery ──▶ message, smtp ──▶ mail server

All of it runs in the mail hook, one process with one user of its own: beside root it alone can read the mail password.
Three modules are for other processes: `client` (the web process, the command line and the firmware's Python), and
`sendmail` with `sendmail_smtp` (programs that call ``/usr/sbin/sendmail``). The web process imports `client` and
nothing else of this package.

Promises: ``accepted N`` means that event N is on flash, and that its mail is sent at least once or the History says why not,
after a power cut too; a second copy has the same Message-ID. No request, page or mail server delays the acceptance of an event.

The components, each with a contract in its ``__init__``:

- `ipc`: the hook's socket; permissions, lines, answers
- `outbox`: the events and the results of their mails, in SQLite
- `delivery`: which mail is sent when, to whom, and what follows from its result
- `message`: the text of a mail
- `smtp`: one attempt to send one mail

The records that pass between them are in `events`: an event, a digest, a delivery result. `catalog` has the event codes and says
how to add one, `clock` the dates, `format` the texts for a person.

Read `daemon` first: it builds the hook from these parts, and starts and ends it.
"""
