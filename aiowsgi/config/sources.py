"""Reads the options' values from their sources and merges them.

The order of precedence::

    command line > environment > --env-file > -c/--config file > ./pyproject.toml > default

Within an environment, ``AIOWSGI_KEEP_ALIVE`` has precedence over a conventional variable such as
``PORT``. An empty variable counts as not set, because compose files and Helm charts often set
variables to nothing. A name that is not an option is an error in every source.

Only this module of the configuration reads files. It does not change the process, except in
`prepare_process`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from aiowsgi.config.env_file import parse_env_file
from aiowsgi.config.options import LISTEN_GROUPS, OPTIONS, Config, join_bind
from aiowsgi.exceptions import ConfigError
from aiowsgi.suggest import did_you_mean

__all__ = [
    "Setting",
    "Settings",
    "Sources",
    "flag_name",
    "key_name",
    "prepare_process",
    "variable_name",
]


class Setting(NamedTuple):
    """A normalised value, and the source that it came from."""

    value: Any
    origin: str


Layer: TypeAlias = Mapping[str, Setting]
"""The settings of one source, by the names of the fields."""


class Settings(NamedTuple):
    """The merged settings."""

    config: Config
    origins: Mapping[str, str]
    """The source of each option that is not at its default."""


class Sources(NamedTuple):
    """The sources of the settings, kept so that a reload can read them again."""

    flags: Mapping[str, Any]
    """Values of the command line, by the names of the fields: text, or lists of text."""
    environ: Mapping[str, str]
    """Environment variables at the start of the process, before `prepare_process`."""
    directory: str
    """Absolute path of the directory to which relative file names refer; the working directory
    before ``chdir``."""
    config_file: str | None = None
    """Value of ``-c/--config``; None: that of the variable AIOWSGI_CONFIG."""

    def load(self) -> Settings:
        """Read the sources and merge them.

        Raises ConfigError that names the flag, the variable or the file of the wrong value.
        """
        above = [_flag_layer(self.flags), *_environment_layers(self.environ)]
        below = list(self._file_layers())
        env_file = _first("env_file", [*above, *below])
        if env_file is not None:
            above += _environment_layers(self._read_env_file(env_file.value), env_file.value)
        return _merge([*above, *below])

    def _file_layers(self) -> Iterator[Layer]:
        name = self.config_file or self.environ.get(_CONFIG_VARIABLE)
        if name:
            yield _toml_layer(_read_toml(os.path.join(self.directory, name), name), name)
        project = os.path.join(self.directory, _PYPROJECT)
        if os.path.exists(project):
            tools = _read_toml(project, _PYPROJECT).get("tool")
            ours = tools.get("aiowsgi", {}) if isinstance(tools, dict) else {}
            yield _toml_layer(ours, _PYPROJECT)

    def _read_env_file(self, name: str) -> dict[str, str]:
        variables = parse_env_file(_read_text(os.path.join(self.directory, name), name), name)
        for late in (_CONFIG_VARIABLE, variable_name("env_file")):
            if late in variables:
                raise ConfigError(
                    f"{late} in {name}: cannot be set in an env_file, which is read after it"
                )
        return variables


def prepare_process(config: Config) -> None:
    """Set the variables of ``env_file`` that are not set, then change to ``chdir``.

    Call it once, before the application is imported. Raises ConfigError if the file cannot be read
    or the directory cannot be entered.
    """
    if config.env_file is not None:
        text = _read_text(config.env_file, config.env_file)
        for name, value in parse_env_file(text, config.env_file).items():
            os.environ.setdefault(name, value)
    if config.chdir is not None:
        try:
            os.chdir(config.chdir)
        except OSError as error:
            raise ConfigError(f"chdir: {config.chdir}: {error.strerror}") from None


# The names that an option has

_PREFIX: Final = "AIOWSGI_"
_PYPROJECT: Final = "pyproject.toml"

_CONFIG_VARIABLE: Final = f"{_PREFIX}CONFIG"
"""Names a configuration file, as ``-c`` does; it is not an option."""


def flag_name(name: str) -> str:
    """Return the option's flag."""
    return f"--{key_name(name)}"


def key_name(name: str) -> str:
    """Return the option's TOML key; a key with underscores is accepted too."""
    return name.replace("_", "-")


def variable_name(name: str) -> str:
    """Return the option's environment variable."""
    return f"{_PREFIX}{name.upper()}"


# Reading a source


