"""The operator's calls from a shell, and scripts of faults."""

import json
from pathlib import Path

import pytest

from executors.terminals import paper as mt5
from executors.terminals.paper import operate
from tests.paper import PASSWORD, PaperBroker

SCRIPT = """
[[step]]
call = "push"
args = ["EURUSD", 1.2, 1.2001]
[[step]]
after_s = 0.2
fault = "reject"
at = 2
value = 10007
[[step]]
call = "health"
"""


def test_calls_print_json_and_failures_their_sentence(
    paper_broker: PaperBroker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = ["--url", paper_broker.url]
    assert operate.main([*url, "ensure_account", "7", PASSWORD, "ecn", "10000"]) == 0
    assert json.loads(capsys.readouterr().out)["server"] == "PaperECN-Live"
    assert operate.main([*url, "fault", "kind=reject", "at=1", "login=7"]) == 0
    assert json.loads(capsys.readouterr().out) == 1
    assert operate.main([*url, "fault", "kind=meteor"]) == 1
    assert "there is no fault 'meteor'" in capsys.readouterr().err
    assert operate.main([*url, "fault", "reject"]) == 1
    assert "name=value" in capsys.readouterr().err
    assert operate.main([*url, "script"]) == 1
    assert "name one script" in capsys.readouterr().err
    assert operate.main([*url, "script", "/nowhere.toml"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert operate.main([*url, "deposit", "8", "5"]) == 1
    assert "there is no account 8" in capsys.readouterr().err
    assert operate.main(["--url", "tcp://127.0.0.1:1", "health"]) == 1
    assert "refused" in capsys.readouterr().err


def test_a_script_plays_in_order_and_in_time(paper_broker: PaperBroker, tmp_path: Path) -> None:
    waits: list[float] = []
    answers = operate.play(paper_broker.oracle, SCRIPT, waits.append)
    assert waits == [0, 0.2, 0]
    assert answers[2]["accounts"] == 0
    paper_broker.account(1, "lab")
    assert mt5.initialize(paper_broker.url, login=1, password=PASSWORD)
    request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "type_filling": 1}
    assert [mt5.order_send(request).retcode for _ in range(3)] == [10009, 10007, 10009]
    assert mt5.positions_get()[0].price_open == 1.2001
    mt5.shutdown()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("[[step]]\nafter_s = 1", "step 1 needs either"),
        ('[[step]]\ncall = "health"\nfault = "reject"', "step 1 needs either"),
        ('[[step]]\ncall = "health"\nat = 1', "unknown key at"),
        ("[[step]", "is not TOML"),
    ],
)
def test_scripts_that_cannot_be_played(paper_broker: PaperBroker, script: str, says: str) -> None:
    with pytest.raises(operate.ScriptError, match=says):
        operate.play(paper_broker.oracle, script, lambda _: None)
