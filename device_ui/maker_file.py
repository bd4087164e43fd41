"""The files that the maker of the device writes in the ``etc`` folder: TOML, owned by root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from device_ui.errors import MakerFile


def load(path: Path) -> dict[str, Any] | None:
    """Return the content of a file, None when there is none. Raises `MakerFile`."""
    try:
        return parse(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MakerFile(path, os.strerror(error.errno or 0)) from error
    except UnicodeDecodeError as error:
        # TOML 1.0 is UTF-8; a file in a Korean 8-bit set must not show wrong names.
        raise MakerFile(path, "it is not UTF-8") from error


def parse(path: Path, text: str) -> dict[str, Any]:
    """Return the content of a TOML text. Raises `MakerFile`, with the line of a syntax error."""
    # Imported here: many devices have no such file.
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:  # some thousand brackets in a row; one line is reported, as for any other error
        raise MakerFile(path, "it is nested too deeply") from None
    except ValueError as error:
        raise MakerFile(path, str(error)) from error
