"""The admin's pages for settling orders by hand: what is open, and one order with the form.

Follows: `admin` puts them below the signals. Precedes: `settlement_desk` asks the executor, or settles by force.
"""

from typing import Any
from uuid import uuid4

import redis
from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from executors import grants
from executors import settlement_desk as desk
from executors.errors import Refused
from executors.orders import SETTLED
from executors.settlement import MAX_WORDS, TRUTHS, Settlement
from tradedist.addresses import client_address
from tradedist.clock import now_ms
from tradedist.redis import state

WAIT_S = 2.0


class SettlementForm(forms.Form):
    truth = forms.ChoiceField(
        label="What became of it", choices=list(TRUTHS.items()), widget=forms.RadioSelect
    )
    filled_lots = forms.DecimalField(
        label="Filled lots", min_value=0, max_digits=20, decimal_places=8, required=False,
        help_text="Of the whole order. Empty when none were.",
    )  # fmt: skip
    price = forms.DecimalField(
        label="Average price", min_value=0, max_digits=20, decimal_places=8, required=False,
        help_text="Of the filled lots, if it is known.",
    )  # fmt: skip
    evidence = forms.CharField(
        label="Where it was seen", max_length=MAX_WORDS, widget=forms.Textarea(attrs={"rows": 2, "cols": 80}),
        help_text="A sentence: the broker's statement, the terminal's history with its ticket, a call to the broker.",
    )  # fmt: skip
    reason = forms.CharField(
        label="Why by hand", max_length=MAX_WORDS, widget=forms.Textarea(attrs={"rows": 2, "cols": 80})
    )
    settlement_id = forms.CharField(min_length=8, max_length=64, widget=forms.HiddenInput)
    report_seq = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    dead = forms.BooleanField(
        required=False,
        label="I state that the executor of this terminal is dead and its host gone for good: it is not asked",
    )
    confirm = forms.CharField(label="Type the terminal's id to confirm", max_length=48)

    def __init__(self, order: desk.OpenOrder, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.order = order
        if not order.executor_silent:
            del self.fields["dead"]  # it was heard of a moment ago

    def clean_confirm(self) -> str:
        typed: str = self.cleaned_data["confirm"].strip()
        if typed != self.order.report.terminal_id:
            raise forms.ValidationError(f"Type {self.order.report.terminal_id} to confirm.")
        return typed

    def wish(self, by: str) -> Settlement:
        """Raises Refused when the parts do not fit together."""
        said = self.cleaned_data
        return desk.read_wish(
            {
                "settlement_id": said["settlement_id"],
                "order_id": self.order.report.order_id,
                "terminal_id": self.order.report.terminal_id,
                "truth": said["truth"],
                "filled_lots": said["filled_lots"] or 0,
                "price": said["price"] or 0,
                "evidence": said["evidence"],
                "reason": said["reason"],
                "by": by,
                "report_seq": said["report_seq"],
                "asked_ms": now_ms(),
                "forced": said.get("dead", False),
            }
        )


def open_orders(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Every order that is not settled, the longest overdue first."""
    if not grants.is_admin(request.user):
        raise PermissionDenied
    orders: list[desk.OpenOrder] = []
    try:
        with state() as client:
            orders = desk.open_orders(client)
    except redis.RedisError as error:
        messages.error(request, f"The state Redis does not answer: {error}")
    context = {**site.each_context(request), "title": "Orders that are not settled", "orders": orders}
    return TemplateResponse(request, "admin/executors/settle_list.html", context)


def settle(request: HttpRequest, site: AdminSite, order_id: str) -> HttpResponse:
    if not grants.is_admin(request.user):
        raise PermissionDenied
    try:
        with state() as client:
            return _settle(request, site, client, order_id)
    except redis.RedisError as error:
        messages.error(request, f"The state Redis does not answer: {error}")
        return redirect("admin:executors_settle_list")


def _settle(request: HttpRequest, site: AdminSite, client: "redis.Redis", order_id: str) -> HttpResponse:
    order = desk.find(client, order_id)
    if order is None:
        raise Http404
    first = {"settlement_id": str(uuid4()), "report_seq": order.report.report_seq}
    form = SettlementForm(order, request.POST or None, initial=first)
    if request.method == "POST" and form.is_valid():
        try:
            wish = form.wish(request.user.get_username())
            if wish.forced:
                desk.force(client, request.user, wish, address=client_address(request))
                messages.success(
                    request, "Settled by force. Should the executor come back, its journal has the last word."
                )
            else:
                desk.ask(client, request.user, wish, address=client_address(request))
                _tell(request, client, wish)
        except Refused as refused:
            form.add_error(None, refused.message)
        else:
            return redirect("admin:executors_settle", order_id=order_id)
    context = {
        **site.each_context(request),
        "title": f"Settle order {order_id}",
        "order": order,
        "signal_id": order.report.signal_id,
        "open": order.report.state not in SETTLED,
        "form": form,
        "silent_s": None if order.silent_ms is None else order.silent_ms // 1000,
    }
    return TemplateResponse(request, "admin/executors/settle.html", context)


def _tell(request: HttpRequest, client: "redis.Redis", wish: Settlement) -> None:
    answer = desk.wait(client, wish, WAIT_S)
    if answer is None:
        messages.warning(
            request,
            "Asked. Its executor has not answered yet; it does when it runs, and the audit log shows it.",
        )
    elif answer.done:
        messages.success(request, answer.message)
    else:
        messages.error(request, f"Refused by its executor. {answer.message}")
