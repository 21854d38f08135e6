"""Which servers a URL names."""

import pytest

from tradedist.nodes import read_nodes


@pytest.mark.parametrize(
    ("url", "first", "nodes"),
    [
        ("redis://:secret@one:7000/0", "redis://:secret@one:7000/0", [("one", 7000)]),
        ("redis://one", "redis://one", [("one", 6379)]),
        (
            "redis://ann:p%40ss@one:7000,two,10.0.0.3:7001/2?protocol=3",
            "redis://ann:p%40ss@one:7000/2?protocol=3",
            [("one", 7000), ("two", 6379), ("10.0.0.3", 7001)],
        ),
        ("rediss://[::1]:7000,[::2]/0", "rediss://[::1]:7000/0", [("::1", 7000), ("::2", 6379)]),
        ("unix:///run/valkey.sock?db=0", "unix:///run/valkey.sock?db=0", []),
    ],
)
def test_servers_are_read_from_a_url(url: str, first: str, nodes: list[tuple[str, int]]) -> None:
    assert read_nodes(url) == (first, tuple(nodes))


@pytest.mark.parametrize(
    "places",
    ["", "one,", ",one", "one:port", "one:", "one:0", "one:70000", "one,one:6379", "one:7000;two:7000"],
)
def test_what_names_no_servers_is_refused_with_a_sentence(places: str) -> None:
    with pytest.raises(ValueError, match=r"Write host:port|Name each once"):
        read_nodes(f"redis://:secret@{places}/0")
