"""The report of the benchmark of fresh servers."""

from costs import Cost
from provision import report


def test_the_ratio_is_of_the_medians_until_the_first_answer():
    measured = {
        "one script": [Cost(10.0, 11.0, 0.1), Cost(20.0, 21.0, 0.1), Cost(12.0, 13.0, 0.1)],
        "flaskfleet": [Cost(30.0, 99.0, 5.0), Cost(18.0, 99.0, 7.0), Cost(12.0, 99.0, 6.0)],
    }
    text = report(measured)
    assert "1.50 times the script" in text
    assert "| flaskfleet, controller's CPU |      3 |     6.00 |  5.00 |  7.00 |" in text
