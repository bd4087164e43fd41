"""The pages, one module each: functions from a request to a response.

Promises: each page works without JavaScript, with the keyboard and in every language of `i18n`. A form that breaks a rule is
shown again with its values (secrets excepted), a sentence for each field, 422, and nothing stored. A successful form redirects
with 303. A mail hook that is down or refuses is a sentence on the page, never an error page.

Depends on `web.context` (the device, its stores, its guard, rendering), `web.forms` and `mail.client`; pages know each other
only where one shows the tab of another (`test_mail` → `smtp`, `event_codes` → `history`).

Read `smtp` first: `show` and `update` are the pattern of all forms. `test_mail` tries the tab's values step by step;
`recipients` is a list of small forms; `history` and `event_codes` (with the sample mail) only read; `login` is set-up, login
and logout; `language` is the choice of a language.
"""
