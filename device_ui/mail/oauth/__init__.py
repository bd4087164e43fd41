"""The sign-in by OAuth 2.0: an access token for a session with a mail server, kept alive for months without mail.

Promises

- Refresh token, access token and RSA key are at rest only in the hook's folder, sealed to its own key. The tokens are bound to
  `SmtpSettings.bound_to`, the key to `signing_key.KEY_BOUND_TO`: a change of any of these values makes them worthless.
- A person's sign-in (grant `device`, a device code), whose refresh token may rotate: that a renewal is requested is on flash before the
  request is sent, and its tokens before they are used. The other grants are the device's own and have nothing to lose. One renewal runs at a time. No answer of a provider, however odd,
  deletes a refresh token or a key.
- An exchange ends by its deadline, however slowly the server answers, and reads a bounded number of bytes. It goes to the verified
  name alone: no redirect, no proxy, no address of this device.
- An error is a `TokenError`: a step, a problem, and the provider's words without a secret. Every one is tried again; none locks
  anything.
- The sign-in is tried daily without mail; an event warns before it ends, and another when it has failed.

It depends on ``settings`` (the fields, the sealed record), on ``mail.smtp`` (steps, deadline, the rules for addresses, the
client) and on ``mail.clock`` and ``mail.catalog``. Nothing of ``delivery`` or ``ipc`` knows it: `daemon` gives delivery an
`OAuthSession` in place of an `SmtpClient`, and the socket its requests.

A grant is one of RFC 6749's grant types here (`settings.oauth_grant`), and a stored sign-in is what it gave.

Read `sign_in` first (what is on flash when), then `token_client` (what is asked, what an answer means), `providers` (the table),
`https` (one request). `signing_key` has the device's certificate, `device_code` the sign-in of a person, `session` what delivery
uses, `requests` what the socket serves, `record` the file, `outcome` the error.
"""
