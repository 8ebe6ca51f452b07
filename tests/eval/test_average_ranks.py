"""Average ranks over tasks with their tests, against the published example, and on the page in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import f, friedmanchisquare
from test_leaderboard import document, put

import llama_gene
from artefacts.errors import UserError
from eval.judge.compare import CompareRecipe, compare
from eval.judge.ranks import LEAST_TASKS, Ranks, ranks_of
from eval.show.figures import ranks_chart
from eval.show.leaderboard import LeaderboardRecipe, leaderboard

CHROMIUM = Path("/usr/bin/chromium")
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
VALUES = np.random.default_rng(1).normal([0, 0.8, 0.1, 1.2], 1, (14, 4))


def costs(values_NK: Any) -> list[dict[str, float]]:
    return [dict(zip(NAMES, map(float, -row), strict=False)) for row in values_NK]


def demsar(average_K: Any, N: int) -> tuple[float, float]:
    """Friedman's chi-square and Iman and Davenport's F of average ranks, as section 3.2.2 writes them, without ties."""
    K = len(average_K)
    chi = 12 * N / (K * (K + 1)) * (np.square(average_K).sum() - K * (K + 1) ** 2 / 4)
    return chi, (N - 1) * chi / (N * (K - 1) - chi)


def test_the_statistics_are_demsars() -> None:
    """His example: four variants of C4.5 on 14 data sets have average ranks 3.143, 2.000, 2.893 and 1.964."""
    assert demsar([3.143, 2.000, 2.893, 1.964], 14) == pytest.approx((9.28, 3.69), abs=0.02)
    found, (N, K) = ranks_of(costs(VALUES)), VALUES.shape
    assert found.difference == pytest.approx(1.25, abs=0.005)
    chi, F = demsar([found.average[name] for name in NAMES], N)
    assert chi == pytest.approx(friedmanchisquare(*VALUES.T).statistic)
    assert found.friedman == pytest.approx(f.sf(F, K - 1, (K - 1) * (N - 1)))
    assert [*found.average.values()] == sorted(found.average.values()), "the best first"


def test_ties_are_corrected_for() -> None:
    tied = VALUES.round(0)
    chi, (N, K) = friedmanchisquare(*tied.T).statistic, tied.shape
    assert ranks_of(costs(tied)).friedman == pytest.approx(f.sf((N - 1) * chi / (N * (K - 1) - chi), K - 1, (K - 1) * (N - 1)))


def test_ties_and_agreement_end_the_range_of_p() -> None:
    assert ranks_of(costs(np.ones((8, 3)))).friedman == 1.0
    assert ranks_of(costs(np.tile([0.9, 0.5, 0.1], (8, 1)))).friedman == 0.0


def test_few_tasks_and_one_system_are_not_tested() -> None:
    few = ranks_of(costs(VALUES[: LEAST_TASKS - 1]))
    assert (few.tasks, few.friedman, few.difference) == (LEAST_TASKS - 1, None, None)
    assert "too few" in str(few)
    assert ranks_chart(few) is None
    assert ranks_chart(ranks_of(costs(VALUES[:, :1]))) is None
    assert ranks_of([{"a": 1.0}, {"b": 1.0}]) == Ranks({}, 0)


TASKS = tuple(f"bench/task_number_{number}" for number in range(9))


@pytest.fixture(scope="module")
def browser() -> Any:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if not CHROMIUM.is_file():
        pytest.skip(f"no {CHROMIUM}: the page is not looked at in a browser")
    with sync.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_page_fits_and_loads_nothing(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    leaderboard(LeaderboardRecipe(metrics=put(tmp_path, document(1, TASKS)), out=tmp_path / "board"))
    path, said = tmp_path / "board" / "leaderboard.html", list[str]()
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True).new_page()
    page.on("request", lambda request: said.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert said == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the table scrolls, not the page"
    assert page.locator("tr").count() == len(TASKS) + 2
    assert page.locator(".badge.good").count() == len(TASKS), "the best figure of each task"
    assert page.locator("svg circle").count() == 3
    text = page.inner_text("body")
    for words in ("average rank", "Nemenyi", "Friedman, 9 tasks", "theirs"):
        assert words in text
    page.close()


def test_a_board_of_few_tasks_says_why_there_is_no_plot(tmp_path: Path) -> None:
    leaderboard(LeaderboardRecipe(metrics=put(tmp_path, document(1)), out=tmp_path / "board"))
    page = (tmp_path / "board" / "leaderboard.html").read_text("utf-8")
    assert "<svg" not in page
    assert "Fewer than 5 tasks" in page


def test_compare_writes_a_page_beside_its_figures(invented: Path) -> None:
    from test_compare_runs import predicted

    good, poor = predicted(invented, "good", 0.9, 1), predicted(invented, "poor", 0.1, 2)
    recipe = {"runs": [poor, good], "records": invented / "records"}
    with pytest.raises(UserError, match=r"call it .*compared.json"):
        compare(CompareRecipe(**recipe, out=invented / "compared.html"))
    for overwrite in (False, True):
        found = compare(CompareRecipe(**recipe, out=invented / "compared.json"), overwrite=overwrite)
    assert found["ranks"]["average"] == {"good": 1.0, "poor": 2.0}
    assert (found["ranks"]["tasks"], found["ranks"]["difference"]) == (4, None)
    page = (invented / "compared.html").read_text("utf-8")
    assert "Average rank: good 1.00, poor 2.00" in page
    assert "Simulated tasks: 3" in page


def test_the_page_is_named_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file,) = put(tmp_path, document(1, TASKS))
    assert llama_gene.main(["eval", "leaderboard", str(file), "--out", str(tmp_path / "board")]) == 0
    assert "Friedman, 9 tasks" in capsys.readouterr().out
