"""A setting is read right, or stops the start with a sentence that says what to change."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tradedist.env import (
    SettingError,
    envaddress,
    envbool,
    envchoice,
    envdirectory,
    envint,
    envlist,
    envredis,
    envsecret,
    envstr,
)


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THING", "THING_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_hold_when_nothing_is_set(tmp_path: Path) -> None:
    assert envstr("THING", "x") == "x"
    assert envint("THING", 5) == 5
    assert envbool("THING", True) is True
    assert envchoice("THING", "a", ("a", "b")) == "a"
    assert envlist("THING", ("a", "b")) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("YES", True), ("on", True), ("0", False), ("off", False)]
)
def test_words_for_yes_and_no(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("THING", text)
    assert envbool("THING", not value) is value


def test_a_redis_url_names_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert envredis("THING") == ""
    monkeypatch.setenv("THING", "redis://:secret@one:7000,two/0")
    assert envredis("THING") == "redis://:secret@one:7000,two/0"
    monkeypatch.setenv("THING", "redis://:secret@one:7000;two/0")
    with pytest.raises(SettingError, match=r"THING: .* Write host:port") as refusal:
        envredis("THING")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://:secret@one", "tcp:secret", "tcp://", "secret"])
def test_an_address_of_another_kind_stops_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert envaddress("THING", "", ("tcp",)) == ""
    assert envaddress("THING", "tcp://here:1", ("tcp",)) == "tcp://here:1"
    monkeypatch.setenv("THING", url)
    with pytest.raises(SettingError, match="THING must begin with one of") as refusal:
        envaddress("THING", "", ("tcp",))
    assert "secret" not in str(refusal.value)
    with pytest.raises(SettingError, match="THING must begin with one of redis://, rediss://, unix://"):
        envredis("THING")


def test_a_directory_is_made_or_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert envdirectory("THING", tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("THING", str(tmp_path / "file" / "below"))
    with pytest.raises(SettingError, match=r"THING names .*below, which cannot be made"):
        envdirectory("THING", tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATA_DIR", "/dev/null/below"),
        ("DATABASE_URL", "secret"),
        ("DATABASE_URL", "postgres://a:secret@b:port/c"),
    ],
)
def test_a_wrong_place_ends_every_command_with_one_sentence(tmp_path: Path, name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import tradedist.settings"],
        env=os.environ | {"DATA_DIR": str(tmp_path), name: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(name)
    assert "secret" not in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", " a, b ,,c ")
    assert envlist("THING") == ["a", "b", "c"]
    monkeypatch.setenv("THING", "")
    assert envlist("THING", ("a",)) == []


@pytest.mark.parametrize("text", ["", "x", "1.5", "99", "-1"])
def test_a_number_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THING", text)
    with pytest.raises(SettingError) as caught:
        envint("THING", 5, low=1, high=10)
    assert "THING must be" in str(caught.value)


def test_a_word_that_cannot_be_used_is_named_with_those_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THING", "loud")
    with pytest.raises(SettingError, match=r"THING must be one of quiet, normal, not 'loud'"):
        envchoice("THING", "normal", ("quiet", "normal"))
    with pytest.raises(SettingError, match="THING must be one of 1, 0"):
        envbool("THING", False)


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    first = envsecret("THING", directory)
    assert len(first) >= 32
    assert envsecret("THING", directory) == first
    assert (directory / "thing").stat().st_mode & 0o077 == 0
    assert directory.stat().st_mode & 0o077 == 0
    assert [path.name for path in directory.iterdir()] == ["thing"]


def test_a_secret_comes_from_the_environment_or_the_named_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "given").write_text("from a file\n")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "given"))
    assert envsecret("THING", tmp_path / "secrets") == "from a file"
    monkeypatch.setenv("THING", "given directly")
    assert envsecret("THING", tmp_path / "secrets") == "given directly"
    assert not (tmp_path / "secrets").exists()


def test_a_named_file_that_is_not_there_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THING_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingError, match="THING_FILE names"):
        envsecret("THING", tmp_path)


def test_processes_that_start_at_once_agree_on_a_secret(tmp_path: Path) -> None:
    """Threads of one process share its pid, and so come even closer than processes do."""
    barrier = threading.Barrier(8)
    found: list[str] = []

    def start() -> None:
        barrier.wait(10)
        found.append(envsecret("THING", tmp_path / "secrets"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert os.listdir(tmp_path / "secrets") == ["thing"]
