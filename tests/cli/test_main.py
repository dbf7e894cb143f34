from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sphereface.cli import main as cli
from sphereface.errors import ExistsError, SphereFaceError


def program(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "sphereface", *arguments]
    return subprocess.run(  # PATH and the like are needed, so the environment is kept
        [sys.executable, *command], capture_output=True, text=True, env=os.environ, check=False
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A command "probe", whose `run` the test sets."""
    module = ModuleType("sphereface.cli.probe")

    def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
        parser = subparsers.add_parser("probe")
        parser.add_argument("--number", type=int, default=0)
        return parser

    module.add_parser = add_parser  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "COMMANDS", ("probe",))
    return module


def failing(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_version() -> None:
    result = program("--version")
    assert (result.returncode, result.stdout) == (
        0,
        f"sphereface {metadata.version('sphereface')}\n",
    )


def test_help_names_every_command() -> None:
    result = program("--help")
    assert result.returncode == 0
    for name in cli.COMMANDS:
        assert re.search(rf"^    {name.replace('_', '-')}\s", result.stdout, re.MULTILINE)


def test_help_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from sphereface.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch', 'numpy', 'google', 'matplotlib') if n in sys.modules])"
    )
    assert program(code=code).stdout.endswith("\n[]\n")


def test_the_allocator_is_tuned_where_the_process_is_the_commands(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(cli, "tune_allocator", lambda: calls.append("tuned"))
    command.run = lambda args: len(calls)
    monkeypatch.setattr(sys, "argv", ["sphereface", "probe"])
    assert [cli.main(), cli.main(["probe"])] == [1, 1]


def test_no_command_is_a_usage_error() -> None:
    result = program()
    assert result.returncode == 2
    assert "required: COMMAND" in result.stderr


def test_exit_code_and_arguments_reach_the_command(command: ModuleType) -> None:
    command.run = lambda args: args.number + 1
    assert cli.main(["probe", "--number", "6"]) == 7


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SphereFaceError("bad", where="net:1:2", fix="mend it"), 2, "net:1:2: bad; mend it"),
        (FileNotFoundError(2, "No such file", "a.txt"), 2, "a.txt: No such file"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (
            ExistsError("a"),
            2,
            "a: exists already; give another name, or --overwrite to replace it",
        ),
        (MemoryError(), 2, "out of memory: too little memory; a smaller batch or image needs less"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. (GPU 0; 8 GiB)"),
            2,
            "out of memory: CUDA out of memory. Tried to allocate 2 GiB; a smaller batch or image"
            " needs less",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line(
    command: ModuleType,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    message: str,
) -> None:
    command.run = failing(error)
    assert cli.main(["probe"]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == f"sphereface probe: {message}\n"


def test_what_the_cpu_cannot_allocate_is_told(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run = lambda args: torch.empty(2**58)
    assert cli.main(["probe"]) == 2
    assert "sphereface probe: out of memory: " in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("odd"), RuntimeError("odd\nin detail"), KeyError("odd")])
def test_the_last_line_of_defence(
    command: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    command.run = failing(error)
    assert cli.main(["probe"]) == 70
    told = capsys.readouterr().err
    assert re.fullmatch(
        rf"sphereface probe: this is a bug: {type(error).__name__}: '?odd'? "
        r"\(test_main.py, line \d+\); --traceback shows more to report\n",
        told,
    )
    assert cli.main(["probe", "--traceback"]) == 70
    more = capsys.readouterr().err
    assert more.startswith("Traceback (most recent call last):")
    assert more.endswith(told)


def test_a_reader_that_leaves_is_no_error() -> None:
    script = (
        "import sys, types\n"
        "from sphereface.cli import main as cli\n"
        "probe = types.ModuleType('probe')\n"
        "probe.add_parser = lambda subparsers: subparsers.add_parser('probe')\n"
        "probe.run = lambda args: [print(i) for i in range(100000)] and 0\n"
        "sys.modules['sphereface.cli.probe'] = probe\n"
        "cli.COMMANDS = ('probe',)\n"
        "sys.exit(cli.main(['probe']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_the_list_is_the_folder() -> None:
    """Every module that has `add_parser` is in the list, and nothing else is."""
    folder = Path(cli.__file__).parent
    commands = [
        path.stem for path in folder.glob("*.py") if "\ndef add_parser(" in path.read_text()
    ]
    assert sorted(cli.COMMANDS) == sorted(commands)


def test_caffes_single_dash_is_understood(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    missing = tmp_path / "solver.prototxt"
    for arguments in (["-solver", str(missing), "-gpu", "none"], [f"-solver={missing}"]):
        assert cli.main(["train", *arguments]) == 2
        assert str(missing) in capsys.readouterr().err


def test_a_wrong_flag_shows_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["summary", "net.prototxt", "--stge", "a"])
    told = capsys.readouterr().err
    assert told.startswith("usage: sphereface summary [-h]")
    assert told.endswith(
        'sphereface summary: error: unrecognized arguments: --stge a; did you mean "--stage"?\n'
    )
