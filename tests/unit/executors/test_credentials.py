import pytest

from executors.credentials import CredentialError, seal, unseal

KEY = "a key of any length"


@pytest.mark.parametrize("password", ["secret", "", "pässwörd ✓", "x" * 500])
def test_opens_what_it_sealed(password: str) -> None:
    assert unseal(KEY, "london-1", seal(KEY, "london-1", password)) == password


def test_seals_differently_each_time() -> None:
    assert seal(KEY, "london-1", "secret") != seal(KEY, "london-1", "secret")


def test_sealed_text_does_not_open_for_another_terminal_field_or_key() -> None:
    sealed = seal(KEY, "london-1", "secret")
    for key, terminal_id, field in (
        (KEY, "tokyo-2", "password"),
        (KEY, "london-1", "investor"),
        ("another", "london-1", "password"),
    ):
        with pytest.raises(CredentialError) as caught:
            unseal(key, terminal_id, sealed, field=field)
        assert "secret" not in str(caught.value)


def test_damage_is_noticed_wherever_it_is() -> None:
    sealed = seal(KEY, "london-1", "secret")
    head, _, body = sealed.partition(".")
    damaged = ["", ".", "2." + body, body, f"{head}.", f"{head}.****", f"{head}.AAAA"]
    for place in range(len(body)):
        for changed in {"A", "B", "g", "_", "="} - {body[place]}:
            damaged.append(f"{head}.{body[:place]}{changed}{body[place + 1 :]}")
    for text in damaged:
        with pytest.raises(CredentialError):
            unseal(KEY, "london-1", text)
