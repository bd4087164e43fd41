"""Provision a device: one document has everything that an operator can set.

A second run writes nothing, if it can open the stored password or the document's is sealed.

Promises
- A document is checked whole before the first write, and refused with every broken field, by the rules and the sentences of the
  pages. Nothing is written while a field is broken, or a sealed password does not open on this device.
- A section that a document does not have is left alone; one that it has is whole.
- What is stored already is not written again, and is made durable: a run that a power cut ended is completed by the next one.
- Each section is a file of its own and one commit: after a power cut the old or the new one, whole. After a power cut or a
  conflict between two sections the next run writes the rest.
- `export` returns a document of the present state. Applied again, it changes nothing and writes no byte.
- A password in a document may be sealed to one device and one server (HPKE), so that a repository holds none in the clear.
- No answer, error or export has a password.

Depends on `settings`, `storage`, `config` and `mail.client` (to send the mail hook a message); only `cli` imports it.

Read first
- `document`: the text of a document, TOML or JSON, and the error that lists broken fields.
- `sections`: the sections as one table, from which `apply`, `export` and the JSON Schema are made. A new section is a row there.
- `smtp`, `recipients`, `notifications`: the sections. A new field of the tab (`settings.fields.FIELDS`) needs no line here.
- `apply`: plan, write, send the message. `passwords`: the device's keys, as far as this process can use them.
"""
