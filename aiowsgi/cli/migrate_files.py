"""Reads configuration files of gunicorn, uWSGI and Paste Deploy, without running anything.

Each reader returns a `Found`: the settings in their order, and sentences about what it could not
read. The meaning of a setting is not known here (``config/foreign.py``). gunicorn's file is a
program: it is parsed with ``ast``, and expressions are evaluated if they consist of constants,
environment variables with defaults, the number of processors, and paths.
"""

from __future__ import annotations

import ast
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiowsgi.config.foreign import find
from aiowsgi.exceptions import ConfigError

__all__ = ["Found", "Given", "read_gunicorn", "read_ini", "read_xml", "read_yaml"]


class Given(NamedTuple):
    """One setting, as the other server's file has it."""

    name: str
    value: str
    """Text; ``true`` or ``false`` for switches."""
    remark: str = ""
    """What the value was made of, if it is not a constant."""


@dataclass(slots=True)
class Found:
    """What a file or a command line says."""

    server: str
    """A key of ``foreign.SERVERS``."""
    given: list[Given] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    """What a person has to look at."""
    remarks: list[str] = field(default_factory=list)
    """What is worth knowing and needs nothing to be done."""


# gunicorn.conf.py


class _CannotEvaluate(Exception):
    """The expression needs the program to run; the text says what it depends on."""


_CPUS: Final = "auto"
"""Stands for the number of processors, whatever is computed from it."""


def read_gunicorn(text: str, path: str) -> Found:
    """Read gunicorn's configuration file. Raises ConfigError if it is not Python."""
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(f"{path}: line {error.lineno}: {error.msg}") from None
    found = Found("gunicorn")
    names: dict[str, Any] = {"__file__": os.path.abspath(path)}
    for statement in module.body:
        _read_statement(statement, names, found)
    return found


def _read_statement(statement: ast.stmt, names: dict[str, Any], found: Found) -> None:
    match statement:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _assign(target, value, names, found)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            _assign(target, value, names, found)
        case ast.FunctionDef(name=name) if find(name, "gunicorn") is not None:
            _read_hook(statement, found)
        case ast.If() | ast.For() | ast.While() | ast.Try() | ast.With() | ast.AugAssign():
            assigned = sorted(set(_assigned(statement)))
            if assigned:
                found.needs.append(
                    f"line {statement.lineno}: {', '.join(assigned)}: set in a statement that only"
                    " a run can decide"
                )


