"""REST for market data: symbols and candles, for every signed-in user.

Follows: the sign-in of the API. Precedes: `candle_query`, which answers from the tick Redis or a terminal.
"""

import re
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, ConfigDict, Field

from charts import candle_query
from charts.messages import TIMEFRAMES, Candle, SymbolInfo, SymbolName
from executors.errors import Code, Refused
from tradedist import keys
from tradedist.http_errors import ERRORS
from tradedist.redis import loop_ticks

router = Router(tags=["market"])

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
LAST_MS = 253_402_300_799_999  # the year 9999


class SymbolsPage(BaseModel):
    items: list[SymbolInfo]
    cursor: str | None = None


class CandlesPage(BaseModel):
    items: list[Candle]
    cursor: str | None = Field(description="Give it as `to` for the next older page; null when there is none")
    partial: bool = Field(description="True: older or better candles could not be read")
    reason: str = Field(description="Why they could not")


class CandleQuery(BaseModel):
    """Candles that open from `from` on and before `to`, UTC milliseconds."""

    model_config = ConfigDict(extra="forbid")

    symbol: SymbolName
    timeframe: str = Field(default="1m", max_length=12, description="1s, 1m, 5m, 1h, 1d … or seconds")
    from_ms: int | None = Field(default=None, alias="from", ge=0, le=LAST_MS)
    to_ms: int | None = Field(default=None, alias="to", ge=0, le=LAST_MS)
    limit: int = Field(default=500, ge=1, le=5000)


@router.get(
    "/symbols",
    response={200: SymbolsPage, **ERRORS},
    summary="Symbols and their specification",
    operation_id="symbols",
)
async def symbols(request: HttpRequest) -> HttpResponse:
    _refuse_unknown(request, frozenset())
    return _answer(SymbolsPage(items=await candle_query.symbols()))


@router.get(
    "/candles", response={200: CandlesPage, **ERRORS}, summary="Candles, oldest first", operation_id="candles"
)
async def candles(request: HttpRequest, query: Query[CandleQuery]) -> HttpResponse:
    """The newest `limit` candles of the span. The last one may be forming."""
    _refuse_unknown(request, frozenset({"symbol", "timeframe", "from", "to", "limit"}))
    seconds = timeframe_seconds(query.timeframe)
    from_ms, to_ms = query.from_ms, query.to_ms
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise Refused(Code.INVALID, "from must be earlier than to; exchange the two.")
    if not await cast(Any, loop_ticks().hexists(keys.SYMBOLS, query.symbol)):
        raise Refused(
            Code.UNKNOWN_SYMBOL, f"There is no symbol {query.symbol!r}. GET /api/symbols lists them.", 404
        )
    found = await candle_query.fetch(query.symbol, seconds, from_ms, to_ms, query.limit)
    older = len(found) == query.limit and found[0].open_ms > (from_ms or 0)
    return _answer(
        CandlesPage(
            items=list(found),
            cursor=str(found[0].open_ms) if older else None,
            partial=found.partial,
            reason=found.reason,
        )
    )


def timeframe_seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([smhd]?)", text)
    seconds = int(match[1]) * UNITS[match[2] or "s"] if match else 0
    if seconds not in TIMEFRAMES:
        names = ", ".join(_name(known) for known in TIMEFRAMES)
        raise Refused(Code.INVALID, f"Unknown timeframe {text!r}; there are: {names}.")
    return seconds


def _name(seconds: int) -> str:
    unit = next(unit for unit, size in reversed(UNITS.items()) if seconds % size == 0)
    return f"{seconds // UNITS[unit]}{unit}"


def _answer(body: BaseModel) -> HttpResponse:
    response = HttpResponse(body.model_dump_json(), content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def _refuse_unknown(request: HttpRequest, names: frozenset[str]) -> None:
    for name, values in request.GET.lists():
        if name not in names:
            raise Refused(Code.INVALID, f"Unknown query parameter {name[:40]!r}.")
        if len(values) > 1:
            raise Refused(Code.INVALID, f"The query parameter {name!r} is given more than once.")
