"""The web process: the pages that an operator sees, behind a strict HTTP server.

Promises
- Every page needs a session, except set-up, login, logout, language, health and static files.
- A form is accepted only from a page of this device (RFC 6454 origin, Host). It is stored whole and durably, or not at all.
- No page shows a secret. The process can seal the mail password and cannot open it: it has the public key alone.
- A client that is slow, or opens many connections, does not keep others from the pages.
- Under systemd the process exits when it is idle and no session is open; the next connection starts it again.

Depends on `settings` and `storage` (the stored files), on `mail.client` (the socket of the mail hook) and on `i18n`; on nothing
else of `mail`. Inside: `server` → `app` → `pages` → `context` → `auth`; `server` → `http`. `http` knows no page.

Read first
- `app`: the table of routes. `pages.smtp`: show and update of one tab. `auth.guard`: who may see a page.
- `server`: opens the sockets, with systemd or by hand. `context`: the objects that all pages share, and the mail path's state.
- `forms`: reads a posted form. `locale`: the language of a request. `client_address`: the client's address through a proxy.
- `templates` and `static_files`: serve `views/` and `static/`. `branding`: the maker's name, logo and colours, if any.
- `unavailable`: the page with status 503 while a file of the maker is wrong. `heap`: keeps the memory of the process small.
"""