def _assigned(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _assign(target: ast.expr, value: ast.expr, names: dict[str, Any], found: Found) -> None:
    if not isinstance(target, ast.Name):
        return
    variables: list[str] = []
    try:
        evaluated = _evaluate(value, names, variables)
    except _CannotEvaluate as error:
        found.needs.append(f"line {target.lineno}: {target.id}: depends on {error}")
        return
    names[target.id] = evaluated
    remark = f"{', '.join(variables)} could change it there" if variables else ""
    if not isinstance(value, ast.Constant) and evaluated == _CPUS:
        remark = f"was {ast.unparse(value)}"
    found.given.extend(Given(target.id, text, remark) for text in _texts(target.id, evaluated))


def _texts(name: str, value: Any) -> Iterator[str]:
    """A value of Python as the command line has it; nothing for None."""
    if value is None or callable(value):
        return
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif name == "raw_env" and isinstance(value, (list, tuple)):
        yield from map(str, value)
    elif isinstance(value, (list, tuple, set)):
        yield ",".join(map(str, value))
    else:
        yield str(value)


def _evaluate(node: ast.expr, names: Mapping[str, Any], variables: list[str]) -> Any:
    """The value of an expression; appends the environment variables whose default was taken."""

    def inner(node: ast.expr) -> Any:
        return _evaluate(node, names, variables)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [inner(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {
                inner(key): inner(value) for key, value in zip(keys, values, strict=True) if key
            }
        case ast.JoinedStr(values=parts):
            plain = (part.value if isinstance(part, ast.FormattedValue) else part for part in parts)
            return "".join(str(inner(part)) for part in plain)
        case ast.BinOp():
            return _arithmetic(node, inner)
        case ast.BoolOp(op=ast.Or(), values=[first, *_, last]):
            return _alternative(first, last, inner, variables)
        case ast.Call():
            return _call(node, inner, variables)
    raise _CannotEvaluate(ast.unparse(node))


_OPERATORS: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def _arithmetic(node: ast.BinOp, inner: Callable[[ast.expr], Any]) -> Any:
    left, right = inner(node.left), inner(node.right)
    if _CPUS in (left, right) and not isinstance(node.op, ast.Mod):
        return _CPUS
    try:
        return _OPERATORS[type(node.op)](left, right)
    except (KeyError, TypeError, ArithmeticError, ValueError):
        raise _CannotEvaluate(ast.unparse(node)) from None


def _alternative(
    first: ast.expr, last: ast.expr, inner: Callable[[ast.expr], Any], variables: list[str]
) -> Any:
    """``os.environ.get("X") or default``."""
    if (
        isinstance(first, ast.Call)
        and _is_environ(first)
        and isinstance(first.args[0], ast.Constant)
    ):
        variables.append(str(first.args[0].value))
        return inner(last)
    return inner(first) or inner(last)


def _is_environ(node: ast.Call) -> bool:
    called = ast.unparse(node.func)
    return called.endswith(("environ.get", "getenv")) and bool(node.args)


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "int": int,
    "float": float,
    "str": str,
    "os.path.join": os.path.join,
    "os.path.dirname": os.path.dirname,
    "os.path.abspath": os.path.abspath,
    "os.path.realpath": os.path.abspath,
    "path.join": os.path.join,
    "path.dirname": os.path.dirname,
    "path.abspath": os.path.abspath,
}


def _call(node: ast.Call, inner: Callable[[ast.expr], Any], variables: list[str]) -> Any:
    called = ast.unparse(node.func)
    if called.endswith("cpu_count") or "sched_getaffinity" in ast.unparse(node):
        return _CPUS
    if _is_environ(node):
        variable = inner(node.args[0])
        default = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
        if not default:
            raise _CannotEvaluate(f"the variable {variable}")
        variables.append(str(variable))
        return inner(default[0])
    arguments = [inner(argument) for argument in node.args]
    if _CPUS in arguments:
        return _CPUS
    try:
        return _FUNCTIONS[called](*arguments)
    except (KeyError, TypeError, ValueError):
        raise _CannotEvaluate(ast.unparse(node)) from None


def _read_hook(function: ast.FunctionDef, found: Found) -> None:
    if all(map(_only_logs, function.body)):
        found.remarks.append(f"{function.name}: only logs, left out")
    else:
        found.needs.append(
            f"line {function.lineno}: {function.name}: there are no hooks; what it does goes into"
            " the application's module"
        )


def _only_logs(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Return(value=None):
            return True
        case ast.Expr(value=ast.Call(func=function)):
            return bool(re.search(r"\blog(ger|ging)?\b|^print$", ast.unparse(function)))
    return False


# uWSGI and Paste Deploy


def read_ini(text: str, path: str) -> Found:
    """Read an INI file with a section ``[uwsgi]`` or ``[server:main]``. Raises ConfigError."""
    sections = _sections(text)
    if "uwsgi" in sections:
        return _uwsgi(sections["uwsgi"])
    if "server:main" in sections:
        return _paste(sections, path)
    raise ConfigError(f"{path}: has no section [uwsgi] and no section [server:main]")


def _sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """The assignments of each section, in their order; a key may repeat."""
    sections: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            current = sections.setdefault(stripped[1:-1].strip(), [])
        elif line[0].isspace() and current and "=" not in stripped:
            key, value = current[-1]
            current[-1] = key, f"{value} {stripped}".strip()
        else:
            key, _, value = stripped.partition("=")
            current.append((key.strip(), value.strip()))
    return sections


def read_xml(text: str, path: str) -> Found:
    """Read uWSGI's XML. Raises ConfigError."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - the operator's own file
    except ElementTree.ParseError as error:
        raise ConfigError(f"{path}: {error}") from None
    holder = root if root.tag == "uwsgi" else root.find(".//uwsgi")
    if holder is None:
        raise ConfigError(f"{path}: has no element uwsgi")
    return _uwsgi([(element.tag, (element.text or "true").strip()) for element in holder])


_YAML_LINE: Final = re.compile(r"\s+(?:- )?([\w-]+)\s*:\s*(.*?)\s*(?:\s#.*)?")


def read_yaml(text: str, path: str) -> Found:
    """Read uWSGI's YAML, of which it knows ``key: value`` only. Raises ConfigError."""
    lines = text.splitlines()
    if "uwsgi:" not in (line.rstrip() for line in lines):
        raise ConfigError(f"{path}: has no key uwsgi")
    items: list[tuple[str, str]] = []
    inside = False
    for line in lines:
        if line.rstrip() == "uwsgi:":
            inside = True
        elif line[:1].strip() and not line.startswith("#"):
            inside = False
        elif inside and (match := _YAML_LINE.fullmatch(line)):
            items.append((match[1], match[2].strip("\"'")))
    return _uwsgi(items)


def _uwsgi(items: list[tuple[str, str]]) -> Found:
    found = Found("uwsgi")
    known: dict[str, str] = {}
    used = {name for _, value in items for name in re.findall(r"%\(([\w-]+)\)", value)}
    for key, value in items:
        # %(key) is the value of an earlier key; $(NAME) is an environment variable.
        text = re.sub(r"%\(([\w-]+)\)", lambda match: known.get(match[1], match[0]), value)
        known[key] = text
        if key in used and find(key, "uwsgi") is None:
            continue  # a name that the file makes for its own use
        if key.startswith(("if-", "ifdef", "for", "end")):
            found.needs.append(f"{key} = {value}: a condition that only a run can decide")
        elif "$(" in text or "%(" in text:
            found.needs.append(f"{key} = {value}: depends on a variable")
        else:
            found.given.append(Given(key, text or "true"))
    return found


_EGGS: Final = {
    "gunicorn": "gunicorn",
    "waitress": "waitress",
    "cherrypy": "cheroot",
    "cheroot": "cheroot",
    "aiowsgi": "waitress",
}


def _paste(sections: Mapping[str, list[tuple[str, str]]], path: str) -> Found:
    """Read ``[server:main]``; the application is loaded by Paste Deploy as before."""
    defaults = {"here": os.path.dirname(os.path.abspath(path)), **dict(sections.get("DEFAULT", []))}
    server = dict(sections["server:main"])
    use = server.pop("use", "")
    egg = re.sub(r"^egg:|#.*$", "", use).strip().lower()
    found = Found(_EGGS.get(egg, "waitress"))
    if egg not in _EGGS:
        found.needs.append(
            f"use = {use}: this server is not known; its options were taken for ours"
        )
    for key, value in server.items():
        text = re.sub(r"%\((\w+)\)s", lambda match: defaults.get(match[1], match[0]), value)
        if "%(" in text:
            found.needs.append(f"{key} = {value}: depends on a variable")
        elif key != "set debug":
            found.given.append(Given(key, text))
    name = os.path.basename(path)
    found.given.append(Given("app", f'paste.deploy:loadapp("config:{name}", relative_to=".")'))
    found.remarks.append(
        "pserve serves this file too: write use = egg:aiowsgi into [server:main], with the options"
        " below as they are named here"
    )
    return found
