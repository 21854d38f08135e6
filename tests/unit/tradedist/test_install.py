"""What the installer decides: what is stale, what may be installed, which one command it names."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tradedist import install


class Calls(list[list[str]]):
    """Stands for the machine: notes what would be run."""

    def run(self, command: Any, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        self.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, 0, b"", b"")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    calls = Calls()
    monkeypatch.setattr("tradedist.install.subprocess.run", calls.run)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(install, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    (tmp_path / ".venv").mkdir()
    return calls


def test_requirements_are_installed_when_they_changed_and_only_then(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("one==1\n")
    install.install_requirements("requirements.txt")
    assert len(calls) == 1
    assert calls[0][-2:] == ["-r", "requirements.txt"]
    install.install_requirements("requirements.txt")
    assert len(calls) == 1
    (tmp_path / "requirements.txt").write_text("one==2\n")
    install.install_requirements("requirements.txt")
    assert len(calls) == 2


def test_a_failed_installation_is_tried_again(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("one==1\n")

    def fail(command: Any, **options: Any) -> Any:
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr("tradedist.install.subprocess.run", fail)
    with pytest.raises(subprocess.CalledProcessError):
        install.install_requirements("requirements.txt")
    monkeypatch.setattr("tradedist.install.subprocess.run", calls.run)
    install.install_requirements("requirements.txt")
    assert len(calls) == 1


def test_root_installs_with_apt(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradedist.install.shutil.which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr("tradedist.install.os.geteuid", lambda: 0)
    install.apt_install("chromium", purpose="Chromium")
    assert calls[-1][:2] == ["apt-get", "install"]
    assert calls[-1][-1] == "chromium"


def test_others_are_told_the_one_command(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradedist.install.shutil.which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr("tradedist.install.os.geteuid", lambda: 1000)
    with pytest.raises(install.CannotInstall, match="sudo apt-get install -y chromium"):
        install.apt_install("chromium", purpose="Chromium")
    assert calls == []


def test_without_apt_it_says_what_is_missing(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradedist.install.shutil.which", lambda name: None)
    with pytest.raises(install.CannotInstall, match="Chromium is missing"):
        install.apt_install("chromium", purpose="Chromium")
