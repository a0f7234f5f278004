"""Loads the application that a specification names, such as ``module:attribute``.

Each mistake has a message of its own: there is no such module; the module fails while it is
imported (shown with its own traceback, without frames of this server); there is no such attribute;
the object is not a WSGI application. All of them are raised as ApplicationLoadError.

The application itself is never called here. A factory is called if the specification says so
(``module:factory()`` or ``--factory``), or if it is all that the named module has.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeVar, cast

from aiowsgi.exceptions import ApplicationLoadError
from aiowsgi.suggest import did_you_mean

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["load_application", "own_traceback"]

T = TypeVar("T")


def load_application(spec: str, *, factory: bool, app_dir: str | None) -> WSGIApplication:
    """Import the application that ``spec`` names.

    ``spec`` is one of

    - ``module:attribute``, ``module:attribute.attribute``, ``module.attribute``;
    - ``module:factory()``, ``module:factory("literal", key=1)``;
    - ``module`` or ``package``: its attribute ``application`` or ``app``, the same in its submodule
      ``wsgi``, or what its ``create_app()`` or ``make_app()`` returns;
    - ``folder/module.py`` instead of a module.

    With ``factory``, the attribute is called even if the specification has no ``()``. Modules are
    looked for in ``app_dir`` first; the default is the current directory. That directory stays on
    ``sys.path`` for the application's own imports.

    Raises ApplicationLoadError. If the application's own code failed, its exception is the cause,
    with a traceback that begins in that code.
    """
    directory = os.path.abspath(app_dir or os.curdir)
    _look_first_in(directory)
    target = _parse(spec, directory)
    value = _find(target)
    arguments = target.arguments or (_NO_ARGUMENTS if factory else None)
    if isinstance(value, _Factory):
        value, arguments = value.function, arguments or _NO_ARGUMENTS
    if arguments is not None:
        positional, named = arguments
        function = value
        _check_callable(function, str(target))
        value = _own_code(lambda: function(*positional, **named), f"the factory {target} failed")
        _check(value, f"what {target} returned", spec)
    else:
        _check(value, str(target), spec)
    return cast("WSGIApplication", value)


def own_traceback(error: ApplicationLoadError) -> str:
    """The traceback of the application's own failure as text; empty if that is not the cause."""
    if error.__cause__ is None:
        return ""
    # Imported here: a successful start formats no traceback.
    import traceback

    return "".join(traceback.format_exception(error.__cause__))


# The specification


class _Target(NamedTuple):
    module: str
    attributes: str
    """Dotted; empty if the usual names are tried."""
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    """Of the call of a factory; None if there is no call."""
    file: str = ""
    """Source file of a module that has no importable name, such as ``app.wsgi``."""

    def __str__(self) -> str:
        return f"{self.module}:{self.attributes}" if self.attributes else self.module


class _Factory(NamedTuple):
    """A function that was found under the usual name of an application factory."""

    function: Callable[..., object]


_NO_ARGUMENTS: Final[tuple[tuple[Any, ...], dict[str, Any]]] = ((), {})

_DOTTED: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def _parse(spec: str, directory: str) -> _Target:
    module, colon, rest = spec.partition(":")
    attributes, arguments = _parse_attribute(spec, rest) if colon else ("", None)
    is_file = os.path.isfile(os.path.join(directory, module))
    if is_file or "/" in module or module.endswith(".py"):
        return _from_path(module, directory)._replace(attributes=attributes, arguments=arguments)
    if _DOTTED.fullmatch(module) is None:
        _malformed(spec)
    return _Target(module, attributes, arguments)


def _parse_attribute(spec: str, text: str) -> tuple[str, Any]:
    """The dotted name behind the colon, and the arguments of a call with literals, or None."""
    name, parenthesis, _ = text.partition("(")
    if _DOTTED.fullmatch(name) is None:
        _malformed(spec)
    if not parenthesis:
        return name, None
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or isinstance(call.func, ast.Call):
            _malformed(spec)
        positional = tuple(ast.literal_eval(argument) for argument in call.args)
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except SyntaxError:
        _malformed(spec)
    except ValueError:
        raise ApplicationLoadError(
            f"{spec}: arguments of a factory must be literals, such as 'text', 1 or True"
        ) from None
    return name, (positional, named)


def _malformed(spec: str) -> NoReturn:
    raise ApplicationLoadError(f"{spec}: not of the form module:attribute or module:factory()")


def _from_path(path: str, directory: str) -> _Target:
    """The module in a file or a folder; its folder is put on ``sys.path`` if it is no package."""
    full = os.path.normpath(os.path.join(directory, path))
    if not os.path.exists(full):
        full += ".py"
    if not os.path.exists(full):
        raise ApplicationLoadError(f"{path}: no such file or folder in {directory}")
    parent, name = os.path.split(full)
    stem, extension = os.path.splitext(name)
    names = [stem]
    while os.path.exists(os.path.join(parent, "__init__.py")):
        parent, package = os.path.split(parent)
        names.insert(0, package)
    module = ".".join(names)
    if _DOTTED.fullmatch(module) is None:
        raise ApplicationLoadError(f"{path}: {module} is not a name that Python can import")
    if parent not in sys.path:
        sys.path.insert(1, parent)
    return _Target(module, "", file=full if extension == ".wsgi" else "")


def _look_first_in(directory: str) -> None:
    if not os.path.isdir(directory):
        raise ApplicationLoadError(f"{directory}: no such directory; it should have the modules")
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)


# Importing


