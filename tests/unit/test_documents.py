"""What the documents list is what there is: settings, dependencies, decisions, commands, files."""

import importlib.metadata
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic_core import PydanticUndefined

from gateway.rest.app import api
from schemas.topics import topics
from sentio import config
from sentio.cli.main import app

ROOT = Path(__file__).parents[2]
READMES = [path for folder in ("clients", "examples") for path in (ROOT / folder).glob("*/README.md")]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *READMES])
KINDS = (
    config.Settings,
    config.DatabaseSettings,
    config.RedriveSettings,
    config.ConsumerSettings,
    config.ReplaySettings,
    config.ArchiveSettings,
    config.PublisherSettings,
    config.SidecarSettings,
    config.WebhookSettings,
    config.StreamSettings,
    config.RestSettings,
    config.WatchSettings,
)


def rows(text: str) -> dict[str, list[str]]:
    """Cells of each row of a table whose first cell is in backquotes."""
    found = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in found}


def default(kind: type[config.Settings], name: str) -> str:
    value = kind.model_fields[name].default
    if value is None or value is PydanticUndefined:
        return ""
    return f"`{value.get_secret_value() if hasattr(value, 'get_secret_value') else value}`"


def direct_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [re.split(r"[\[=]", line)[0] for group in groups for line in group]


def licence(package: str) -> str:
    about = importlib.metadata.metadata(package)
    said = [text for key in ("License-Expression", "License") for text in about.get_all(key) or []]
    return " ".join(said + [text for text in about.get_all("Classifier") or [] if text.startswith("License ::")])


def native_dependencies() -> list[str]:
    """What builds the native codec, and the crates it is made of."""
    files = [tomllib.loads((ROOT / "native" / name).read_text()) for name in ("Cargo.toml", "fuzz/Cargo.toml")]
    crates = {crate for file in files for crate in file["dependencies"]} - {"sentio-native"}
    return [*crates, "maturin"]


def javascript_dependencies() -> dict[str, str]:
    """What the JavaScript client is built and tested with, and what the owner's page has copied, with licences."""
    found: dict[str, str] = {}
    for folder in ("clients/js", "gateway/dashboard"):
        packages = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
        assert "dependencies" not in packages[""], "the client has no dependencies"
        found |= {name: packages[f"node_modules/{name}"]["license"] for name in packages[""]["devDependencies"]}
    return found


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    below = getattr(group, "commands", None)
    if below is None:
        yield words
        return
    for name, command in below.items():
        yield from commands(command, (*words, name))


def options(words: tuple[str, ...]) -> set[str]:
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    listed = rows((ROOT / "README.md").read_text().partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0])
    known = {f"{config.PREFIX}{name.upper()}": (kind, name) for kind in KINDS for name in kind.model_fields}

    assert listed.keys() == known.keys()
    for setting, (kind, name) in known.items():
        assert listed[setting][:2] == [default(kind, name), kind.model_fields[name].description], setting


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    known = {f"{config.PREFIX}{name.upper()}" for kind in KINDS for name in kind.model_fields}
    # Those of the tests and of the local stack are read where they are used.
    files = [
        path for folder in ("sentio", "deploy", "tests/chaos") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    files += [
        ROOT / "tests/javascript.py",
        ROOT / "tests/unit/test_alerts.py",
        ROOT / "clients/c/sentio.h",
    ]  # the header's names are no settings
    code = "".join(path.read_text() for path in files if path.suffix in {".py", ".h", ""})

    for document in DOCUMENTS:
        for setting in set(re.findall(r"\bSENTIO_[A-Z_]*[A-Z]\b", document.read_text())):
            image = re.fullmatch(r"SENTIO_TEST_(KAFKA|TIMESCALEDB)_IMAGE", setting)
            assert setting in known or image or setting in code, f"{document.name}: {setting}"


def test_every_direct_dependency_has_a_line_with_purpose_licence_and_reason() -> None:
    listed = rows((ROOT / "docs/dependencies.md").read_text())

    javascript = javascript_dependencies()
    assert sorted(listed) == sorted([*direct_dependencies(), *native_dependencies(), *javascript])
    assert {name: listed[name][1] for name in javascript} == javascript
    assert all(len(cells) == 3 and all(cells) for cells in listed.values())


@pytest.mark.parametrize("package", direct_dependencies())
def test_licence_is_that_of_the_installed_package(package: str) -> None:
    said = rows((ROOT / "docs/dependencies.md").read_text())[package][1]
    names = {"Apache-2.0": r"Apache", "BSD-2-Clause": r"BSD", "BSD-3-Clause": r"BSD", "LGPL-3.0-only": r"LGPL-3"}

    for each in re.split(" AND | OR ", said):
        assert re.search(names.get(each, each), licence(package)), f"{package}: {licence(package)}"


def test_decisions_have_context_decision_and_consequence_and_one_number_each() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]

    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]} ")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequence"], page.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    paths = re.findall(
        r"`((?:consumers|producers|schemas|gateway|sentio|docs|deploy|tests)/(?!test-|base`)[\w./-]*\w)`", text
    )

    for target in links:
        assert (document.parent / target).exists(), target
    for target in paths:
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_documents_exist_and_have_the_options_given(document: Path) -> None:
    known = {*commands(typer.main.get_command(app)), ("sidecar",)}  # which is `sidecar rings` where no way in is named
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.partition("#")[0] for language, block in blocks if not language for line in block.splitlines()]

    for said in (found for line in lines for found in re.findall(r"\bsentio ([a-z][^&)\"|]*)", line)):
        words = said.split()
        name = next((tuple(words[:length]) for length in (2, 1) if tuple(words[:length]) in known), None)
        assert name, f"sentio {said}"
        given = {word for word in words if re.match(r"--?[a-z]", word)}
        assert given <= options(name) | {"--help"}, f"sentio {said}"


def test_readme_lists_every_path_of_the_api_and_every_channel() -> None:
    text = (ROOT / "README.md").read_text()
    said = {path.replace("{day,week,month}", "{kind}") for path in rows(text)}

    assert {str(getattr(route, "path")).replace(":path", "") for route in api.routes} <= said  # noqa: B009 - not on every kind of route
    for topic in topics().values():
        assert topic.channel is None or f"`{topic.channel}`" in text, topic.channel


def test_demo_options_of_the_readme_are_those_of_the_command() -> None:
    section = (ROOT / "README.md").read_text().partition("### What the demo shows")[2].partition("\n## ")[0]
    said = {name.split()[0] for name in rows(section)}

    assert said == options(("demo",))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_no_place_of_one_machine(document: Path) -> None:
    assert not re.search(r"/(?:home|root|Users|tmp|work)/\w", document.read_text())
