"""What operators ask of a host's supervisor, through the state Redis: restart executors one by one, release a terminal.

Precedes: `rolling` and the supervisor obey and answer. Follows: the management commands. A command is taken once; its
answers are a list that expires, so that nobody has to listen.
"""

import json
import logging
import secrets
from collections.abc import Iterator
from typing import Any, Literal, cast

import redis
from pydantic import ValidationError

from executors.messages import Message
from tradedist import keys
from tradedist.clock import monotonic_ms

logger = logging.getLogger(__name__)

ANSWERS_S = 600
TAKEN_AT_ONCE = 10
EXPIRE_S = 60  # a command that no supervisor takes is forgotten: the operator was told


class Command(Message):
    id: str
    command: Literal["restart", "release", "keep"]
    terminals: list[str] = []  # restart: empty = all of the host
    fresh: bool = True  # restart: begin by loading this program anew


class Answer(Message):
    """`done`: the last one of a command."""

    text: str
    done: bool = False
    failed: bool = False
    facts: dict[str, Any] = {}


def ask(
    client: "redis.Redis", host_id: str, command: Literal["restart", "release", "keep"], terminals: list[str]
) -> str:
    """The command's id, by which `answers` reads. Raises redis.RedisError."""
    wish = Command(id=secrets.token_hex(8), command=command, terminals=terminals)
    pipe = client.pipeline(transaction=True)
    pipe.rpush(keys.host_commands(host_id), wish.model_dump_json())
    pipe.expire(keys.host_commands(host_id), EXPIRE_S)
    pipe.execute()
    return wish.id


def withdraw(client: "redis.Redis", host_id: str, command_id: str) -> None:
    """What nobody has taken yet is not obeyed later."""
    for text in cast(list[str], client.lrange(keys.host_commands(host_id), 0, -1)):
        if f'"{command_id}"' in text:
            client.lrem(keys.host_commands(host_id), 0, text)


def answers(client: "redis.Redis", command_id: str, *, silence_s: float) -> Iterator[Answer]:
    """Ends after the last answer, or when nothing was said for `silence_s`."""
    until = monotonic_ms() + silence_s * 1000
    while monotonic_ms() < until:
        found = cast(Any, client.blpop([keys.host_answers(command_id)], timeout=1))
        if found is None:
            continue
        answer = Answer.model_validate_json(found[1])
        yield answer
        if answer.done:
            return
        until = monotonic_ms() + silence_s * 1000


def parse(texts: list[str]) -> list[Command]:
    """What was taken from the list; what cannot be read is logged and dropped."""
    found = []
    for text in texts:
        try:
            found.append(Command.model_validate_json(text))
        except ValidationError as error:
            logger.error("a command cannot be read: %s", error)
    return found


class Answers:
    """The supervisor's side: what Redis does not take at once waits, a little."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        self._waiting: list[tuple[str, Answer]] = []

    def say(
        self, command_id: str, text: str, *, done: bool = False, failed: bool = False, **facts: object
    ) -> None:
        logger.info("%s", text, extra={"action": "command"})
        self._waiting.append((command_id, Answer(text=text, done=done, failed=failed, facts=facts)))
        del self._waiting[:-1000]

    def flush(self) -> None:
        """Raises redis.RedisError."""
        if not self._waiting:
            return
        pipe = self._redis.pipeline(transaction=False)
        for command_id, answer in self._waiting:
            pipe.rpush(keys.host_answers(command_id), answer.model_dump_json())
            pipe.expire(keys.host_answers(command_id), ANSWERS_S)
        pipe.execute()
        self._waiting.clear()


def to_environment(command: Command, restarts: dict[str, int]) -> str:
    """What this program leaves to its next version."""
    return json.dumps({"command": command.model_dump(), "restarts": restarts})


def from_environment(text: str) -> tuple[Command, dict[str, int]]:
    left = json.loads(text)
    return Command.model_validate(left["command"]), dict(left["restarts"])