def _import(name: str) -> ModuleType:
    try:
        return _own_code(lambda: importlib.import_module(name), _import_failed(name))
    except ApplicationLoadError as error:
        cause = error.__cause__
        # Whether this module or a package around it is missing, and not one that it imports.
        if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
            raise _MissingModule(_missing_module(name, cause)) from None
        raise


class _MissingModule(ApplicationLoadError):
    """The named module does not exist."""


def _import_failed(name: str) -> str:
    return f"importing {name} failed in {_this_python()}"


def _this_python() -> str:
    """The interpreter: a module is often missing because it is installed in another one."""
    return f"Python {sys.version.split()[0]} ({sys.executable})"


def _missing_module(name: str, error: ModuleNotFoundError) -> str:
    neighbours = (module.name for module in pkgutil.iter_modules(sys.path[:1]))
    hint = did_you_mean(name, neighbours) if error.name == name else ""
    return f"{error}, in {sys.path[0]} or elsewhere on sys.path of {_this_python()}{hint}"


def _load_file(target: _Target) -> ModuleType:
    """Load a file whose name does not end in ``.py``, as mod_wsgi does."""
    loader = SourceFileLoader(target.module, target.file)
    spec = importlib.util.spec_from_file_location(target.module, target.file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[target.module] = module
    _own_code(lambda: loader.exec_module(module), _import_failed(target.file))
    return module


# Finding the attribute


def _find(target: _Target) -> Any:
    if target.file:
        module = _load_file(target)
    else:
        try:
            module = _import(target.module)
        except _MissingModule:
            shorter = _with_attribute(target)
            if shorter is None:
                raise
            return _attribute(*shorter)
    return _attribute(module, target) if target.attributes else _usual(module, target)


def _with_attribute(target: _Target) -> tuple[ModuleType, _Target] | None:
    """Read ``package.module.attribute``, whose last part is not a module."""
    module, _, attribute = target.module.rpartition(".")
    if not module or target.attributes or target.arguments:
        return None
    try:
        found = _import(module)
    except _MissingModule:
        return None
    # A package without that attribute is more likely to miss a module of that name.
    if not hasattr(found, attribute) and hasattr(found, "__path__"):
        return None
    return found, _Target(module, attribute)


def _attribute(module: ModuleType, target: _Target) -> Any:
    value: Any = module
    for name in target.attributes.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            hint = did_you_mean(name, _public(value))
            raise ApplicationLoadError(f"{target}: there is no attribute {name}{hint}") from None
    return value


_USUAL: Final = ("application", "app")
"""In this order: what Django and mod_wsgi users write, then what Flask users do."""

_USUAL_FACTORIES: Final = ("create_app", "make_app")


def _usual(module: ModuleType, target: _Target) -> Any:
    """The application of a module that is named without an attribute."""
    for name in _USUAL:
        value = getattr(module, name, None)
        # ``app`` may be a submodule of the package.
        if hasattr(module, name) and not isinstance(value, ModuleType):
            return value
    if hasattr(module, "__path__") and importlib.util.find_spec(f"{target.module}.wsgi"):
        return _find(target._replace(module=f"{target.module}.wsgi"))
    hint = next(filter(None, (did_you_mean(name, _public(module)) for name in _USUAL)), "")
    for name in _USUAL_FACTORIES:
        function = getattr(module, name, None)
        if callable(function):
            if _accepts(function):
                return _Factory(function)
            hint = f"; {name} needs arguments: write {target.module}:{name}(...) with literals"
    raise ApplicationLoadError(f"{target}: has no attribute application or app{hint}")


def _public(holder: object) -> Iterable[str]:
    return (name for name in dir(holder) if not name.startswith("_"))


# Is it a WSGI application?


def _check_callable(value: object, what: str) -> None:
    if not callable(value):
        raise ApplicationLoadError(f"{what} is not callable: {type(value).__name__}")


def _check(value: object, what: str, spec: str) -> None:
    _check_callable(value, what)
    assert callable(value)
    if _is_asgi(value):
        framework = type(value).__module__.partition(".")[0]
        kind = "" if framework in {"builtins", "__main__", "app"} else f" ({framework})"
        raise ApplicationLoadError(
            f"{what} is an ASGI application{kind}, not WSGI; uvicorn serves it: uvicorn {spec}"
        )
    if not _accepts(value, None, None):
        parameters = inspect.signature(value, follow_wrapped=False)
        factory = "" if spec.endswith(")") else f". A factory? Write {what}()"
        raise ApplicationLoadError(
            f"{what} cannot be called with environ and start_response; its parameters are"
            f" {parameters}{factory}"
        )


def _is_asgi(value: Callable[..., object]) -> bool:
    call = type(value).__call__
    if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call):
        return True
    # Two callables, one returning the other: ASGI 2. Three parameters: ASGI 3, whatever it returns.
    return not _accepts(value, None, None) and _accepts(value, None, None, None)


def _accepts(function: Callable[..., object], *arguments: object) -> bool:
    """Whether ``function`` can be called with so many arguments, as far as its signature tells."""
    try:
        # Decorators such as werkzeug's change the parameters, but keep a link to the function.
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True  # a builtin that tells no signature
    return True


# Running the application's code


def _own_code(call: Callable[[], T], failure: str) -> T:
    """Run ``call``; whatever it raises, an exit included, is the cause of ApplicationLoadError."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise ApplicationLoadError(failure) from _without_our_frames(error)


def _without_our_frames(error: BaseException) -> BaseException:
    """``error`` with a traceback that begins below this module and the import machinery.

    An operator looks for the mistake in the frames that are shown first.
    """
    ours = (__file__, importlib.__file__, "<frozen importlib")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return error.with_traceback(trace)
