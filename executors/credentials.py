"""Pure: seals terminal passwords with AES-256-GCM and opens them again.

Precedes: the database and the published configuration carry only sealed text. Follows: an executor opens it right
before it logs in; nothing else ever does. The key comes from the environment (settings.CREDENTIALS_KEY).
"""

import base64
import binascii
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from executors.errors import TradedistError

KEY_VERSION = 1
NONCE_BYTES = 12
PASSWORD = "password"  # the only field sealed so far


class CredentialError(TradedistError):
    """A sealed text that this key does not open: another key, another terminal, or damage."""


def seal(key: str, terminal_id: str, plaintext: str, *, field: str = PASSWORD) -> str:
    """`<key version>.<base64 of nonce and ciphertext>`, bound to the terminal and the field."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(_derive(key)).encrypt(
        nonce, plaintext.encode(), _bound_to(terminal_id, field, KEY_VERSION)
    )
    return f"{KEY_VERSION}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"


def unseal(key: str, terminal_id: str, sealed: str, *, field: str = PASSWORD) -> str:
    """The plaintext. Raises CredentialError, whose text never holds any of it."""
    version, _, body = sealed.partition(".")
    if version != str(KEY_VERSION):
        raise CredentialError(
            f"the {field} of {terminal_id} is sealed in an unknown way; enter it again in the admin"
        )
    try:
        raw = base64.b64decode(body, altchars=b"-_", validate=True)
        if base64.urlsafe_b64encode(raw).decode() != body:  # the last character has bits to spare
            raise ValueError(body)
        opened = AESGCM(_derive(key)).decrypt(
            raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound_to(terminal_id, field, KEY_VERSION)
        )
        return opened.decode()
    except (InvalidTag, ValueError, binascii.Error):
        raise CredentialError(
            f"the {field} of {terminal_id} does not open with this CREDENTIALS_KEY; enter it again in the admin"
        ) from None


def _derive(key: str) -> bytes:
    """32 bytes from a secret of any length."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tradedist credentials").derive(key.encode())


def _bound_to(terminal_id: str, field: str, version: int) -> bytes:
    return f"{terminal_id}|{field}|{version}".encode()