def _flag_layer(flags: Mapping[str, Any]) -> Layer:
    return {
        name: Setting(OPTIONS[name].convert(value, flag_name(name)), flag_name(name))
        for name, value in flags.items()
    }


def _environment_layers(environ: Mapping[str, str], file: str | None = None) -> tuple[Layer, Layer]:
    """Return the layer of the prefixed variables and, below it, the layer of the conventional
    ones."""
    where = f" in {file}" if file else ""
    ours = {variable_name(name): (name, None) for name in OPTIONS}
    given = {name: value for name, value in environ.items() if value}
    for name in list(given):
        if not name.startswith(_PREFIX) or name == _CONFIG_VARIABLE:
            continue
        if _is_service_link(name, given[name]):
            del given[name]
        elif name not in ours:
            raise ConfigError(f"{name}{where}: no such option{did_you_mean(name, ours)}")
    return _variable_layer(given, ours, where), _variable_layer(given, _CONVENTIONAL, where)


_CONVENTIONAL: Final = {
    variable: (name, text)
    for name, option in OPTIONS.items()
    for variable, text in option.variables.items()
}


def _variable_layer(
    environ: Mapping[str, str], names: Mapping[str, tuple[str, str | None]], where: str
) -> Layer:
    layer: dict[str, Setting] = {}
    for variable, (name, text) in names.items():
        if variable in environ:
            origin = variable + where
            layer[name] = Setting(OPTIONS[name].convert(text or environ[variable], origin), origin)
    return layer


_SERVICE_LINK: Final = re.compile(
    r"AIOWSGI_(\w+_)?((SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+)=.*|PORT=\w+://.*)"
)


def _is_service_link(name: str, value: str) -> bool:
    """Return whether Kubernetes set the variable, as it does for a service named ``aiowsgi``.

    Every container then has ``AIOWSGI_SERVICE_HOST``, ``AIOWSGI_PORT=tcp://10.0.0.7:80`` and
    others.
    """
    return _SERVICE_LINK.fullmatch(f"{name}={value}") is not None


def _toml_layer(table: Any, file: str) -> Layer:
    layer: dict[str, Setting] = {}
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: tool.aiowsgi is not a table; write [tool.aiowsgi]")
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            hint = did_you_mean(key, map(key_name, OPTIONS))
            raise ConfigError(f"{key} in {file}: no such option{hint}")
        if name in layer:
            raise ConfigError(f"{key} in {file}: given twice, with a hyphen and an underscore")
        layer[name] = Setting(OPTIONS[name].convert(value, f"{key} in {file}"), file)
    return layer


def _read_toml(path: str, name: str) -> dict[str, Any]:
    # Imported late to save start-up time: most starts read no TOML file.
    import tomllib

    try:
        return tomllib.loads(_read_text(path, name))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from None


def _read_text(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: not encoded in UTF-8") from None


# Merging


def _first(name: str, layers: Iterable[Layer]) -> Setting | None:
    return next((layer[name] for layer in layers if name in layer), None)


def _merge(layers: list[Layer]) -> Settings:
    found = {
        name: setting
        for name in OPTIONS
        if name not in LISTEN_GROUPS and (setting := _first(name, layers)) is not None
    }
    listen = _merge_listen(layers)
    if listen:
        origins = dict.fromkeys(setting.origin for setting in listen.values())
        values = {name: setting.value for name, setting in listen.items()}
        found["bind"] = Setting(join_bind(values), ", ".join(origins))
    config = Config(**{name: setting.value for name, setting in found.items()})
    return Settings(config, {name: setting.origin for name, setting in found.items()})


_ANY_HOST: Final = "0.0.0.0"  # noqa: S104 - what platforms that set PORT expect


def _merge_listen(layers: list[Layer]) -> Layer:
    """Return the listening options of the source with the highest precedence that has any.

    They replace those of the sources below. The exception is that ``host`` and ``port`` may come
    from different sources, until a source sets another group.
    """
    merged: dict[str, Setting] = {}
    for layer in layers:
        given = {name: layer[name] for name in LISTEN_GROUPS if name in layer}
        ways = {LISTEN_GROUPS[name] for name in (*given, *merged)}
        if merged and ways != {"pair"}:
            break
        if len(ways) > 1:
            origins = " and ".join(setting.origin for setting in given.values())
            raise ConfigError(f"{origins}: give one of them to say where to listen")
        merged = {**given, **merged}
    if "host" not in merged and merged.get("port", Setting(0, "")).origin.startswith("PORT"):
        merged["host"] = Setting(_ANY_HOST, merged["port"].origin)
    return merged
