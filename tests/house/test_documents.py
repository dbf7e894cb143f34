"""What the documents name exists, and the figures that they state are those recorded."""

from __future__ import annotations

import argparse
import importlib
import itertools
import re
import shlex
from functools import cache
from pathlib import Path

import figures
import pytest

from sphereface.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
)
PACKAGE = ROOT / "python" / "sphereface"
FOLDERS = ("python", "csrc", "docs", "tests", "tools", "models", "benchmarks", "cmake")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_of(document: str) -> list[str]:
    """Return the code of a document: spans, lines of fenced and of indented blocks."""
    text = text_of(document)
    fences = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    (.*)$", outside, re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]
    joined = "\n".join([*fences, *indented]).replace("\\\n", " ")
    return [*spans, *joined.splitlines()]


def expanded(name: str) -> list[str]:
    """Return the names that braces stand for: ``a.{h,cpp}``."""
    parts = re.split(r"\{([^{}]*)\}", name)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    subparsers = argparse.ArgumentParser().add_subparsers()
    found = {}
    for name in COMMANDS:
        parser = importlib.import_module(f"sphereface.cli.{name}").add_parser(subparsers)
        found[parser.prog.split()[-1]] = parser
    return found


def commands_of(document: str) -> list[list[str]]:
    """Return the words of each command line that starts with ``sphereface``."""
    found = []
    for line in code_of(document):
        for part in re.split(r"&&|\||;", line):
            words = part.strip().removeprefix("$ ").split("#")[0]
            if re.match(r"sphereface [a-z]", words):
                found.append(shlex.split(words.replace("'", " ").replace('"', " "))[1:])
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document):
    links = re.findall(r"\]\(((?!https?:)[^)#\s]+)[^)]*\)", text_of(document))
    missing = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    for word in itertools.chain.from_iterable(line.split() for line in code_of(document)):
        name = word.strip(".,:;()[]\"'")
        first, slash, _ = name.partition("/")
        if not first or not slash or "=" in name:
            continue
        for path in expanded(name):
            # What users make themselves is written with capitals or dots: tests/NAME.
            if re.search(r"[A-Z<]|\.\.", path):
                continue
            # The design names the package's files from its root.
            inside = (PACKAGE / first).is_dir() and first not in FOLDERS
            if first in FOLDERS or inside:
                folder = PACKAGE if inside else ROOT
                missing += [] if any(folder.glob(path.rstrip("/"))) else [path]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(document):
    for words in commands_of(document):
        command = words[0]
        assert command in parsers(), f"sphereface {command}"
        known = parsers()[command]._option_string_actions
        for word in words[1:]:
            option = word.partition("=")[0]
            if option.startswith("--") and option != "--":
                assert option in known, f"sphereface {command} {option}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_exist(document):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        match for line in code_of(document) for match in re.findall(r"\bmake ([a-z][\w-]*)", line)
    }
    assert named <= set(targets)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_of_the_package_resolve(document):
    for line in code_of(document):
        for name in re.findall(r"(?<![\w./-])sphereface(?:\.\w+)+(?![\w/-])", line):
            if Path(name).suffix in {".md", ".prototxt", ".proto", ".so", ".layers", ".git"}:
                continue
            parts = name.split(".")
            value = importlib.import_module("sphereface")
            for index, part in enumerate(parts[1:], 2):
                try:
                    value = getattr(value, part)
                except AttributeError:
                    value = importlib.import_module(".".join(parts[:index]))


@pytest.mark.parametrize("figure", figures.FIGURES, ids=lambda f: f"{f.document}: {f.text}")
def test_figures_are_the_recorded_ones(figure):
    found = re.search(figure.text, text_of(figure.document))
    assert found, f"{figure.document} no longer says {figure.text}; change figures.py with it"
    written = found.group(1)
    if "e" in written:
        assert float(written) == figure.value()
        return
    digits = len(written.partition(".")[2])
    assert written == f"{figure.value():.{digits}f}"


def test_every_ratio_of_the_readme_has_a_source():
    text = text_of("README.md")
    covered = {
        match.start(1)
        for figure in figures.FIGURES
        if figure.document == "README.md" and (match := re.search(figure.text, text))
    }
    stated = re.finditer(r"(?<![\w.=])(\d+\.\d+x|\d+\.\d+ times|\d+e-\d+)", text)
    assert [match.group() for match in stated if match.start() not in covered] == []
