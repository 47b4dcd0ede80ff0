"""The trace that a request is part of, as W3C Trace Context spells it: version, trace, span and flags."""

import re

_W3C = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LENGTH = 55


def traceparent_in(text: str) -> str:
    """The header's value in version 00, or '' where it is none: a bad one is no reason to refuse a request."""
    # of a later version only the part that this one has is understood
    if _W3C.match(text) is None or (len(text) > _LENGTH and (text[:2] == "00" or text[55] != "-")):
        return ""
    return f"00{text[2:_LENGTH]}"
