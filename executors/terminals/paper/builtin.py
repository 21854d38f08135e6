"""Builds functions and structure types as C code would, with ctypes: what the real package has, and pure Python cannot.

Precedes: `client.py` (functions) and `structs.py` (types). A function made here refuses keywords where the real one does,
tells an empty `**{}` from no keywords, and can fail with SystemError as a C function that forgot its error state.
"""

import ctypes
import warnings
from collections.abc import Callable
from typing import Any

NO_ARGUMENTS, POSITIONAL, KEYWORDS = 4, 1, 3  # METH_NOARGS, METH_VARARGS, METH_VARARGS | METH_KEYWORDS
MODULE = "MetaTrader5._core"

Implementation = Callable[[tuple[Any, ...], "dict[str, Any] | None"], Any]
_keep: list[Any] = []  # callbacks and definitions must outlive the functions


class Broken(Exception):
    """The implementation wants the call to end in SystemError."""


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("meth", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Field(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("doc", ctypes.c_char_p))


class _Description(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("doc", ctypes.c_char_p),
        ("fields", ctypes.POINTER(_Field)),
        ("n_in_sequence", ctypes.c_int),
    )


# The result is an address, so that 0 can stand for "failed": the reference is handed over by `_owned`.
_with_keywords = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
_positional = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.py_object)
_no_arguments = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_new_function = ctypes.pythonapi.PyCFunction_NewEx
_new_function.restype = ctypes.py_object
_new_function.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
_new_type = ctypes.pythonapi.PyStructSequence_NewType
_new_type.restype = ctypes.py_object
_new_type.argtypes = [ctypes.POINTER(_Description)]
_increase = ctypes.pythonapi.Py_IncRef
_increase.restype = None
_increase.argtypes = [ctypes.py_object]


def _owned(
    implementation: Implementation, arguments: tuple[Any, ...], keywords: dict[str, Any] | None
) -> int | None:
    try:
        result = implementation(arguments, keywords)
    except Broken:
        return None  # CPython makes SystemError of it
    _increase(result)
    return id(result)


def function(owner: Any, name: str, implementation: Implementation, flags: int) -> Any:
    """A built-in function of `owner` (a module); `implementation(positional, keywords or None)` must not raise."""
    callback: Any
    if flags == KEYWORDS:

        def with_keywords(_: Any, arguments: Any, keywords: Any) -> int | None:
            found = ctypes.cast(keywords, ctypes.py_object).value if keywords else None
            return _owned(implementation, arguments, found)

        callback = _with_keywords(with_keywords)
    elif flags == POSITIONAL:
        callback = _positional(lambda _, arguments: _owned(implementation, arguments, None))
    else:
        callback = _no_arguments(lambda _, __: _owned(implementation, (), None))
    definition = _MethodDef(name.encode(), ctypes.cast(callback, ctypes.c_void_p), flags, b"")
    _keep.append((callback, definition))
    return _new_function(ctypes.addressof(definition), owner, MODULE)


def structure(name: str, fields: tuple[str, ...], *, module: str = "builtins") -> Any:
    """A structure type: a tuple with names, without `_fields`, and without pickling unless `module` can be imported."""
    table = (_Field * (len(fields) + 1))()
    for index, field in enumerate(fields):
        table[index] = _Field(field.encode(), b"")
    table[len(fields)] = _Field(None, None)
    description = _Description(name.encode(), b"", table, len(fields))
    _keep.append((table, description))
    with warnings.catch_warnings():
        # the real types have no module in their name either; theirs is set below
        warnings.simplefilter("ignore", DeprecationWarning)
        made = _new_type(ctypes.byref(description))

    def _asdict(self: Any) -> dict[str, Any]:
        return dict(zip(fields, self, strict=True))

    made.__module__ = module
    made._asdict = _asdict
    return made
