"""Scanners and fuzzers, for ``make audit``: too slow for every day. One file a tool; each says what it may find."""
