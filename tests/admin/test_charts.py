"""Bars over time. Rule: the numbers that a shape stands for."""

from vmcp.admin.pages.charts import HEIGHT, WIDTH, bars, share

DAY, HOUR = 86400, 3600
NOW = 1_800_014_400.0


def test_there_is_a_bar_for_each_day_and_the_highest_fills_the_height() -> None:
    today = int(NOW // DAY) * DAY
    series = [{"at": today - DAY, "count": 10, "errors": 5}, {"at": today, "count": 4, "errors": 0}]
    chart = bars(series, DAY, 7, NOW)
    assert len(chart.bars) == 7
    assert [round(bar.height) for bar in chart.bars] == [0, 0, 0, 0, 0, HEIGHT, HEIGHT * 4 // 10]
    assert (chart.bars[5].bad, chart.bars[5].y, chart.most) == (HEIGHT / 2, 0, 10)
    assert chart.bars[-1].x + chart.bars[-1].width <= WIDTH
    assert chart.words == "14 calls in 7 days, 5 with an error, at most 10"
    assert chart.bars[5].title == "14 Jan: 10 calls, 5 with an error"


def test_hours_are_told_by_their_time_and_few_of_them() -> None:
    chart = bars([], HOUR, 1, NOW)
    assert len(chart.bars) == 24
    assert [words for _, words in chart.ticks][-1] == "Fri 10:00"
    assert (len(chart.ticks), chart.most) == (8, 0)


def test_one_call_among_many_is_still_seen() -> None:
    series = [
        {"at": int(NOW // DAY) * DAY, "count": 1, "errors": 0},
        {"at": int(NOW // DAY - 1) * DAY, "count": 10**6, "errors": 1},
    ]
    assert bars(series, DAY, 7, NOW).bars[-1].height == 1.5


def test_a_share_is_never_longer_than_the_whole() -> None:
    assert (share(1, 2, 90), share(3, 2, 90), share(1, 0, 90)) == (45.0, 90.0, 0.0)
