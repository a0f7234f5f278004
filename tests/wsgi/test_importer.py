"""From ``module:attribute`` to the application, and the message for each way to fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiowsgi.exceptions import ApplicationLoadError
from aiowsgi.wsgi.importer import load_application, own_traceback

PYTHON = f"Python {sys.version.split()[0]} ({sys.executable})"

MODULES = {
    "good": """
        def application(environ, start_response): ...
        def app(environ, start_response): ...
        class holder:
            inner = staticmethod(app)
        def create_app():
            return holder.inner
        def make(name, *, debug=False):
            return app if (name, debug) == ("prod", True) else None
    """,
    "flasky": "def app(environ, start_response): ...",
    "bare": "appl = applicaton = 3",
    "empty": "",
    "wrong": """
        text = "no application"
        def make_none(): return None
        def make_error(): raise RuntimeError("no database")
        async def asgi(scope, receive, send): ...
        class Asgi:
            async def __call__(self, scope, receive, send): ...
        asgi_object = Asgi()
        def plain_asgi(scope, receive, send): ...
        def needs(config): ...
        class Settings:
            def __init__(self, name): ...
    """,
    "maker": """
        def made(environ, start_response): ...
        def make_app(config=None): return made
    """,
    "needy": "def create_app(config): ...",
    "decorated": """
        import functools
        def responder(function):
            @functools.wraps(function)
            def application(*arguments): ...
            return application
        @responder
        def app(request): ...
    """,
    "site_package/__init__": "",
    "site_package/wsgi": "def application(environ, start_response): ...",
    "shop/__init__": "from . import app",
    "shop/app": "",
    "shop/wsgi": "def app(environ, start_response): ...",
    "plain_folder/served": "import beside\ndef app(environ, start_response): ...",
    "plain_folder/beside": "",
    "odd-name": "",
    "raising": "def fail():\n    raise ValueError('at import')\nfail()",
    "leaving": "raise SystemExit('no licence')",
    "syntax": "def f(: pass",
    "needing": "import a_module_that_is_not_there",
    "needing_own": "import needing_own.part",
    "package/__init__": "",
    "package/wsgi": "def application(environ, start_response): ...",
    "failing/__init__": "import failing_part",
    "failing/wsgi": "",
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A directory of the modules above; the process forgets them afterwards."""
    import textwrap

    for name, text in MODULES.items():
        file = tmp_path / f"{name}.py"
        (tmp_path / "old.wsgi").write_text("def application(environ, start_response): ...")
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield str(tmp_path)
    for name in {name.partition("/")[0] for name in MODULES}:
        for loaded in [known for known in sys.modules if f"{known}.".startswith(f"{name}.")]:
            del sys.modules[loaded]


@pytest.mark.parametrize(
    ("spec", "factory", "found"),
    [
        ("good", False, "application"),
        ("good:app", False, "app"),
        ("good:holder.inner", False, "app"),
        ("good:create_app()", False, "app"),
        ("good:create_app", True, "app"),
        ("good:create_app()", True, "app"),
        ('good:make("prod", debug=True)', False, "app"),
        ("good.app", False, "app"),
        ("good.py", False, "application"),
        ("good.py:app", False, "app"),
        ("./good.py:create_app()", False, "app"),
        ("./good:app", False, "app"),
        ("package/wsgi.py", False, "application"),
        ("package/wsgi.py:application", False, "application"),
        ("package", False, "application"),
        ("package/", False, "application"),
        ("package.wsgi.application", False, "application"),
        ("site_package", False, "application"),
        ("shop", False, "app"),
        ("plain_folder/served.py", False, "app"),
        ("maker", False, "made"),
        ("decorated:app", False, "app"),
        ("old.wsgi", False, "application"),
        ("flasky", False, "app"),
        ("package.wsgi", False, "application"),
        ("package.wsgi:application", False, "application"),
    ],
)
def test_load(spec: str, factory: bool, found: str, directory: str) -> None:
    """Every form of the specification finds its application."""
    application = load_application(spec, factory=factory, app_dir=directory)
    assert application.__name__ == found  # type: ignore[attr-defined]
    assert sys.path[0] == directory


