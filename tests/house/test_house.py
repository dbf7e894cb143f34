"""Rules of the repository that no linter checks."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
TORCH_FREE = [
    "sphereface",
    "sphereface.cli.main",
    "sphereface.data",
    "sphereface.evaluation",
    "sphereface.numpy_ops",
    "sphereface.proto.schema",
    "sphereface.python_layer",
    "sphereface.weights",
]


def tracked(*patterns):
    names = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sources():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return tracked("*.py", "*.h", "*.cpp", "*.cu", "*.cuh", "*.c")


def test_files_stay_small(sources):
    lengths = {p.relative_to(ROOT): len(p.read_text().splitlines()) for p in sources}
    assert len(lengths) > 50
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize("module", TORCH_FREE)
def test_import_does_not_load_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# What is run, not imported.
PROGRAMS = {"cli", "demo", "web"}


def test_public_names_resolve():
    import sphereface

    packages = {path.parent.name for path in (ROOT / "python/sphereface").glob("*/__init__.py")}
    assert packages - PROGRAMS <= set(sphereface.__all__)
    for name in sphereface.__all__:
        assert getattr(sphereface, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'margin'"):
        _ = sphereface.margin


def test_readme_names_only_what_exists():
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"\bmake ([\w-]+)", readme)
    assert {"demo", "test"} <= set(named) <= set(targets)
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", readme)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_ci_runs_the_readmes_test_command():
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_an_extra_compiles_nothing():
    """The extensions that one target has built serve all."""
    make = ["make", "-n", "--no-print-directory", "-o", ".venv/torch.stamp"]
    make += ["-W", ".venv/built.stamp", "lint"]
    told = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert 'install "sphereface[dev]"' in told
    assert "--editable" not in told


def private_names(path):
    """Yield (line, text) of underscore names of our own modules and classes used elsewhere."""
    tree = ast.parse(path.read_text())
    ours = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    } | {
        name.id if isinstance(name, ast.Name) else name.attr
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for name in ast.walk(node)
        if isinstance(name, (ast.Name, ast.Attribute)) and isinstance(name.ctx, ast.Store)
    }
    package = path.parent.relative_to(ROOT / "python").as_posix().replace("/", ".")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sphereface"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            inside = node.module.startswith(package)  # a package may have modules of its own
            if any(name.startswith("_") for name in names if name not in COMPILED) and not inside:
                yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if node.attr.startswith("__") or node.attr in ours | FOREIGN:
                continue
            if ast.unparse(node.value).split(".")[0] not in FREE:
                yield node.lineno, ast.unparse(node)


# What Python and torch call so and mean for others.
FOREIGN = {
    "_SubParsersAction", "_asdict", "_replace", "_exit", "_fields", "_version",
    "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set",
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_compiled_call_impl",
}  # fmt: skip
# Its own or inherited, or of a library that has no public name for it.
FREE = {"self", "cls", "super()", "torch", "operators"}
COMPILED = {"_C", "_numpy_ops"}


def test_private_names_stay_in_their_modules():
    found = {
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in (ROOT / "python").rglob("*.py")
        for line, text in private_names(path)
    }
    assert found == set()
