"""What is run, and on which ports: settings that name servers of the operator's own leave ours out."""

import configparser
import shlex
from pathlib import Path

import pytest

from tradedist import probes, programs, settings


@pytest.fixture
def _all_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDDED_STATE", "EMBEDDED_TICKS", "EMBEDDED_PAPER_BROKER"):
        monkeypatch.setattr(settings, name, True)


@pytest.mark.usefixtures("_all_embedded")
def test_every_process_of_the_platform_is_there() -> None:
    names = [program.name for program in programs.programs()]
    assert names == [
        "valkey-state",
        "valkey-ticks",
        "paper-broker",
        "web",
        "terminals",
        "feed",
        "housekeeping",
        "beat",
        "flower",
    ]
    assert [program.name for program in programs.programs() if program.store] == [
        "valkey-state",
        "valkey-ticks",
    ]
    ports = [port for _, _, port, _ in programs.ports()]
    assert len(ports) == len(set(ports)) == 9


@pytest.mark.parametrize(
    ("setting", "program", "port"),
    [
        ("EMBEDDED_STATE", "valkey-state", "STATE_PORT"),
        ("EMBEDDED_TICKS", "valkey-ticks", "TICKS_PORT"),
        ("EMBEDDED_PAPER_BROKER", "paper-broker", "PAPER_BROKER_PORT"),
    ],
)
@pytest.mark.usefixtures("_all_embedded")
def test_a_server_of_the_operators_replaces_ours(
    monkeypatch: pytest.MonkeyPatch, setting: str, program: str, port: str
) -> None:
    monkeypatch.setattr(settings, setting, False)
    assert program not in [found.name for found in programs.programs()]
    assert port not in [name for name, *_ in programs.ports()]


def test_flower_shows_what_became_of_each_order() -> None:
    (flower,) = [program for program in programs.programs() if program.name == "flower"]
    columns = next(part for part in " ".join(flower.command).split() if part.startswith("--tasks_columns="))
    assert "result" in columns.split("=")[1].split(",")


def test_odd_characters_reach_supervisord_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Percent signs are supervisord's own; blanks and quotes are the shell's."""
    monkeypatch.setattr(programs, "RUN", tmp_path)
    monkeypatch.setattr(programs, "LOGS", tmp_path)
    monkeypatch.setattr(programs, "CONFIGURATION", tmp_path / "supervisord.conf")
    command = ["/bin/a program", "--name=%h", "it's"]
    odd = programs.Program("odd", command, probes.always, environment={"SECRET": "50%"})
    written = configparser.RawConfigParser()
    written.read(programs.write_configuration([odd]))
    line = written["program:odd"]["command"].replace("%%", "%")
    assert shlex.split(line)[-3:] == command
    assert written["program:odd"]["environment"] == 'SECRET="50%%"'
    assert "group:stores" not in written
    assert written["group:platform"]["programs"] == "odd"


def test_flowers_password_is_not_on_its_command_line() -> None:
    flower = next(program for program in programs.programs() if program.name == "flower")
    assert settings.FLOWER_PASSWORD not in " ".join(flower.command)
    assert settings.FLOWER_PASSWORD in flower.environment["FLOWER_BASIC_AUTH"]
    assert "--address=127.0.0.1" in flower.command
