"""The plan on paper against what a step allocates and sends here."""

import importlib.util
import sys
from pathlib import Path

import pytest

import sharded_work as work

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def memory_plan():
    spec = importlib.util.spec_from_file_location("memory_plan", ROOT / "tools/memory_plan.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["memory_plan"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["memory_plan"]


CLASSES, BATCH, FEATURES = 30_000, 96, 16


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(("memory", "rate"), [("fast", 1.0), ("lean", 1.0), ("fast", 0.25)])
def test_memory_and_bytes_sent(pool, memory_plan, memory, rate, optimizer):
    ranks = 3
    plan = memory_plan.Plan(
        CLASSES, BATCH, FEATURES, ranks, "float32", optimizer, memory, rate, device="cpu"
    )
    arguments = (ranks, CLASSES, BATCH, FEATURES, memory, rate, optimizer)
    results = pool.run(work.measured_step, *arguments)
    seen = results[0]
    assert seen["weight"] == plan.kept()["weight"]
    assert seen["state"] == plan.kept()["optimizer's state"]
    assert seen["gradient"] == plan.step()["gradient of the weight"]
    # The plan is for the exact gradient, which takes unit rows besides; a loss may need fewer.
    peak = max(result["peak"] for result in results) / sum(plan.step().values())
    assert 0.8 < peak < 1.05
    assert seen["sent"] == pytest.approx(sum(plan.sent().values()), rel=1e-9)


def test_the_documents_table_is_the_tools(memory_plan):
    assert memory_plan.table() in (ROOT / "docs/large-classes.md").read_text()


def test_one_rank_by_hand(memory_plan):
    plan = memory_plan.Plan(1000, 10, 4, dtype="bfloat16", optimizer="adam", device="cpu")
    assert plan.kept() == {"weight": 8000, "optimizer's state": 16000}
    assert sum(plan.sent().values()) == 0
    assert plan.seconds_computing() == pytest.approx(4 * 2 * 10 * 1000 * 4 / 50e12)
    assert "1,000 of 1,000 classes a rank" in memory_plan.report(plan)
