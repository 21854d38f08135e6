"""The admin's pages that are no tables: signals as Redis has them, and the switch for all terminals.

Follows: `admin`, which puts them in its index. Precedes: `readmodel` for signals, `modes` for the switch.
"""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import redis
from asgiref.sync import async_to_sync
from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from executors import configuration, grants, modes, readmodel
from executors.alerts import read_alerts, recent
from executors.errors import Refused
from executors.messages import Alert, DriftLog, SignalView
from executors.models import Terminal
from executors.orders import SETTLED, OrderState
from executors.readmodel import SignalPage
from executors.signals import in_words
from tradedist import keys
from tradedist.addresses import client_address
from tradedist.clock import now_ms
from tradedist.redis import async_state, state

PAGE = 50


class SignalFilter(forms.Form):
    terminal = forms.ChoiceField(required=False)
    state = forms.ChoiceField(
        required=False, choices=[("", "any state"), *((item, item) for item in OrderState)]
    )
    cursor = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, terminal_ids: list[str], *args: Any) -> None:
        super().__init__(*args)
        choices = [("", "any terminal"), *((item, item) for item in terminal_ids)]
        self.fields["terminal"] = forms.ChoiceField(required=False, choices=choices)


def signals(request: HttpRequest, site: AdminSite) -> HttpResponse:
    terminal_ids = _terminal_ids(request)
    form = SignalFilter(terminal_ids, request.GET)
    page = SignalPage(items=[], cursor=None)
    if form.is_valid():
        wish = form.cleaned_data

        async def read() -> SignalPage:
            async with async_state() as client:
                return await readmodel.signals(
                    client,
                    terminal_ids,
                    _pk(request),
                    limit=PAGE,
                    after=str(wish["cursor"]) if wish["cursor"] else None,
                    terminal_id=wish["terminal"] or None,
                    state=OrderState(wish["state"]) if wish["state"] else None,
                )

        try:
            page = async_to_sync(read)()
        except redis.RedisError as error:
            messages.error(request, f"The state Redis does not answer: {error}")
    following = request.GET.copy()
    following["cursor"] = page.cursor or ""
    context = {
        **site.each_context(request),
        "title": "Signals, newest first",
        "form": form,
        "signals": [_shown(view) for view in page.items],
        "following": following.urlencode() if page.cursor else "",
    }
    return TemplateResponse(request, "admin/executors/signals.html", context)


def signal(request: HttpRequest, site: AdminSite, signal_id: str) -> HttpResponse:
    terminal_ids = _terminal_ids(request)
    try:
        known = str(UUID(signal_id))
    except ValueError:
        raise Http404 from None

    async def read() -> SignalView | None:
        async with async_state() as client:
            return await readmodel.signal(client, known, terminal_ids, _pk(request))

    try:
        view = async_to_sync(read)()
    except redis.RedisError as error:
        messages.error(request, f"The state Redis does not answer: {error}")
        return redirect("admin:executors_signalrecord_changelist")
    if view is None:
        raise Http404
    context = {
        **site.each_context(request),
        "title": f"Signal {known}",
        "signal": _shown(view),
        "body": view.signal.model_dump_json(indent=2, exclude_none=True),
    }
    return TemplateResponse(request, "admin/executors/signal.html", context)


def _terminal_ids(request: HttpRequest) -> list[str]:
    """Of all terminals, the retired ones too: an admin sees everything."""
    if not grants.is_admin(request.user):
        raise PermissionDenied
    return list(Terminal.objects.values_list("pk", flat=True))


def _pk(request: HttpRequest) -> int:
    return request.user.pk or 0


