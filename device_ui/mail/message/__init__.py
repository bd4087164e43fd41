"""Mails as bytes: one event, a digest of events or a test, in the recipients' languages.

Promises

- The same event gives the same ``Message-ID`` at every attempt, so a recipient can recognise a second copy.
- Nothing typed by a person, raised by the firmware or read from a file adds a header, an address or a MIME part.
- Lines end with CRLF and obey the limits of RFC 5322 and RFC 2047; the text part and the HTML part say the same.
- A mail to recipients with different languages stays one mail, with the content in each language.
- Damaged or missing dates never keep an event back.

It depends on ``mail.events`` and ``mail.catalog`` for the records, on ``settings`` for the sender and the recipients, on
``i18n`` for words, and on ``resources`` for the template, ``views/mail.html``. It reads neither the database nor a clock: the
caller passes events, the time and the address in an `Envelope`. It sends nothing.

Read `compose` first: one function for each kind of mail, and one path that they all take. `content` is what a mail says, in
each language; `render` writes it as text and as HTML, `headers` the header fields; `envelope` is what mails have in common.
The names, times and numbers that mails and the History page share are in `mail.format`.
"""
