"""Mail the events of the database: decide when, send, and record the result of each mail.

What this component promises:

- No event is lost silently, whatever the server, the flash or the power does: its mail is delivered at least once, or the History
  records why not (refused, given up after five days, removed by the limit of the database, wanted by no recipient). A second copy
  is possible only when a server's 250 does not reach the database; it has the same Message-ID.
- Which events a mail contains is on flash before it goes out, and its results before the next mail begins.
- A refused login stops every attempt until the settings change or a test with them succeeds: retries lock accounts. One that
  worked before is tried again a few times a day.
- A deferred mail is tried again after 30 s to an hour, and given up after five days of trying. A retry writes nothing. The wait
  does not grow while some recipient is served, and a session that served one is opened again at once.
- The state is well only when no event that was tried still waits.
- An hourly budget of mails holds, and a storm of events becomes a few digests.
- The daily summary and the sign of life are neither skipped nor sent twice: a mail and the metadata of it are one commit.
- A warning of a certificate that ends is raised once: the event and the metadata of it are one commit.
- A change of the mail server is reported in the History, and through the previous server to its recipients.

From `accepted` to the server's 250: `IpcServer` (`ipc.server`) stores an event, answers, and wakes the worker, whose round opens
a session; `batching` decides which mail is next; `sender` composes it, sends it by `smtp.client`, and passes its results to
`Schedule`, which stores them.

`QueuedMail` (`batching`) is the one record of a mail in the queue: number, events, recipients, tries and results. The worker's
thread changes those of the queue, and the thread of a notice its own.

A route is a set of settings with a session and tries of its own, and no route waits for another. `worker` serves the
stored settings; `server_change` serves each previous server, in a thread of its own. Both send by `Sender`.

Where to read: `worker` first (its rounds), then `schedule` and `batching` (which mail is next), `sender` (one session),
`retry` (the waits of a mail, a server and a recipient, and when a mail expires; `DeliveryWorker._wait` combines them),
`status` (the state on the page and the LED) with the record of a `problem`, and `periodic` (which events are in the
daily summary, and when it and the sign of life begin, by `period`), `certificate_watch` (which certificates end soon).
Beside them: `metrics` for a monitoring system; `test_mail` and its `quota`; `state_command` and `forward_command`,
which run a `program` of the maker. `environment` is what they all share.

It depends on `outbox` (the database), `message` (the mail's bytes), `smtp` (one session, which knows no retries) and the
settings. It does not know `ipc`, which calls `DeliveryWorker` and `Tester`.
"""
