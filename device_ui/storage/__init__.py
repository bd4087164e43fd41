"""Files on flash that survive a power cut at any instant.

Promises
- After a power cut there is the old file or the new one, whole; never neither, never a mix. ``replace`` returns only when the
  new file and its name are on flash, or raises `NotStored`.
- Two processes that write the same file do not lose each other's work: a writer that was overtaken starts again from the
  present content, and its `precondition` is called again.
- A damaged file is renamed and kept (``smtp.toml.damaged-1``), never deleted.
- A file that this product wrote carries a checksum. Any other content is an error, found in linear time, even if a different
  user wrote it to cost time.

Depends on `errors` alone. It knows no settings, keys or events; their formats belong to the components that own them.

Read first
- `files`: the only writer of files; its docstring explains the order of the write and the lock.
- `toml_file`: the format of the settings, keys, administrator's and throttle files.
- `sha256`: Python's own SHA-256, without the memory of OpenSSL.
"""
