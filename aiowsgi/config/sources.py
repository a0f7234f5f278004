"""Where option values come from: the sources, which of them wins, and a note of it.

In the order of precedence::

    command line > environment > --env-file > -c/--config file > ./pyproject.toml > default

Within an environment ``AIOWSGI_KEEP_ALIVE`` goes before a conventional variable such as ``PORT``,
and a variable that is set to nothing counts as not set, for that is what compose files and charts
leave behind. A name that no option has is an error in every source.

This is the one module of the configuration that reads files. What options there are and what they
accept must not be written here; nor does anything here change the process, except ``enter``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from aiowsgi.config.env_file import parse_env_file
from aiowsgi.config.options import LISTEN_WAYS, OPTIONS, Config, join_bind
from aiowsgi.exceptions import ConfigError
from aiowsgi.suggest import did_you_mean

__all__ = ["Setting", "Settings", "Sources", "enter", "flag_name", "key_name", "variable_name"]


class Setting(NamedTuple):
    """A value, normalised, and where it was found."""

    value: Any
    origin: str


Layer: TypeAlias = Mapping[str, Setting]
"""What one source says, by the options' names in Python."""


class Settings(NamedTuple):
    """What the sources amount to."""

    config: Config
    origins: Mapping[str, str]
    """Where each option was found that is not at its default."""


class Sources(NamedTuple):
    """All that decides the settings, kept so that they can be settled again after a change."""

    flags: Mapping[str, Any]
    """What the command line gave, by the options' names in Python; text, or lists of it."""
    environ: Mapping[str, str]
    """The environment as the process found it, before ``enter``."""
    directory: str
    """Absolute; relative names of files are meant from here, before ``chdir``."""
    config_file: str | None = None
    """``-c/--config``; where it is None, the variable AIOWSGI_CONFIG is asked."""

    def settle(self) -> Settings:
        """Read the sources and merge them.

        Raises ConfigError that names the flag, the variable or the file at fault.
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
                raise ConfigError(f"{late} in {name}: comes too late, files have been chosen")
        return variables


def enter(config: Config) -> None:
    """Prepare the process for the application: set the variables of ``env_file``, then ``chdir``.

    To be called once, before the application is imported. Variables that are set already win.
    Raises ConfigError where the file or the directory cannot be had.
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
"""Names a source, as ``-c`` does, and is no option."""


def flag_name(name: str) -> str:
    """On the command line."""
    return f"--{key_name(name)}"


def key_name(name: str) -> str:
    """In TOML, where underscores are understood too."""
    return name.replace("_", "-")


def variable_name(name: str) -> str:
    """In the environment."""
    return f"{_PREFIX}{name.upper()}"


# Reading a source


def _flag_layer(flags: Mapping[str, Any]) -> Layer:
    return {
        name: Setting(OPTIONS[name].read(value, flag_name(name)), flag_name(name))
        for name, value in flags.items()
    }


def _environment_layers(environ: Mapping[str, str], file: str | None = None) -> tuple[Layer, Layer]:
    """What the prefixed variables say, and what the conventional ones say below them."""
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
            layer[name] = Setting(OPTIONS[name].read(text or environ[variable], origin), origin)
    return layer


_SERVICE_LINK: Final = re.compile(
    r"AIOWSGI_(\w+_)?((SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+)=.*|PORT=\w+://.*)"
)


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made the variable, as it does for a service named ``aiowsgi``.

    It gives every container ``AIOWSGI_SERVICE_HOST``, ``AIOWSGI_PORT=tcp://10.0.0.7:80`` and more.
    """
    return _SERVICE_LINK.fullmatch(f"{name}={value}") is not None


def _toml_layer(table: Any, file: str) -> Layer:
    layer: dict[str, Setting] = {}
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: tool.aiowsgi is not a table")
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            hint = did_you_mean(key, map(key_name, OPTIONS))
            raise ConfigError(f"{key} in {file}: no such option{hint}")
        if name in layer:
            raise ConfigError(f"{key} in {file}: given twice, with a hyphen and an underscore")
        layer[name] = Setting(OPTIONS[name].read(value, f"{key} in {file}"), file)
    return layer


def _read_toml(path: str, name: str) -> dict[str, Any]:
    # Imported here: many a start has no file to read.
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
        raise ConfigError(f"{name}: is not UTF-8") from None


# Merging


def _first(name: str, layers: Iterable[Layer]) -> Setting | None:
    return next((layer[name] for layer in layers if name in layer), None)


def _merge(layers: list[Layer]) -> Settings:
    found = {
        name: setting
        for name in OPTIONS
        if name not in LISTEN_WAYS and (setting := _first(name, layers)) is not None
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
    """Where to listen, as the uppermost source has it that says anything.

    It replaces what the sources below say; only ``host`` and ``port`` complete each other from
    source to source, until one speaks of another way.
    """
    merged: dict[str, Setting] = {}
    for layer in layers:
        said = {name: layer[name] for name in LISTEN_WAYS if name in layer}
        ways = {LISTEN_WAYS[name] for name in (*said, *merged)}
        if merged and ways != {"pair"}:
            break
        if len(ways) > 1:
            origins = " and ".join(setting.origin for setting in said.values())
            raise ConfigError(f"{origins}: give one of them to say where to listen")
        merged = {**said, **merged}
    if "host" not in merged and merged.get("port", Setting(0, "")).origin.startswith("PORT"):
        merged["host"] = Setting(_ANY_HOST, merged["port"].origin)
    return merged
