"""Authentication: one administrator, sessions in memory, throttled logins.

Promises
- The administrator's password is stored as a scrypt hash and set once, with the setup code of the console. A second set-up is
  impossible, also with a damaged record.
- A session ends after 10 idle minutes, 12 hours, a logout, a restart or a new password.
- Failed logins delay the next try, for each client and across restarts. A browser or an address that logged in before is never
  delayed by others.
- A request for a foreign host name and a form of a foreign origin are refused.

Depends on `settings.rules` and `storage` (the record's file, the throttle's file), on `web.client_address` and, in `guard`
and `return_path`, on bottle's request and response. It knows no page.

Read first
- `guard`: the checks that every request passes. `known_names`: the host names that it accepts.
- `administrator`: the record, which is the setup code or the hash. `sessions`: the sessions.
- `throttle`: the delays; `failure_log` is its file.
- `device_cookie`: signs the cookie of a browser that logged in before; it gives priority at the login and no access.
- `metrics_token`: the token of a monitoring system, the only other way to an answer.
- `return_path`: the page that the login returns to, one of a table.
"""
