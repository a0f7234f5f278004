"""The project's files agree with each other: workflows, hooks, Markdown pages."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "bench/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CHECKS = set(re.findall(r"^check_(\w+)\(\)", (ROOT / ".ci/run").read_text(), re.MULTILINE))


def relative(path):
    """The path as it is written in the project."""
    return str(path.relative_to(ROOT))


def jobs(path):
    """The jobs of a workflow."""
    return yaml.safe_load(path.read_text())["jobs"].values()


@pytest.mark.parametrize("path", WORKFLOWS, ids=relative)
def test_actions_are_pinned(path):
    """Each action is named by a commit, with its version as a comment."""
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    pinned = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
    assert [line for line in lines if not pinned.search(line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=relative)
def test_jobs_have_the_permissions_that_they_name(path):
    """A workflow has no permissions of its own, and each job names those that it needs."""
    assert yaml.safe_load(path.read_text())["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in jobs(path))


def test_every_supported_python_is_tested():
    """CI runs the versions that the classifiers name."""
    (ci,) = (path for path in WORKFLOWS if path.name == "ci.yml")
    (versions,) = (job["strategy"]["matrix"]["python"] for job in jobs(ci) if "strategy" in job)
    prefix = "Programming Language :: Python :: 3."
    named = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith(prefix)}
    assert {version for version in versions if not version.endswith("t")} == named


def test_checks_exist():
    """Each check that a workflow or a page names is one of ``.ci/run``."""
    text = "\n".join(path.read_text() for path in [*WORKFLOWS, *PAGES])
    named = re.findall(r"\.ci/run((?: [a-z]+)+)(?=`|$)", text, re.MULTILINE)
    assert named
    assert {name for names in named for name in names.split()} <= CHECKS


def test_hooks_have_the_versions_of_the_checks():
    """The hooks of pre-commit install what the extra ``lint`` installs."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    installed = {need for hook in hooks for need in hook["additional_dependencies"]}
    needs = {*PROJECT["optional-dependencies"]["lint"], *PROJECT["dependencies"]}
    assert {need for need in needs if not need.startswith("uvloop")} == installed


@pytest.mark.parametrize("path", PAGES, ids=relative)
def test_links(path):
    """Each file that a page links to exists, and so does each file or folder that it names."""
    text = path.read_text()
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []
    named = set(re.findall(r"`((?:aiowsgi|tests|bench|examples|docs|\.ci)/[\w./-]*)`", text))
    made = set((ROOT / ".gitignore").read_text().split())
    assert [name for name in named - made if not (ROOT / name).exists()] == []
