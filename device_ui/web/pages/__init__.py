"""The pages, one module each: functions from a request to a response.

Promises
- Each page works without JavaScript, with the keyboard and in every language of `i18n`.
- A form that breaks a rule is shown again with its values (secrets excepted), a sentence for each field and status 422; nothing
  is stored. A successful form redirects with 303, so that a reload sends nothing again (RFC 9110, 15.4.4).
- A mail hook that is down, or refuses, is a sentence on the page; only a download (CSV, certificate, a mail's HTML) answers with an
  error page.

Depends on `web.context` (the device, its stores, its guard, rendering), `web.forms` and `mail.client`. Pages know each other
only where one shows a part of a different one, as `tests/test_imports.py` lists.

Read first
- `smtp`: `show` and `update` are the pattern of all forms. Its fields are the table in `settings.fields`.
- `delivery_state`: what became of the mail, in words, for the tab and the recipients.
- `sign_in`: the state of a sign-in by OAuth 2.0, its certificate or its code; `powershell` has the administrator's lines.
- `test_mail`: tries the tab's values step by step. `recipients` and `access`: lists of small forms, both by `stored_list`.
- `history`: reads, and posts a person's action on an event; `picture` draws its days. `event_codes` (with the sample mail): only reads.
- `notifications`: the form of the page of event codes, what is mailed, and when.
- `metrics`: numbers for a monitoring system, which has a token and no session.
- `login`: set-up, login and logout. `language`: the choice of a language.
"""
