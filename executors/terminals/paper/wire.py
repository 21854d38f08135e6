"""Frames between the paper module and its broker: length and sequence number, then JSON or raw bytes.

Precedes: `link.py` (client) and `broker/server.py`. An answer repeats the number of its question, so that a stale or
doubled answer is noticed. JSON: `["method", [arguments]]` and `[code, text, value]`, MetaTrader's error pair in front.
"""

import json
import struct
from typing import Any

HEAD = struct.Struct("<II")  # length of the body, sequence number
MAX_BODY = 256 * 1024 * 1024  # of an answer; questions are refused above MAX_QUESTION
MAX_QUESTION = 1024 * 1024
RACED = 0  # a failed call whose last_error another thread has overwritten with success
JSON_ANSWER, BYTES_ANSWER = b"J", b"B"
DECODE = json.JSONDecoder().raw_decode  # json.loads would guess the encoding, and look for blanks around
COMPACT = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each call
DEFAULT_URL = "tcp://127.0.0.1:8003"


class WireError(ValueError):
    """A frame that nobody of ours sends."""


def frame(sequence: int, body: bytes) -> bytes:
    return HEAD.pack(len(body), sequence & 0xFFFFFFFF) + body


def question(sequence: int, method: str, arguments: list[Any]) -> bytes:
    return frame(sequence, COMPACT([method, arguments]).encode())


def answer(sequence: int, code: int, text: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return frame(sequence, BYTES_ANSWER + value)
    return frame(sequence, JSON_ANSWER + COMPACT([code, text, value]).encode())


def read_answer(body: bytes) -> tuple[int, str, Any]:
    if body[:1] == BYTES_ANSWER:
        return 1, "Success", body[1:]
    (code, text, value), _ = DECODE(body[1:].decode())
    return code, text, value


def address(url: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.strip("/").rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit():
        raise WireError(f"the paper broker's address must look like tcp://127.0.0.1:8003, not {url!r}")
    return host.strip("[]"), int(port)
