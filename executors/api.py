"""REST for signals, terminals and what they hold. Decodes, calls, encodes; documented in docs/api.md and /api/docs.

Follows: `api_auth` (who calls). Precedes: dispatch.accept for orders, `modes` for the kill switch, `readmodel` for
the rest. What a user may not see answers 404.
"""

import logging
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field, ValidationError

from executors import api_schema, grants, modes, readmodel
from executors.api_auth import SignedIn, json_body, known_parameters
from executors.api_schema import OrdersPage, PositionsPage, TerminalsPage
from executors.dispatch import accept, describe
from executors.errors import AcceptUnknown, Code, Refused
from executors.messages import (
    Message,
    Mode,
    PendingOrderState,
    PositionState,
    SignalView,
    Slug,
    Targets,
    public_json,
)
from executors.orders import OrderState
from executors.readmodel import SignalPage
from tradedist import metrics
from tradedist.addresses import client_address
from tradedist.http_errors import ERRORS
from tradedist.redis import loop_state

logger = logging.getLogger(__name__)
router = Router()
T = TypeVar("T", bound=BaseModel)
H = TypeVar("H", PositionState, PendingOrderState)


def answer(body: BaseModel, status: int = 200) -> HttpResponse:
    response = HttpResponse(public_json(body), content_type="application/json", status=status)
    response["Cache-Control"] = "no-store"
    return response


# --- Signals ---


@router.post(
    "/signals",
    response={202: SignalView, 200: SignalView, **ERRORS},
    openapi_extra=api_schema.SIGNAL_BODY,
    summary="Distribute a signal",
    operation_id="send_signal",
    tags=["signals"],
)
async def send_signal(request: SignedIn) -> HttpResponse:
    """202: recorded, one order a terminal follows. 200: this signal_id was recorded before; its record as it is now.
    409: the id is taken by another wish. 503 ACCEPT_UNKNOWN: send the same body again."""
    known_parameters(request)
    body = json_body(request)
    user: Any = request.auth
    try:
        accepted = await accept(body, user, source="rest")
    except Refused:
        metrics.rejected_orders.inc()
        raise
    except AcceptUnknown:
        raise
    except Exception as error:
        # It may have failed after the record was made: never a refusal from here.
        logger.exception("accept failed", extra={"action": "accept"})
        raise AcceptUnknown from error
    view = accepted.view
    if not accepted.created:  # a grant may have gone since
        visible = await readmodel.visible_ids(user)
        view = view.model_copy(
            update={"orders": [order for order in view.orders if order.terminal_id in visible]}
        )
    return answer(view, 202 if accepted.created else 200)


class SignalQuery(Message):
    limit: int = Field(default=50, ge=1, le=200)
    cursor: UUID | None = Field(default=None, description="From the page before")
    terminal: Slug | None = Field(default=None, description="Only signals with an order on this terminal")
    state: OrderState | None = Field(default=None, description="Only signals with an order in this state")


@router.get(
    "/signals",
    response={200: SignalPage, **ERRORS},
    summary="Signals, newest first",
    operation_id="list_signals",
    tags=["signals"],
)
async def list_signals(request: SignedIn, query: Query[SignalQuery]) -> HttpResponse:
    """Your own, and those with an order on a terminal you may see; of each only the orders you may see."""
    known_parameters(request, *SignalQuery.model_fields)
    user: Any = request.auth
    visible = await readmodel.visible_ids(user)
    if query.terminal is not None and query.terminal not in visible:
        raise unknown_terminal(query.terminal)
    page = await readmodel.signals(
        loop_state(),
        visible,
        user.pk,
        limit=query.limit,
        after=str(query.cursor) if query.cursor else None,
        terminal_id=query.terminal,
        state=query.state,
    )
    return answer(page)


@router.get(
    "/signals/{signal_id}",
    response={200: SignalView, **ERRORS},
    summary="One signal with its orders",
    operation_id="get_signal",
    tags=["signals"],
)
async def get_signal(request: SignedIn, signal_id: str) -> HttpResponse:
    known_parameters(request)
    user: Any = request.auth
    view = None
    if is_uuid(signal_id):
        view = await readmodel.signal(loop_state(), signal_id, await readmodel.visible_ids(user), user.pk)
    if view is None:
        raise Refused(Code.NOT_FOUND, "There is no signal with this id.", 404)
    return answer(view)


def is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


# --- Terminals and what they hold ---


class HoldingsQuery(Message):
    limit: int = Field(default=500, ge=1, le=2000)
    cursor: str | None = Field(default=None, max_length=80, pattern=r"^[a-z0-9-]{1,48}:[0-9]{1,20}$")
    terminal: Slug | None = Field(default=None, description="Only of this terminal")


@router.get(
    "/terminals",
    response={200: TerminalsPage, **ERRORS},
    summary="Your terminals: state, account, latency",
    operation_id="list_terminals",
    tags=["terminals"],
)
async def list_terminals(request: SignedIn) -> HttpResponse:
    """All of them, by id; the cursor is always null."""
    known_parameters(request)
    refs = await readmodel.visible_terminals(request.auth)
    return answer(TerminalsPage(items=await readmodel.terminals(loop_state(), refs)))


