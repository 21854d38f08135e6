"""The operator's calls from a shell: `python -m executors.terminals.paper.operate CALL key=value…`.

    operate accounts                           operate ensure_account 7 password ecn 10000
    operate fault kind=lose_answer at=3        operate push EURUSD 1.1 1.1001
    operate script faults.toml                 steps with after_s, call, args, and fault settings, in order

PAPER_BROKER_URL names the broker. Values are JSON where they can be, else text. Prints the answer as JSON.
"""

import argparse
import json
import os
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from executors.terminals.paper import wire
from executors.terminals.paper.link import LinkError
from executors.terminals.paper.oracle import Operator


class ScriptError(ValueError):
    """A script that cannot be played; says what to change."""


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def play(operator: Operator, script: str, wait: Callable[[float], None] = time.sleep) -> list[Any]:
    """`[[step]]` tables: `after_s` since the step before, and either `fault` with its settings or `call` with `args`."""
    answers = []
    try:
        steps = tomllib.loads(script).get("step", [])
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"the script is not TOML: {error}") from None
    for number, step in enumerate(steps, 1):
        step = dict(step)
        pause = float(step.pop("after_s", 0))
        fault, call = step.pop("fault", None), step.pop("call", None)
        if (fault is None) == (call is None):
            raise ScriptError(f"step {number} needs either fault or call")
        wait(pause)
        if fault is not None:
            answers.append(operator.fault(fault, **step))
        else:
            arguments = step.pop("args", [])
            if step:
                raise ScriptError(f"step {number}: unknown key {', '.join(step)}")
            answers.append(operator.call(call, *arguments))
    return answers


def _script(arguments: list[str]) -> str:
    if len(arguments) != 1:
        raise ScriptError("name one script: operate script faults.toml")
    try:
        return Path(arguments[0]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{arguments[0]} cannot be read: {error}") from None


def _settings(arguments: list[str]) -> dict[str, Any]:
    """`kind=lose_answer at=3`"""
    spec = {}
    for item in arguments:
        name, equals, text = item.partition("=")
        if not equals:
            raise ScriptError(f"write settings as name=value, such as kind=lose_answer, not {item}")
        spec[name] = value_of(text)
    return spec


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="operate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("PAPER_BROKER_URL", wire.DEFAULT_URL))
    parser.add_argument("call", help="fault, script, or any op_… of broker/broker.py")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args(arguments)
    try:
        with Operator(options.url) as operator:
            if options.call == "script":
                answer: Any = play(operator, _script(options.arguments))
            elif options.call == "fault":
                answer = operator.call("fault_add", _settings(options.arguments))
            else:
                answer = operator.call(options.call, *map(value_of, options.arguments))
    except (LinkError, ScriptError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{options.url}: {error}\n")
        return 1
    json.dump(answer, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
