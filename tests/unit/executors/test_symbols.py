"""Canonical and broker names lead to each other for whatever the mapping covers."""

from hypothesis import given
from hypothesis import strategies as st

from executors.messages import TerminalConfig
from executors.symbols import is_mapped, to_broker, to_canonical


def config(prefix: str = "", suffix: str = "", **mapped: str) -> TerminalConfig:
    return TerminalConfig(
        terminal_id="t1",
        version=1,
        label="T1",
        kind="paper",
        enabled=True,
        host_id="local",
        epoch=1,
        login=1,
        server="Paper",
        sealed_password="",
        symbol_map=mapped,
        symbol_prefix=prefix,
        symbol_suffix=suffix,
    )


def test_adds_and_strips_prefix_and_suffix() -> None:
    terminal = config(prefix="#", suffix=".m")
    assert to_broker(terminal, "EURUSD") == "#EURUSD.m"
    assert to_canonical(terminal, "#EURUSD.m") == "EURUSD"


def test_the_explicit_map_wins_over_prefix_and_suffix() -> None:
    terminal = config(suffix=".m", US500="SPX")
    assert to_broker(terminal, "US500") == "SPX"
    assert to_canonical(terminal, "SPX") == "US500"
    assert to_canonical(terminal, "US500.m") == "US500.m"  # a namesake, not the mapped symbol


def test_a_symbol_outside_the_mapping_keeps_its_name() -> None:
    terminal = config(suffix=".m")
    assert to_canonical(terminal, "[SP500]") == "[SP500]"
    assert not is_mapped(terminal, "[SP500]")
    assert is_mapped(terminal, "EURUSD.m")
    assert to_canonical(config(prefix="ab", suffix="b"), "ab") == "ab"  # nothing left between them


names = st.text("ABCDE.#", min_size=1, max_size=5)


@given(prefix=st.text(".#a", max_size=2), suffix=st.text(".#m", max_size=2), symbol=names)
def test_a_mapped_name_leads_back(prefix: str, suffix: str, symbol: str) -> None:
    terminal = config(prefix, suffix)
    assert to_canonical(terminal, to_broker(terminal, symbol)) == symbol


@given(
    mapping=st.dictionaries(names, names, max_size=4), suffix=st.text(".m", max_size=2), broker_symbol=names
)
def test_mapped_or_kept(mapping: dict[str, str], suffix: str, broker_symbol: str) -> None:
    terminal = config(suffix=suffix, **mapping)
    canonical = to_canonical(terminal, broker_symbol)
    assert canonical == broker_symbol or to_broker(terminal, canonical) == broker_symbol
