"""The probe, which people run on a terminal of their own, over every implementation."""

from collections.abc import Iterator

import pytest

from executors.terminals import probe
from tests.contract.terminals import mt5linux_server
from tests.paper import PASSWORD, PaperBroker, running_broker


@pytest.fixture(scope="module")
def probed_broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        running.push("EURUSD", 1.10000, 1.10010)
        yield running
        running.check(magics_unique=False)


@pytest.mark.parametrize("kind", ["paper", "metatrader", "remote"])
@pytest.mark.parametrize("personality", ["classic", "ecn", "net"])
def test_p01_a_sound_terminal_passes(
    probed_broker: PaperBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, personality: str
) -> None:  # fmt: skip
    from executors.terminals import paper

    login = (
        100
        + 10 * ["paper", "metatrader", "remote"].index(kind)
        + ["classic", "ecn", "net"].index(personality)
    )
    account = probed_broker.account(login, personality)
    monkeypatch.setenv("MT5_PASSWORD", PASSWORD)
    monkeypatch.setenv("PAPER_BROKER_URL", probed_broker.url)
    paper.install()
    arguments = ["--kind", kind, "--login", str(login), "--server", account["server"], "--trade",
                 "--timezone", account["server_timezone"]]  # fmt: skip
    probed_broker.push("EURUSD", 1.10000, 1.10010)
    if kind == "remote":
        with mt5linux_server(probed_broker) as port:
            code = probe.main([*arguments, "--address", f"127.0.0.1:{port}"])
    else:
        code = probe.main(arguments)
    said = capsys.readouterr().out
    assert code == 0, said
    assert said.count("ok ") == 8
    assert [deal.entry for deal in probed_broker.oracle.deals(login) if deal.symbol] == [0, 1]


def test_p02_what_is_wrong_is_said(
    probed_broker: PaperBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    account = probed_broker.account(200, "classic")
    monkeypatch.setenv("MT5_PASSWORD", PASSWORD)
    monkeypatch.setenv("PAPER_BROKER_URL", probed_broker.url)
    arguments = ["--kind", "paper", "--login", "200"]
    assert probe.main([*arguments, "--server", "Elsewhere"]) == 1
    assert "Authorization failed" in capsys.readouterr().out
    probed_broker.push("EURUSD", 1.10000, 1.10010)
    assert (
        probe.main([*arguments, "--server", account["server"], "--timezone", "UTC", "--symbol", "EURUSD"])
        == 1
    )
    assert "set --timezone to the broker's" in capsys.readouterr().out
    assert probe.main([*arguments, "--server", account["server"], "--symbol", "EURUSD.pro"]) == 1
    assert "may have a suffix" in capsys.readouterr().out
    monkeypatch.delenv("MT5_PASSWORD")
    with pytest.raises(SystemExit):
        probe.main([*arguments, "--server", "x"])
