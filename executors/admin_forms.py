"""Forms of the admin: a password that is only written, a configuration that executors can read, a role for a user.

Precedes: `admin`. Follows: the models; what pydantic refuses in a published configuration is shown at its field.
"""

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.conf import settings
from django.contrib.auth.forms import BaseUserCreationForm, UserChangeForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from pydantic import TypeAdapter
from pydantic import ValidationError as SchemaError

from executors import configuration
from executors.credentials import seal
from executors.messages import Symbol
from executors.models import Member, Terminal

SYMBOL_LIST: TypeAdapter[list[str]] = TypeAdapter(list[Symbol])
SYMBOL_MAP: TypeAdapter[dict[str, str]] = TypeAdapter(dict[Symbol, Symbol])
FIELDS = {"sizing": "sizing_value", "limits": "max_lots"}  # of the configuration → of the form


class TerminalForm(forms.ModelForm):
    password = forms.CharField(
        required=False,
        strip=False,
        max_length=128,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="The account's trading password. Sealed at once and never shown; empty keeps the one that is there.",
    )

    class Meta:
        model = Terminal
        fields = "__all__"  # noqa: DJ007  fields that are not editable are left out by the model itself

    def clean_server_timezone(self) -> str:
        name: str = self.cleaned_data["server_timezone"]
        if name == "NY+7":
            return name
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValidationError("Use an IANA name such as Europe/Athens, UTC, or NY+7.") from None
        return name

    def clean_symbols(self) -> list[str]:
        symbols: list[str] = _checked(SYMBOL_LIST, self.cleaned_data["symbols"], 'a list such as ["EURUSD"]')
        return symbols

    def clean_symbol_map(self) -> dict[str, str]:
        symbols: dict[str, str] = _checked(
            SYMBOL_MAP, self.cleaned_data["symbol_map"], 'an object such as {"EURUSD": "EURUSD.pro"}'
        )
        return symbols

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if not self.errors and not self.instance.sealed_password and not self.cleaned_data.get("password"):
            self.add_error("password", "A new terminal needs its password.")
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's own step, not in its types: it fills the instance
        if self.errors:
            return
        if password := self.cleaned_data.get("password"):
            self.instance.sealed_password = seal(
                settings.CREDENTIALS_KEY, self.instance.terminal_id, password
            )
        try:
            configuration.build(self.instance)
        except SchemaError as error:
            for fault in error.errors(include_url=False, include_input=False):
                name = str(fault["loc"][0]) if fault["loc"] else ""
                name = FIELDS.get(name, name)
                self.add_error(name if name in self.fields else None, fault["msg"])


def _checked(kind: TypeAdapter[Any], value: Any, wants: str) -> Any:
    """An empty field comes as None."""
    try:
        if value is None:
            value = [] if kind is SYMBOL_LIST else {}
        return kind.validate_python(value)
    except SchemaError:
        raise ValidationError(
            f"Write {wants}, with symbols of up to 29 letters, digits and . _ # & + -"
        ) from None


class RoleField(forms.ChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            choices=Member.Role.choices,
            help_text="An admin sees, trades and configures everything. Others see what they are granted.",
            **kwargs,
        )


class NewUserForm(BaseUserCreationForm):
    role = RoleField(initial=Member.Role.VIEWER)

    class Meta:
        model = User
        fields = ("username",)


class UserForm(UserChangeForm):
    role = RoleField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["role"] = role_of(self.instance)


def role_of(user: User) -> str:
    """A superuser made on the command line is an admin, too."""
    if user.is_superuser:
        return Member.Role.ADMIN
    return Member.objects.filter(user=user).values_list("role", flat=True).first() or Member.Role.VIEWER
