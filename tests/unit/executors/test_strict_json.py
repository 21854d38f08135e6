import json

import pytest

from executors.errors import Code, Refused
from executors.strict_json import MAX_DEPTH, loads


@pytest.mark.parametrize(
    "text", ['{"a": 1}', "[]", "null", '"x"', '{"a": {"a": 1}}', '{"é": "\\ud83d\\ude00"}', "1e10"]
)
def test_reads_json(text: str) -> None:
    assert loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("raw", "about"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": {"b": 1, "b": 1}}', "twice"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a": "\xc3"}', "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 60_000, "nested"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested"),
        (b"9" * 5_000, "digits"),
        (b"{} {}", "Extra data"),
        (b"{'a': 1}", "column 2"),
        (b'{"a": 01}', "column"),
    ],
)
def test_refuses_with_a_sentence(raw: bytes, about: str) -> None:
    with pytest.raises(Refused) as caught:
        loads(raw)
    assert caught.value.code is Code.NOT_JSON
    assert caught.value.status == 400
    assert about in caught.value.message


def test_depth_has_a_sharp_edge() -> None:
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(Refused):
        loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
