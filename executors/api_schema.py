"""Shapes of REST answers that are no messages elsewhere, and what OpenAPI says of bodies and errors.

Precedes: `api`. Follows: executors.messages, whose models make up most answers.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from executors.messages import SIGNAL, Message, Mode, PendingOrderState, PositionState
from executors.readmodel import TerminalView


class TerminalsPage(Message):
    items: list[TerminalView]
    cursor: str | None = None


class PositionsPage(Message):
    items: list[PositionState]
    cursor: str | None


class OrdersPage(Message):
    items: list[PendingOrderState]
    cursor: str | None


class Me(Message):
    username: str
    role: str
    may_trade: bool
    terminals: dict[str, str] = Field(description="Terminal → view or trade")
    groups: dict[str, list[str]] = Field(description="Group → those of its terminals that you may see")


class Modes(Message):
    model_config = ConfigDict(serialize_by_alias=True)

    all: Mode = Field(alias="global")
    terminals: dict[str, Mode]


class Switched(Message):
    mode: Mode
    terminals: list[str] = Field(description="Empty for the global switch")
    published: bool = Field(description="False: saved, but Redis did not take it yet; it is tried again")
    message: str


class HealthView(Message):
    status: Literal["ok", "degraded", "down"]
    parts: dict[str, str] = Field(description="Part → ok, or what is wrong")
    time_ms: int


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`: the body is read by our own strict reader, so that ninja does not see its model."""
    return _body(model.model_json_schema())


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    """Definitions are put in place: a route's part of the document has no room for them."""
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inline(definitions[node["$ref"].rpartition("/")[2]])
            return {name: inline(item) for name, item in node.items() if name != "discriminator"}
        if isinstance(node, list):
            return [inline(item) for item in node]
        return node

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inline(schema)}}}}


SIGNAL_BODY = _body(SIGNAL.json_schema())
