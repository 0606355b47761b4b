"""Print the held-out metrics of finished experiments as the README's tables.

python experiments/table.py experiments/results/sdss ...
"""

import json
import math
import sys
from pathlib import Path

COLUMNS = {
    "cde_loss": "CDE loss",
    "crps": "CRPS",
    "sigma_nmad": "σ_NMAD",
    "outlier_fraction": "outliers %",
    "pit_ks": "PIT KS",
    "coverage_68": "cover 68",
    "coverage_95": "cover 95",
}


def cell(metric: str, entry: dict[str, dict]) -> str:
    """A value with half the width of its 95 % interval."""
    scale = 100 if metric == "outlier_fraction" else 1
    low, high = entry["test_interval"][metric]
    half = scale * (high - low) / 2
    digits = min(max(1 - math.floor(math.log10(half)), 0), 5) if half > 0 else 2
    return f"{scale * entry['test'][metric]:.{digits}f} ± {half:.{digits}f}"


def table(report: dict) -> str:
    """One experiment as a Markdown table, the champion in bold."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, entry in report["estimators"].items():
        label = f"**{name}**" if name == report["champion"] else name
        cells = " | ".join(cell(metric, entry) for metric in COLUMNS)
        lines.append(f"| {label} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Print a table for each results folder of the command line."""
    for directory in sys.argv[1:]:
        report = json.loads((Path(directory) / "report.json").read_text(encoding="utf-8"))
        sizes = report["data"]
        print(
            f"`{report['name']}`{' (simulated)' if sizes['simulated'] else ''}, "
            f"{report['created'][:10]}: {sizes['n_train'] + sizes['n_validation']} galaxies "
            f"fitted, {sizes['n_test']} held out\n\n{table(report)}\n"
        )


if __name__ == "__main__":
    main()
