"""Names of files as text that every terminal and every UTF-8 file can hold."""

import re

# Control characters, line ends, and the bytes of a name that are not UTF-8, which
# Python decodes as lone surrogates.
_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(name: object) -> str:
    """A name in one line, with odd characters as escapes: a tab as `\\t`."""
    return _ODD.sub(_escaped, str(name))


def _escaped(match):
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte, which Python has moved there
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]
