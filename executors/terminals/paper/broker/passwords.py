"""Salted hashes of the demo accounts' passwords, so that the ledger holds none."""

import hashlib
import hmac
import secrets


def sealed(password: str) -> str:
    salt = secrets.token_hex(8)
    return f"{salt}:{_digest(salt, password)}"


def matches(password: str, kept: str) -> bool:
    salt, _, digest = kept.partition(":")
    return bool(password) and hmac.compare_digest(_digest(salt, password), digest)


def _digest(salt: str, password: str) -> str:
    return hashlib.sha256(f"{salt}:{password}".encode(errors="surrogatepass")).hexdigest()
