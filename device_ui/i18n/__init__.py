"""The languages of the pages and mails.

Promises
- English is the key, as in gettext. A page or a mail passes a text or an `errors.Message` to a `Translator`, which returns it in
  the reader's language; a text that the catalogue does not have is returned as it is.
- A value is put into its place by name and is never searched for places or translated, unless it is a `Message` itself. So an
  answer of a mail server is shown as the server sent it.
- No code recognises a finished sentence. A sentence that an older version stored in the database is shown as it is.
- A new language is a new ``xx.po`` file in this folder, which any editor of gettext catalogues opens. Its header names the
  language (``X-Language-Name``). ``tests/i18n/test_catalogues.py`` fails for a missing, unused or wrongly filled sentence.

Depends on `errors` and `maker_file`. It knows no settings, mails or pages.

Read first
- `translator`: translates, and chooses the language that a browser prefers.
- `po_file`: reads a catalogue, and explains why it is not compiled.
- ``ko.po``: the Korean catalogue.
"""
