"""Signing in and staying so: the page's sign-in, lockout after repeated failures, idle and absolute session limits.

Precedes: every view that asks who the user is. Follows: Django's authentication. The admin signs in here too.
"""

from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import logout
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse_lazy
from django.views.generic import RedirectView

from executors import audit
from executors.configuration import access_changed
from tradedist.addresses import client_address
from tradedist.clock import monotonic_ms, now_ms
from tradedist.http_errors import answer
from tradedist.rates import Lockout

WINDOW_MS = 15 * 60 * 1000
by_user = Lockout(5, WINDOW_MS)  # (username, address): locking a user out from elsewhere takes his address
by_address = Lockout(50, WINDOW_MS)  # many names tried from one address
SIGNED_IN, SEEN = "signed_in_ms", "seen_ms"
NOTE_EVERY_MS = 60_000  # a session is written at most this often


def locked_ms(request: HttpRequest, username: str) -> float:
    address, now = client_address(request), monotonic_ms()
    return max(by_user.locked_ms((username.casefold(), address), now), by_address.locked_ms(address, now))


class LockingBackend(ModelBackend):
    """Django's users, behind the lockout: it holds for every form that asks for a password."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        if request is None or not username:
            return super().authenticate(request, username=username, password=password, **kwargs)
        if locked_ms(request, username):
            raise PermissionDenied
        user = super().authenticate(request, username=username, password=password, **kwargs)
        key, now = (username.casefold(), client_address(request)), monotonic_ms()
        if user is None:
            by_user.failed(key, now)
            by_address.failed(key[1], now)
            audit.append(username[:80], "sign-in failed", "session", address=key[1])
        else:
            by_user.clear(key)
        return user

    async def aauthenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        return await sync_to_async(self.authenticate)(request, username=username, password=password, **kwargs)


class SignInForm(AuthenticationForm):
    def clean(self) -> dict[str, Any]:
        wait_ms = locked_ms(self.request, str(self.cleaned_data.get("username") or "")) if self.request else 0
        if wait_ms:
            minutes = int(wait_ms // 60_000) + 1
            raise ValidationError(
                f"Too many failed attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}.",
                code="locked",
            )
        return super().clean()


class SignIn(LoginView):
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """Back to where the user came from, but never to here again."""
        url = super().get_redirect_url()
        return "" if url.split("?")[0] == self.request.path else url

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        self.request.session[SIGNED_IN] = now_ms()
        audit.append(self.request.user, "signed in", "session", address=client_address(self.request))
        return response


class AdminSignIn(RedirectView):
    """The admin sends here whoever may not see it. Who is signed in is told so: /login/ would send him straight back."""

    pattern_name = "login"
    query_string = True

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not admin.site.has_permission(request):
            return answer(request, 403, "The admin is for admins. Sign out on the chart and in again as one.")
        return super().get(request, *args, **kwargs)


class SignOut(LogoutView):
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated:
            audit.append(request.user, "signed out", "session", address=client_address(request))
        response = super().post(request, *args, **kwargs)
        access_changed()  # open sockets of the session end now
        return response


class ChangePassword(PasswordChangeView):
    """One's own. Every other session of the user ends with it."""

    template_name = "registration/change_password.html"
    success_url = reverse_lazy("chart")

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            response = super().form_valid(form)
            audit.append(
                self.request.user, "password changed", "session", address=client_address(self.request)
            )
        return response


class SessionLimits:
    """A session ends SESSION_ABSOLUTE_S after the sign-in, or SESSION_IDLE_S after its last request.

    The session's own expiry is moved, so that the sockets, which load it anew each minute, see it end as well.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if iscoroutinefunction(self):
            return self.later(request)
        if _has_session(request):
            apply_limits(request)
        return self.get_response(request)

    async def later(self, request: HttpRequest) -> HttpResponseBase:
        if _has_session(request):
            await sync_to_async(apply_limits)(request)
        response: HttpResponseBase = await self.get_response(request)
        return response


def _has_session(request: HttpRequest) -> bool:
    return settings.SESSION_COOKIE_NAME in request.COOKIES


def apply_limits(request: HttpRequest) -> None:
    if not request.user.is_authenticated:
        return
    now = now_ms()
    signed_in = request.session.get(SIGNED_IN)
    if not isinstance(signed_in, int):
        signed_in = request.session[SIGNED_IN] = now
    left_ms = signed_in + settings.SESSION_ABSOLUTE_S * 1000 - now
    if left_ms <= 0:
        logout(request)
    elif now - request.session.get(SEEN, 0) >= NOTE_EVERY_MS:
        request.session[SEEN] = now
        request.session.set_expiry(max(1, min(settings.SESSION_COOKIE_AGE, left_ms // 1000)))
