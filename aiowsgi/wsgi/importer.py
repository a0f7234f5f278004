"""From ``module:attribute`` to the application.

Three mistakes have three messages: there is no such module; the module fails while it is imported,
which is shown with its own traceback and none of our frames; there is no such attribute, with the
name nearest to it. All of them are an ApplicationLoadError.

No application is called here except where ``module:factory()`` or ``--factory`` asks for it, and
nothing is served.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from aiowsgi.exceptions import ApplicationLoadError
from aiowsgi.suggest import did_you_mean

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["load_application", "own_traceback"]

T = TypeVar("T")


def load_application(spec: str, *, factory: bool, app_dir: str | None) -> WSGIApplication:
    """Import the application that ``spec`` names.

    ``spec`` is ``module:attribute``, ``module:attribute.attribute``, ``module:factory()``, or
    ``module`` alone for its attribute ``application`` or else ``app``. With ``factory``, the
    attribute is called even where no ``()`` is written. Modules are looked for in ``app_dir``
    first, by default the current directory, as they will be when the application imports more.

    Raises ApplicationLoadError. Where the application's own code failed, its exception is the
    cause, with a traceback that begins in that code.
    """
    target = _parse(spec)
    _look_first_in(os.path.abspath(app_dir or os.curdir))
    value = _attribute(_import(target.module), target)
    if factory or target.call:
        value = _own_code(value, f"the factory {target} failed")
    _check(value, f"what {target} returned" if factory or target.call else str(target))
    return cast("WSGIApplication", value)


def own_traceback(error: ApplicationLoadError) -> str:
    """The traceback of the application's own failure, if that is the cause; lines, or nothing."""
    if error.__cause__ is None:
        return ""
    # Imported here: a start that goes well formats no traceback.
    import traceback

    return "".join(traceback.format_exception(error.__cause__))


# What is written


class _Target(NamedTuple):
    module: str
    attributes: str
    """Dotted; empty where the usual names are to be tried."""
    call: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.attributes}" if self.attributes else self.module


_SPEC: Final = re.compile(
    r"(?P<module>{0})(?::(?P<attributes>{0})(?P<call>\(\))?)?".format(
        r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
    )
)


def _parse(spec: str) -> _Target:
    module, colon, rest = spec.partition(":")
    if module.endswith(".py"):
        directory, file = os.path.split(module)
        where = f" with --app-dir {directory}" if directory else ""
        hint = f"{file.removesuffix('.py')}{colon}{rest}{where}"
        raise ApplicationLoadError(f"{spec}: name the module, not its file: {hint}")
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ApplicationLoadError(f"{spec}: not of the form module:attribute or module:factory()")
    return _Target(match["module"], match["attributes"] or "", match["call"] is not None)


# Finding it


def _look_first_in(directory: str) -> None:
    if not os.path.isdir(directory):
        raise ApplicationLoadError(f"{directory}: no such directory to find the application in")
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)


def _import(name: str) -> ModuleType:
    try:
        return _own_code(lambda: importlib.import_module(name), f"importing {name} failed")
    except ApplicationLoadError as error:
        cause = error.__cause__
        # Whether it is this module or a package around it that is missing, not one it needs.
        if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
            raise ApplicationLoadError(_missing_module(name, cause)) from None
        raise


def _missing_module(name: str, error: ModuleNotFoundError) -> str:
    neighbours = (module.name for module in pkgutil.iter_modules(sys.path[:1]))
    hint = did_you_mean(name, neighbours) if error.name == name else ""
    return f"{error}, in {sys.path[0]} or elsewhere on sys.path{hint}"


_USUAL: Final = ("application", "app")
"""In this order: what Django and mod_wsgi users write, then what Flask users do."""


def _attribute(module: ModuleType, target: _Target) -> Any:
    if target.attributes:
        value: Any = module
        for name in target.attributes.split("."):
            value = _get(value, name, target)
        return value
    for name in _USUAL:
        if hasattr(module, name):
            return getattr(module, name)
    hint = next(filter(None, (did_you_mean(name, _public(module)) for name in _USUAL)), "")
    raise ApplicationLoadError(f"{target}: has no attribute application or app{hint}")


def _get(holder: object, name: str, target: _Target) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError:
        hint = did_you_mean(name, _public(holder))
        raise ApplicationLoadError(f"{target}: there is no attribute {name}{hint}") from None


def _public(holder: object) -> Iterable[str]:
    return (name for name in dir(holder) if not name.startswith("_"))


def _check(value: object, what: str) -> None:
    if not callable(value):
        raise ApplicationLoadError(f"{what} is not callable: {type(value).__name__}")
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(type(value).__call__):
        raise ApplicationLoadError(f"{what} is a coroutine function: ASGI, where WSGI is needed")


# Running the application's code


def _own_code(call: Callable[[], T], failure: str) -> T:
    """Run ``call``; whatever it raises, an exit included, is the cause of ApplicationLoadError."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise ApplicationLoadError(failure) from _without_our_frames(error)


def _without_our_frames(error: BaseException) -> BaseException:
    """``error`` with its traceback beginning below this module and the import machinery.

    An operator looks for the mistake in the frames that are shown first.
    """
    ours = (__file__, importlib.__file__, "<frozen importlib")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return error.with_traceback(trace)