@router.get(
    "/positions",
    response={200: PositionsPage, **ERRORS},
    summary="Open positions",
    operation_id="list_positions",
    tags=["terminals"],
)
async def list_positions(request: SignedIn, query: Query[HoldingsQuery]) -> HttpResponse:
    """By terminal and ticket, as each terminal last reported them."""
    ids = await _chosen_terminals(request, query)
    items = await readmodel.positions(loop_state(), ids)
    page, cursor = _page(items, query, lambda item: item.position_ticket)
    return answer(PositionsPage(items=page, cursor=cursor))


@router.get(
    "/orders",
    response={200: OrdersPage, **ERRORS},
    summary="Pending orders at the brokers",
    operation_id="list_orders",
    tags=["terminals"],
)
async def list_orders(request: SignedIn, query: Query[HoldingsQuery]) -> HttpResponse:
    """By terminal and ticket. What became of your signals' orders is in /api/signals."""
    ids = await _chosen_terminals(request, query)
    items = await readmodel.pending_orders(loop_state(), ids)
    page, cursor = _page(items, query, lambda item: item.order_ticket)
    return answer(OrdersPage(items=page, cursor=cursor))


async def _chosen_terminals(request: SignedIn, query: HoldingsQuery) -> list[str]:
    known_parameters(request, *HoldingsQuery.model_fields)
    visible = await readmodel.visible_ids(request.auth)
    if query.terminal is None:
        return sorted(visible)
    if query.terminal not in visible:
        raise unknown_terminal(query.terminal)
    return [query.terminal]


def _page(items: list[H], query: HoldingsQuery, ticket: Callable[[H], int]) -> tuple[list[H], str | None]:
    """What follows the query's cursor, and the cursor of the next page; None when there is none."""
    terminal_id, _, after = (query.cursor or ":0").rpartition(":")
    left = [item for item in items if (item.terminal_id, ticket(item)) > (terminal_id, int(after))]
    page = left[: query.limit]
    cursor = f"{page[-1].terminal_id}:{ticket(page[-1])}" if len(left) > len(page) else None
    return page, cursor


def unknown_terminal(terminal_id: str) -> Refused:
    return Refused(
        Code.UNKNOWN_TERMINAL, f"There is no terminal {terminal_id!r}. GET /api/terminals lists yours.", 404
    )


# --- The user, and the kill switch ---


@router.get(
    "/me",
    response={200: api_schema.Me, **ERRORS},
    summary="Who you are and what you may do",
    operation_id="me",
    tags=["user"],
)
async def me(request: SignedIn) -> HttpResponse:
    known_parameters(request)
    user: Any = request.auth
    who = await readmodel.standing(user)
    refs = await readmodel.visible_terminals(user)
    groups = sorted({slug for ref in refs.values() for slug in ref.groups})
    return answer(
        api_schema.Me(
            username=user.get_username(),
            role=who.role,
            may_trade=who.may_trade,
            terminals={terminal_id: ref.level for terminal_id, ref in refs.items()},
            groups={
                slug: [terminal_id for terminal_id, ref in refs.items() if slug in ref.groups]
                for slug in groups
            },
        )
    )


@router.get(
    "/modes",
    response={200: api_schema.Modes, **ERRORS},
    summary="Modes of all and of your terminals",
    operation_id="get_modes",
    tags=["modes"],
)
async def get_modes(request: SignedIn) -> HttpResponse:
    known_parameters(request)
    visible = await readmodel.visible_ids(request.auth)
    return answer(api_schema.Modes.model_validate(await readmodel.modes(loop_state(), visible)))


class Switch(Message):
    """`scope: "all"` is the global switch, for admins; else name targets."""

    mode: Mode
    scope: Literal["all"] | None = None
    targets: Targets | None = None
    reason: str = Field(default="", max_length=modes.MAX_REASON, pattern=r"^[^\x00-\x1f\x7f]*$")


@router.post(
    "/modes",
    response={200: api_schema.Switched, **ERRORS},
    openapi_extra=api_schema.body_of(Switch),
    summary="Halt, reduce or resume terminals",
    operation_id="switch_modes",
    tags=["modes"],
)
async def switch_modes(request: SignedIn) -> HttpResponse:
    """All of the named terminals or none. What an admin halted only an admin resumes."""
    known_parameters(request)
    wish = parsed(Switch, json_body(request))
    user: Any = request.auth
    about = {"reason": wish.reason, "address": client_address(request)}
    if (wish.scope is None) == (wish.targets is None):
        raise Refused(Code.INVALID, 'Give either scope: "all" or targets.')

    def switch() -> modes.Switched:
        if wish.targets is None:
            return modes.switch_all(user, wish.mode, **about)
        return modes.switch_terminals(user, grants.resolve_switch(user, wish.targets), wish.mode, **about)

    done = await sync_to_async(switch)()
    return answer(
        api_schema.Switched(
            mode=wish.mode, terminals=done.terminal_ids, published=not done.trouble, message=done.trouble
        )
    )


def parsed(kind: type[T], body: dict[str, Any]) -> T:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise Refused(Code.INVALID, describe(error)) from None