def test_current_directory(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without app_dir, modules are looked for in the current directory, put on the path once."""
    monkeypatch.chdir(directory)
    load_application("good", factory=False, app_dir=None)
    load_application("good", factory=False, app_dir=None)
    assert sys.path[0] == directory
    assert sys.path[1] != directory


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", ": not of the form module:attribute or module:factory()"),
        ("good:", "good:: not of the form module:attribute or module:factory()"),
        ("good:make(name)", "good:make(name): arguments of a factory must be literals"),
        ("good:make(", "good:make(: not of the form"),
        ("good:make()+1", "good:make()+1: not of the form"),
        ("good:app()()", "not of the form"),
        ("go-od:app", "go-od:app: not of the form"),
        ("src/good.py:app", "src/good.py: no such file or folder in "),
        ("goof.py", "goof.py: no such file or folder in "),
        ("odd-name.py", "odd-name.py: odd-name is not a name that Python can import"),
        ("god:app", f"on sys.path of {PYTHON}"),
        ("package.wsgi.applicatoin", "there is no attribute applicatoin; did you mean application"),
        ("god:app", "No module named 'god', in "),
        ("god:app", "; did you mean good?"),
        ("package.wsg:app", "No module named 'package.wsg', in "),
        ("nowhere.wsgi:app", "No module named 'nowhere', in "),
        ("good.part:app", "No module named 'good.part'; 'good' is not a package"),
        ("good:ap", "good:ap: there is no attribute ap; did you mean app?"),
        ("good:holder.iner", "good:holder.iner: there is no attribute iner; did you mean inner?"),
        ("good:zzz", "good:zzz: there is no attribute zzz"),
        ("bare", "bare: has no attribute application or app; did you mean applicaton?"),
        ("empty", "empty: has no attribute application or app"),
        ("wrong:text", "wrong:text is not callable: str"),
        ("wrong:make_none()", "what wrong:make_none returned is not callable: NoneType"),
        ("wrong:asgi", "wrong:asgi is an ASGI application, not WSGI; uvicorn serves it: uvicorn"),
        ("wrong:asgi_object", "wrong:asgi_object is an ASGI application (wrong), not WSGI"),
        ("wrong:plain_asgi", "wrong:plain_asgi is an ASGI application"),
        ("good:create_app", "its parameters are (). A factory? Write good:create_app()"),
        ("wrong:needs", "its parameters are (config). A factory? Write wrong:needs()"),
        ("wrong:Settings", "cannot be called with environ and start_response; its parameters are"),
        ("needy", "needy: has no attribute application or app; create_app needs arguments"),
    ],
)
def test_refuse(spec: str, message: str, directory: str) -> None:
    """A mistake of the operator has one message and no traceback."""
    with pytest.raises(ApplicationLoadError) as caught:
        load_application(spec, factory=False, app_dir=directory)
    assert message in str(caught.value)
    assert own_traceback(caught.value) == ""


@pytest.mark.parametrize(
    ("spec", "message", "first", "last"),
    [
        (
            "raising:app",
            f"importing raising failed in {PYTHON}",
            "raising.py",
            "ValueError: at import",
        ),
        (
            "leaving:app",
            f"importing leaving failed in {PYTHON}",
            "leaving.py",
            "SystemExit: no licence",
        ),
        (
            "syntax:app",
            f"importing syntax failed in {PYTHON}",
            "syntax.py",
            "SyntaxError: invalid syntax",
        ),
        (
            "needing:app",
            f"importing needing failed in {PYTHON}",
            "needing.py",
            "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
        ),
        (
            "needing_own:app",
            f"importing needing_own failed in {PYTHON}",
            "needing_own.py",
            "No module named 'needing_own.part'; 'needing_own' is not a package",
        ),
        (
            "failing.wsgi:app",
            f"importing failing.wsgi failed in {PYTHON}",
            "__init__.py",
            "ModuleNotFoundError: No module named 'failing_part'",
        ),
        (
            "wrong:make_error()",
            "the factory wrong:make_error failed",
            "wrong.py",
            "RuntimeError: no database",
        ),
    ],
)
def test_own_failure(spec: str, message: str, first: str, last: str, directory: str) -> None:
    """A failure of the application's code is shown from its first frame on, without ours."""
    with pytest.raises(ApplicationLoadError) as caught:
        load_application(spec, factory=False, app_dir=directory)
    lines = own_traceback(caught.value).splitlines()
    assert str(caught.value) == message
    files = [line for line in lines if line.lstrip().startswith("File ")]
    assert first in files[0]
    assert not any("importer.py" in line or "importlib" in line for line in files)
    assert last in lines[-1]


def test_no_directory(tmp_path: Path) -> None:
    """An app_dir that does not exist is named."""
    with pytest.raises(ApplicationLoadError, match="missing: no such directory"):
        load_application("good", factory=False, app_dir=str(tmp_path / "missing"))
