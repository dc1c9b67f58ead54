"""A token as a cookie: signed, short-lived, bounded. What is not ours, too old or too long is no token.

`1.<made, seconds since 1970>.<database>:<transaction, hex>&….<signature>`. The signature keeps users from
making a node wait for transactions that will never be; the age and the bounds keep a stale cookie cheap.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote, unquote

from litefs_py.domain.position import Token

VERSION = "1"
# What a browser keeps of one cookie is 4096 bytes; a token of more databases than this drops the rest.
LONGEST = 1024
MOST_DATABASES = 8
# A follower is milliseconds behind; one that was away for this long says so in its health check.
MAX_AGE = 60
# Clocks of nodes may differ by this much.
CLOCK_SKEW = 30


def sign(token: Token, key: bytes, now: float) -> str:
    """The cookie's value; empty when it would hold nothing."""
    parts: list[str] = []
    for name, txid in sorted(token.items()):
        part = f"{quote(name, safe='').replace('.', '%2E')}:{txid:x}"
        if len(parts) < MOST_DATABASES and len("&".join([*parts, part])) <= LONGEST - 64:
            parts.append(part)
    if not parts:
        return ""
    text = f"{VERSION}.{int(now)}.{'&'.join(parts)}"
    return f"{text}.{_signature(text, key)}"


def read(value: str, keys: list[bytes], now: float) -> Token | None:
    """The token of a cookie that one of the keys has signed; none of any other."""
    if len(value) > LONGEST or not value.isascii():
        return None
    text, _, signature = value.rpartition(".")
    if not any(hmac.compare_digest(_signature(text, key), signature) for key in keys):
        return None
    fields = text.split(".")
    if len(fields) != 3 or fields[0] != VERSION:
        return None
    try:
        made = int(fields[1])
        pairs = [part.split(":") for part in fields[2].split("&")]
        token = Token({unquote(name): int(txid, 16) for name, txid in pairs})
    except ValueError:
        return None
    return token if -CLOCK_SKEW <= now - made <= MAX_AGE + CLOCK_SKEW else None


def _signature(text: str, key: bytes) -> str:
    digest = hmac.new(key, b"litefs-py cookie\0" + text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode()
