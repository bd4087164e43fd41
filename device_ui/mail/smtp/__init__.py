"""The SMTP client (RFC 5321): one attempt to deliver one mail, and an outcome for each recipient.

Promises

- Every recipient gets one `Outcome`: delivered, refused, or *try later*, and what the answer decided for. Whatever is ambiguous
  is *try later*: only a 5xx refuses a mail, only a 25x to the content delivers it (`scope`).
- A session makes one login attempt (RFC 4954). A refused login is its own problem, so that no caller retries it at once.
- The password is sent only in TLS with a certificate that the settings trust, or to a loopback address. No reply, detail or
  error contains a piece of it.
- A reply has the time of RFC 5321, section 4.5.3.2. An attempt ends by its deadline, however slowly the server answers, and
  reads a bounded number of bytes. Only the verdict on a complete mail may take longer.
- One command, one reply; no extension is used but SIZE, STARTTLS and AUTH.
- Unless the maker allows it, no connection goes to this device or to the metadata service of a cloud.

It depends on ``settings`` for the fields of the tab, and on ``mail.events`` for the verdicts. It knows no retries, no
queue and no database: ``mail.delivery`` decides when to try, and keeps the outcome.

Read `outcome` first (the words), then `scope` (what an answer decides), `client` (the steps to the login) and `transaction`
(one mail). Below them: `connection` (socket, deadline, replies), `connect` and `address_policy` (from a name to a socket),
`auth`, `tls`, `tls_socket`, `trust` (which certificate is accepted), `tls_errors`, `redaction`. Beside them: `test_run` is
``Send test email``, with `probe` for a closer look and `advice` for the sentence that says which field to change.
"""
