"""The error that a user caused and can mend: shown without a traceback, with the place and the remedy.

``explain_file_error`` says which errors of the operating system are of that kind.
"""

from __future__ import annotations

import errno

_AGAIN = "then run the same command again: what was finished is kept"
_REMEDIES = {
    errno.ENOSPC: f"make room on the disk, or write to another one, {_AGAIN}",
    errno.EDQUOT: f"make room within the quota, or write to another disk, {_AGAIN}",
    errno.EROFS: f"write to another folder, or mount the disk for writing, {_AGAIN}",
    errno.EACCES: f"correct the permissions, or name another path, {_AGAIN}",
    errno.EPERM: f"correct the permissions, or name another path, {_AGAIN}",
    errno.ENOENT: "check the path: it is not there, or cannot be made there",
    errno.EEXIST: "something of that name is there already; move it away, or name another path",
    errno.ENOTDIR: "a part of the path is a file where a folder is needed; move it away, or name another path",
    errno.EISDIR: "there is a folder where a file is needed; move it away, or name another path",
}
_OF_WHERE_IT_GOES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class UserError(Exception):
    """Bad input, settings or environment. The message names the file (and line), what is wrong, and what to do.

    The command line prints it as one paragraph and leaves with exit status 2.
    """

    exit_status = 2
    """Status that the command leaves with; a kind of error may have its own."""


def explain_file_error(error: OSError) -> UserError | None:
    """What the user can do about a file that cannot be used: disk full, read-only, no permission, a path that does
    not fit. ``None`` where that is not known, or where the error names no file: it may be a fault of the program.
    """
    remedy = _REMEDIES.get(error.errno) if error.errno is not None else None
    names = (error.filename, error.filename2)
    # A rename or copy names two files; a full or read-only disk is that of the second.
    named = next((name for name in (names[::-1] if error.errno in _OF_WHERE_IT_GOES else names) if name), None)
    if remedy is None or not isinstance(named, (str, bytes)):
        return None
    path = named.decode(errors="replace") if isinstance(named, bytes) else named
    return UserError(f"{path}: {error.strerror}; {remedy}")


def printable(text: str) -> str:
    """``text`` as any stream can write it: bytes of file names that are not UTF-8, and halves of surrogate pairs, which
    cannot be encoded, as ``\\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