def _shown(view: SignalView) -> dict[str, Any]:
    """With times as the template wants them, and the wish in one line."""
    return {
        "signal_id": view.signal_id,
        "text": in_words(view.signal),
        "user": view.user,
        "source": view.source,
        "accepted_at": _time(view.accepted_ms),
        "deadline_at": _time(view.deadline_ms),
        "orders": [
            {"view": order, "reported_at": _time(order.report.time_ms), "open": order.state not in SETTLED}
            for order in view.orders
        ],
    }


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def alerts(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """What operators must know: what holds, and what was raised and ended lately."""
    terminal_ids = _terminal_ids(request)
    held: list[Alert] = []
    lately: list[Alert] = []
    try:
        with state() as client:
            pipe = client.pipeline(transaction=False)
            for terminal_id in terminal_ids:
                pipe.hvals(keys.open_alerts(terminal_id))
            held = read_alerts(text for texts in pipe.execute() for text in texts)
            lately = [alert for alert in recent(client) if alert.terminal_id in set(terminal_ids)]
    except redis.RedisError as error:
        messages.error(request, f"The state Redis does not answer: {error}")
    context = {
        **site.each_context(request),
        "title": "Alerts",
        "open": [{"alert": alert, "at": _time(alert.time_ms)} for alert in held],
        "lately": [{"alert": alert, "at": _time(alert.time_ms)} for alert in lately],
    }
    return TemplateResponse(request, "admin/executors/alerts.html", context)


def drift(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """What at the terminals no order of ours explains, newest first."""
    terminal_ids = _terminal_ids(request)
    rows: list[dict[str, Any]] = []
    counts: list[tuple[str, str, int]] = []
    try:
        with state() as client:
            held = cast(list[str | None], client.mget([keys.drift(name) for name in terminal_ids] or [""]))
    except redis.RedisError as error:
        messages.error(request, f"The state Redis does not answer: {error}")
        held = []
    for terminal_id, text in zip(terminal_ids, held, strict=False):
        log = DriftLog.model_validate_json(text) if text else DriftLog()
        rows += [
            {"terminal": terminal_id, "event": event, "at": _time(event.time_ms)} for event in log.events
        ]
        counts += [(terminal_id, code, count) for code, count in sorted(log.counts.items())]
    rows.sort(key=lambda row: row["event"].time_ms, reverse=True)
    context = {
        **site.each_context(request),
        "title": "What no order of ours explains",
        "rows": rows,
        "counts": counts,
    }
    return TemplateResponse(request, "admin/executors/drift.html", context)


def live_states(terminal_ids: list[str]) -> dict[str, str]:
    """What the executors last said of themselves, in words."""
    try:
        with state() as client:
            pipe = client.pipeline(transaction=False)
            for terminal_id in terminal_ids:
                pipe.hmget(keys.instance(terminal_id), ["state", "seen_ms"])
            rows = pipe.execute()
    except redis.RedisError:
        return dict.fromkeys(terminal_ids, "not known: Redis does not answer")
    return {terminal_id: _live(*row) for terminal_id, row in zip(terminal_ids, rows, strict=True)}


def _live(status: str | None, seen_ms: str | None) -> str:
    if status is None or not (seen_ms or "").isdecimal():
        return "never started"
    silent_ms = now_ms() - int(seen_ms or 0)
    return status if silent_ms <= readmodel.STALE_MS else f"{status}, silent for {silent_ms // 1000} s"


class SwitchForm(forms.Form):
    mode = forms.ChoiceField(choices=Terminal.Mode.choices, widget=forms.RadioSelect)
    reason = forms.CharField(
        max_length=modes.MAX_REASON, required=False, help_text="For the audit log and for who resumes."
    )


def global_switch(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Halts, reduces or resumes all terminals; each keeps its own mode, and the stricter one holds."""
    if not grants.is_admin(request.user):
        raise PermissionDenied
    form = SwitchForm(request.POST or None, initial={"mode": configuration.global_mode()})
    if request.method == "POST" and form.is_valid():
        try:
            done = modes.switch_all(
                request.user,
                form.cleaned_data["mode"],
                reason=form.cleaned_data["reason"],
                address=client_address(request),
            )
        except Refused as refused:
            messages.error(request, refused.message)
        else:
            messages.success(request, f"All terminals: {form.cleaned_data['mode']}")
            if done.trouble:
                messages.warning(request, done.trouble)
        return redirect("admin:executors_globalmode_changelist")
    context = {
        **site.each_context(request),
        "title": "All terminals at once",
        "form": form,
        "mode": configuration.global_mode(),
        "others": Terminal.objects.active().exclude(mode=Terminal.Mode.ACTIVE),
    }
    return TemplateResponse(request, "admin/executors/global_mode.html", context)
