"""The report of the benchmark of several servers."""

from scale import RUNS, SIZES, WAYS, Run, report


def test_ratios_are_of_medians():
    found = {(size, run, way): [Run(1.0, 0.5, 0.25)] for size in SIZES for run in RUNS for way in WAYS}
    found[10, "deploy", "flaskfleet"] = [Run(2.0, 0.1, 0.5), Run(9.0, 0.2, 1.0), Run(4.0, 0.3, 0.75)]
    line = next(line for line in report(found).splitlines() if "10, deploy" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "10, deploy",
        *("4.00 (2.00 to 9.00)", "1.00 (1.00 to 1.00)", "4.00"),
        *("0.20 (0.10 to 0.30)", "0.50 (0.50 to 0.50)", "0.40"),
        *("0.75 (0.50 to 1.00)", "0.25 (0.25 to 0.25)", "3.00"),
    ]
