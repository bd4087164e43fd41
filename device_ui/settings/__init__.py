"""The operator's settings: the SMTP tab, the list of recipients, what is mailed, and the sealed mail password.

Promises
- `fields.parse` reads a form: either settings that satisfy every rule, or an `Invalid` for each broken field. The sentences of
  the manual are in `rules`, to the letter.
- Stored settings satisfy the same rules: `fields.validate_stored` applies them to every file that is read.
- The web process can seal the mail password and cannot open it. A sealed password opens only with the hook's private key, and
  only for the host, port, account, connection security and trusted certificate it was typed for.
- A save succeeds only if the file is still at the revision that the page showed; otherwise it raises `Conflict`.
- While keys are rotated, the stored password can be opened at every instant, across a power cut.
- No error, hint or log line quotes a secret.

Depends on `storage`, `errors`, and `i18n` for the codes of the languages. Both processes import it; only the web process and
the console write.

Read first
- `fields`: the tab as one table, which the page, the parser, the file and the documentation use. A new field is a row of
  `fields.FIELDS`, an attribute of `fields.SmtpSettings` and a rule in `rules`; its sentences go into ``i18n/ko.po``. A name in
  `fields.BOUND_TO`, too, if the stored password must not outlive a change of it.
- `presets`: the values of known mail providers, each with its source, which the page fills in unsaved.
- `rules`: a text becomes a value or the sentence that says why not; `oauth_rules` does so for the fields of OAuth 2.0,
  `trust_rules` for those of the trusted certificate.
- `store`: the files and their revisions. `recipients` and `names`: the two lists. `notifications`: what is mailed, and when.
- `seal`: HPKE. `keys`: the files of the key pair. `rotation`: the change of the pair. `sealed_record`: a file of the hook whose
  secrets are sealed to its own key.
- `export`: the settings for a mailer of the maker.
"""
