"""`make gpu` without a GPU: its plan, what it reads and writes, its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
RECORDED = (Path(__file__).parent / "gpu_runs" / "recorded.txt").read_text().splitlines()
PYTEST = [
    "FAILED tests/cuda/test_x.py::test_y[caffe] - assert 1 < 0",
    "1 failed, 178 passed, 3 skipped in 41.20s",
]


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import gpu_check
    from gpu import machine, pack, plan, results

    return SimpleNamespace(driver=gpu_check, machine=machine, pack=pack, plan=plan, results=results)


def check(*arguments, **env):
    # An empty PATH hides nvidia-smi, also where there is a card.
    return subprocess.run(
        [sys.executable, TOOLS / "gpu_check.py", *arguments],
        env={**os.environ, "PATH": "", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_plan_fits_into_five_minutes(tmp_path):
    done = check("--plan", OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    *steps, total = done.stdout.splitlines()
    limits = [int(line.split()[1]) for line in steps]
    assert [line.split()[0] for line in steps] == [
        "build", "tests", "memcheck", "margin", "loss", "training", "inference", "faces",
    ]  # fmt: skip
    assert total.split()[1] == str(sum(limits))
    assert sum(limits) <= 300
    assert not (tmp_path / "out").exists()


def test_no_device_has_an_exit_code_of_its_own(tmp_path):
    done = check("--only", "margin", OUT=str(tmp_path))
    assert done.returncode == 3, done.stderr
    assert "no CUDA device was found (nvidia-smi)" in done.stdout
    assert len(list(tmp_path.iterdir())) <= 8


def test_unknown_step_is_named():
    done = check("--plan", "--skip", "tests", "margins")
    assert done.returncode == 2
    assert 'no step is called "margins"; expected of build, tests, memcheck' in done.stderr


def test_choices(gpu):
    args, steps = gpu.driver.arguments(["--only", "racecheck", "margin", "--limit", "margin=9"])
    assert [(step.name, step.limit) for step in steps] == [("margin", 9), ("racecheck", 60)]
    command = steps[1].arguments("cuda", Path(".gpu"), rehearse=False)
    assert command[:2] == ["compute-sanitizer", "--error-exitcode"]
    assert command[5:] == [
        "--tool",
        "racecheck",
        sys.executable,
        gpu.plan.CASES,
        "--device",
        "cuda",
    ]
    assert not args.rehearse


def test_every_step_has_its_script(gpu):
    for step in gpu.plan.PLAN + gpu.plan.OPTIONAL:
        if step.command[0] != "-m":
            assert (ROOT / step.command[0]).is_file()


def test_recorded_run_becomes_a_table(gpu, tmp_path):
    figures = [found for line in RECORDED if (found := gpu.results.parse_line(line))]
    assert [item["value"] for item in figures] == [0.52, "absent (liger_kernel)"]
    tests = gpu.results.pytest_figures(PYTEST)
    assert {item["name"]: item["value"] for item in tests} == {
        "tests/cuda/test_x.py::test_y[caffe] - assert 1 < 0": "failed",
        "failed": 1,
        "passed": 178,
        "skipped": 3,
    }
    report = {
        "machine": {"device": "NVIDIA H100 80GB HBM3", "commit": "0123456789ab"},
        "steps": [
            {
                "name": "tests",
                "state": "failed with exit code 1",
                "seconds": 41.2,
                "figures": tests,
            },
            {"name": "margin", "state": "passed", "seconds": 30.0, "figures": figures},
        ],
    }
    gpu.results.write(tmp_path, report)
    assert json.loads((tmp_path / "results.json").read_text()) == report
    table = (tmp_path / "table.txt").read_text()
    assert "device: NVIDIA H100 80GB HBM3\n" in table
    assert "tests: failed with exit code 1, 41.2 s\n" in table
    assert [line.split()[-2:] for line in table.splitlines() if "F.linear" in line] == [
        ["0.52", "ms"]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "table.txt"]


def test_a_step_at_its_limit_keeps_what_it_had(gpu):
    script = (
        'import time; print(\'figure: {"name": "a", "value": 1, "unit": "s"}\', flush=True);'
        " time.sleep(60)"
    )
    step = gpu.plan.Step("slow", "", 3, ())
    result = gpu.driver.run_step(
        step, [sys.executable, "-c", script], dict(os.environ), io.StringIO()
    )
    assert result["state"] == "stopped at its limit of 3 s; what it had by then"
    assert result["figures"] == [{"name": "a", "value": 1, "unit": "s"}]


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ([sys.executable, "-c", "raise SystemExit(9)"], "failed with exit code 9"),
        (["no-such-sanitizer"], "failed: no-such-sanitizer is not installed"),
        ([sys.executable, "-c", ""], "passed"),
    ],
)
def test_states(gpu, command, state):
    step = gpu.plan.Step("x", "", 60, ())
    assert gpu.driver.run_step(step, command, dict(os.environ), io.StringIO())["state"] == state


def test_card_is_parsed(gpu):
    text = "NVIDIA H100 80GB HBM3, 580.159.04, 9.0\nNVIDIA H100 80GB HBM3, 580.159.04, 9.0\n"
    assert gpu.machine.parse_card(text) == ("NVIDIA H100 80GB HBM3", "580.159.04", "9.0")
    assert gpu.machine.parse_card("No devices were found\n") is None
    assert gpu.machine.parse_card("") is None


def test_first_fold_and_choice_of_pictures(gpu):
    text = "10\t2\nAnn\t1\t4\nBob\t1\t2\nAnn\t1\tCid\t3\nBob\t2\tDan\t1\nEve\t1\t2\n"
    pairs = gpu.pack.first_fold(text)
    assert pairs[0] == (("Ann/Ann_0001.jpg", "Ann/Ann_0004.jpg"), True)
    assert pairs[3] == (("Bob/Bob_0002.jpg", "Dan/Dan_0001.jpg"), False)
    assert [same for _, same in pairs] == [True, True, False, False]
    names = [
        "Ann/a.jpg",
        "Ann/b.jpg",
        "Eve/a.jpg",
        "Fay/a.jpg",
        "Fay/b.jpg",
        "Gil/1",
        "Gil/2",
        "Gil/3",
    ]
    assert list(gpu.pack.chosen(names, {"Ann/a.jpg"})) == [
        "Ann/a.jpg", "Gil/1", "Gil/2", "Gil/3", "Fay/a.jpg", "Fay/b.jpg",
    ]  # fmt: skip


def test_cuda_tests_are_collected():
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "cuda"]
    done = subprocess.run(
        [*command, "tests/cuda", "tests/ops"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for name in (
        "test_no_synchronisation",
        "test_graph_of_a_training_step[exact]",
        "test_pieces_of_the_weight_do_not_show[caffe]",
        "test_tf32_is_the_products_alone",
        "test_second_device",
        "test_sizes_of_one[cuda-",
        "test_deterministic_mode[cuda-",
    ):
        assert name in done.stdout
