"""Checkov over every resource of `infra/`: `python -m tests.lint_infra CHECKOV`.

Its own parser reads few of our Bicep files (imports, typed lists, lambdas and loops are beyond it). So the
literals of each file are written out as ARM templates, which it reads whole. Settings of a site
(`sites/config`) are left out: it takes them for sites of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.bicep import resources

INFRA = Path(__file__).resolve().parent.parent / "infra"
CONFIG = INFRA / "checkov.yaml"
SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
LEFT_OUT = ("Microsoft.Web/sites/config",)


def export(folder: Path) -> int:
    """One template for each file → how many resources there are."""
    count = 0
    for path in sorted(INFRA.rglob("*.bicep")):
        found = [r for r in resources(path.read_text(encoding="utf-8")) if r["type"] not in LEFT_OUT]
        template = {"$schema": SCHEMA, "contentVersion": "1.0.0.0", "resources": found}
        (folder / f"{path.stem}.json").write_text(json.dumps(template, indent=1))
        count += len(found)
    return count


def findings(checkov: str, folder: Path) -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """The summary, and what failed: check and file. Raises RuntimeError if a check could not run."""
    done = subprocess.run(
        [checkov, "-d", str(folder), "--framework", "arm", "--skip-download", "--compact", "-o", "json"],
        capture_output=True, text=True)
    if "Failed to run check" in done.stderr or not done.stdout.strip():
        raise RuntimeError(done.stderr)
    report = json.loads(done.stdout)
    failed = {(str(c["check_id"]), Path(c["file_path"]).stem): f"{c['resource']}: {c['check_name']}"
              for c in report["results"]["failed_checks"]}
    return report["summary"], failed


def main(checkov: str) -> int:
    """0: nothing is found but what the configuration gives a reason for."""
    reasons: dict[str, list[str]] = yaml.safe_load(CONFIG.read_text())
    accepted = {(check, file) for check, files in reasons.items() for file in files}
    with tempfile.TemporaryDirectory() as folder:
        count = export(Path(folder))
        summary, failed = findings(checkov, Path(folder))
    wrong = [f"{one[0]}, {one[1]}.bicep: {what}" for one, what in failed.items() if one not in accepted]
    wrong += [f"{check}, {file}.bicep: is accepted in {CONFIG.name}, and does not fail"
              for check, file in sorted(accepted - set(failed))]
    wrong += ["checkov could not read a template"] * bool(summary["parsing_errors"])
    for one in wrong:
        print(one)
    print(f"checkov: {count} resources, {summary['passed']} checks passed, "
          f"{len(failed)} findings accepted with a reason, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
