"""Reading and writing files so that a user never finds half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zobnn_edge.errors import InputError


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; raises InputError with one clear line when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def write_atomic(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """Write beside the file, then rename: the file is either the old one or the whole new one.

    `mode` are its permissions, less the process's umask.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, mode & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
