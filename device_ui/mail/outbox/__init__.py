"""The outbox: events and the results of their mails, on flash in one SQLite file: the database.

Its name on flash, settings, sentences and log lines call it "ledger".

Promises:

- A method that writes returns after its commit with ``synchronous=FULL``; if it raises `NotStored`, nothing has changed.
- Numbers of events increase without a gap, and no number is used twice.
- A person's action on an event (send it again, try its mail now) is a row like an event, with a number and a mail of its own:
  durable before it is answered, retried and limited in the same way, and each recipient has its own result.
- A retry of a mail writes nothing. Only the assignment of events to a mail and the results of mails are written.
- A damaged, emptied or lost file is quarantined under a new name and a new one is made. A file of an older version is
  migrated with all its events; one of a newer version is left as it is.
- The file has a limit of rows and bytes. Events beyond it are removed in one order and counted, at the expense of the
  users with the most events.
- On a full disk events are accepted until the disk reserve, a file that is released part by part, is used up.

SQL is in this component alone. Values of a person are passed as parameters.

Beside the events the database has metadata (the table `fact`): small texts by name that survive a restart, such as the
last loss or a refused login.

Depends on `mail.events` and `mail.catalog` (which event is the change of the mail server), `storage` and `errors`; it knows
neither mail servers nor settings. `ipc` and `delivery` use one `Outbox` object; any thread may call it.

Modules, in reading order: `outbox` (the events: accept, find, assign to mails, record results), `database` (the file: open,
check, migrate, commit; `Outbox` is a subclass of `Database`), `retention` (the limit), `disk_reserve` (room on a full disk),
`former` (the sentences of older databases).
"""
