"""The web process: the pages that an operator sees, behind a strict HTTP server.

Promises: a page needs a session, except set-up, login, logout, language, health and static files. A form is accepted only from
a page of this device, read to the letter, and either stored whole and durable or not at all. No page shows a secret. The
process can seal the mail password and cannot open it: it has the public key alone. Under systemd it exits when idle.

Depends on `settings` and `storage` (what is stored), on `mail.client` (the socket of the mail hook) and on `i18n`; on nothing
else of `mail`. Inside: `server` → `app` → `pages` → `context` → `auth`; `server` → `http`. `http` knows no page.

Read `app` first (the table of routes), then `pages.smtp` (show and update of one tab) and `auth.guard` (who may see a page).
`server` opens the sockets; `context` is what all pages share; `forms` reads a posted form; `templates` and `static_files`
serve `views/` and `static/`; `branding` is loaded only for a device with a brand; `unavailable` answers while the maker's
files are broken.
"""
