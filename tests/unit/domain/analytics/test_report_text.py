import csv
import io
from typing import Any

from modular_agent.domain.analytics.report_text import as_csv, as_html, as_markdown

MONEY = {"cost": None, "total_tokens": 5, "unpriced_tokens": 5, "request_count": 1}
TIMING = dict.fromkeys(("request_count", "avg_response_time", "p50", "p95", "p99", "error_rate", "total_tokens"), 1)
RUNS = {"started": 1, "ended": 0, "completed": 0, "failed": 0, "stopped": 0, "success_rate": None, "avg_duration": None}


def figures(name: str) -> dict[str, Any]:
    return {
        "start_time": "2026-10-01T00:00:00.000000Z",
        "end_time": "2026-10-08T00:00:00.000000Z",
        "sessions": {"created": 1},
        "runs": {**RUNS, "by_workflow": {name: RUNS}},
        "performance": {**TIMING, "by_model": {name: TIMING}, "by_node": {}},
        "cost": {
            "total_cost": None,
            "total_tokens": 5,
            "unpriced_tokens": 5,
            "cost_by_workflow": {},
            "cost_by_model": {name: MONEY},
            "cost_by_session": {},
            "cost_trends": [{"date": "2026-10-01", **MONEY}],
        },
        "errors": {"error_count": 1, "error_by_type": {name: 1}},
    }


def test_a_name_is_no_formula_in_csv() -> None:
    for name in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("x")'):
        rows = list(csv.reader(io.StringIO(as_csv(figures(name)))))
        assert rows[0] == ["section", "name", "figure", "value"]
        assert all(len(row) == 4 for row in rows)
        assert any(row[1] == f"'{name}" for row in rows)
        assert not any(cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row)


def test_a_name_is_no_markup() -> None:
    page = as_html(figures("<script>alert(1)</script>"), title="<b>")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    text = as_markdown(figures("a|b\n# c <i>"), title="t")
    assert "a\\|b # c \\<i\\>" in text
    assert (
        len(
            {
                line.count("|") - line.count("\\|")
                for line in text.split("## Runs")[1].split("##")[0].splitlines()
                if line.startswith("|")
            }
        )
        == 1
    )


def test_what_has_no_price_is_said_to_have_none() -> None:
    assert "| Cost (USD) | unpriced |" in as_markdown(figures("m"), title="t")
    rows = list(csv.reader(io.StringIO(as_csv(figures("m")))))
    assert ["Cost by model (USD)", "m", "cost", "unpriced"] in rows
    assert ["Summary", "Success rate (% of ended runs)", "value", ""] in rows
