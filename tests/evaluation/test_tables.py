from __future__ import annotations

from sphereface.evaluation.tables import Table, percent, percent_range


def test_as_evaluation_m_prints_it() -> None:
    table = Table("", ["fold", "ACC"], [["1", "99.33%"], ["10", "98.50%"]], ["AVE", "98.92%"])
    assert table.text() == "\n".join(
        [
            "fold    ACC",
            "----------------",
            "1       99.33%",
            "10      98.50%",
            "----------------",
            "AVE     98.92%",
        ]
    )


def test_wide_cells_titles_and_notes() -> None:
    table = Table("T", ["a", "b", "c"], [["x" * 9, "", "z"]], notes=["n"])
    lines = table.text().splitlines()
    assert lines == ["T", "a          b       c", "-" * 20, "xxxxxxxxx          z", "n"]


def test_shares() -> None:
    assert (percent(0.99517), percent(None), percent(1, 0)) == ("99.52%", "-", "100%")
    assert percent_range(0.5, 0.75, 1) == "50.0% .. 75.0%"
