"""One file a language, besides English: its sentences by the English ones. Loaded when the language is first asked for."""
