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
    for number, step in enumerate(tomllib.loads(script).get("step", []), 1):
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
                answer: Any = play(operator, Path(options.arguments[0]).read_text())
            elif options.call == "fault":
                spec = dict(item.split("=", 1) for item in options.arguments)
                answer = operator.call("fault_add", {name: value_of(text) for name, text in spec.items()})
            else:
                answer = operator.call(options.call, *map(value_of, options.arguments))
    except LinkError as error:
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
