"""The hook's Unix socket: clients send requests, one a line, and each line is answered.

Promises:

- ``accepted N`` is sent after the event is committed. Events that arrive together share one commit.
- Every line is answered, in the order of its connection; a line that is too long is refused and ends the connection.
- No client delays another: bytes, lines, connections and times are bounded, and a long answer is sent as its client reads.
- A client may request what its uid and groups permit, as the kernel reports them: root and the hook's own user everything;
  the web's user what the pages need, and no token; members of the event group ``event`` alone; other users nothing.
- The loop never waits for the network, for a client or for a file that a different user can write.

One thread runs the loop (`server`); it is woken by `IpcServer.wake` from the threads that make lines of long answers.

Depends on `outbox` for the events, on `mail.catalog`, `mail.clock` and `mail.format`; and on two objects that `daemon`
passes, whose methods are the protocols `requests.Worker` and `requests.Tester`. It imports nothing of `delivery`.

Modules, in reading order: `server` (the loop: lines in, one commit, answers out), `connection` (one client's buffers and
state; which connection is closed when all places are taken), `requests` (one method for each request), `history` (the long
answer of ``history``), `protocol` (the two spellings of a line), `peer_credentials` (permissions), `background` (a thread
for work that the loop must not do).
"""
