"""The scripts that deploy and take away, really run, with an `az` that answers as it is told and notes what
it is asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remediation.__main__ import main
from tests.role import INFRA

AZ = """#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in
  "functionapp function list"*) cat "$ANSWERS/functions" ;;
  *"--resource-type Microsoft.Web/sites --query"*) cat "$ANSWERS/site" ;;
  "resource list"*) cat "$ANSWERS/rest"; : > "$ANSWERS/rest" ;;
  *properties.outputs.GUEST*) ;;
  *properties.outputs.*) echo "$*" | sed 's/.*outputs\\.\\([A-Z_]*\\)\\.value.*/the-\\1/' ;;
esac
exit "$(cat "$ANSWERS/code" 2>/dev/null || echo 0)"
"""
CLIENT = """#!/bin/sh
case "$*" in
  "-m remediation blocks --live") printf 'client %s\\n' "$*" >> "$CALLS"; n=$(cat "$ANSWERS/rounds")
    [ "$n" = down ] && exit 2
    echo $((n - 1)) > "$ANSWERS/rounds"
    [ "$n" -gt 0 ] && echo '{"blocks": [{"id": "b1"}]}' || echo '{"blocks": []}' ;;
  "-m remediation"*) printf 'client %s\\n' "$*" >> "$CALLS" ;;
  *) exec PYTHON "$@" ;;
esac
"""


class Told:
    """A folder with a fake `az` and a fake client, and what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("az", AZ), ("client", CLIENT.replace("PYTHON", sys.executable))):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.says(functions="x/on_alert\nx/on_tick\nx/on_firewall_change\n", site="the-site\n", rest="",
                  rounds="0")

    def says(self, **answers: str) -> None:
        for name, text in answers.items():
            (self.folder / name).write_text(text)

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(INFRA / script)], capture_output=True, text=True, timeout=60, env={
                "PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self.folder / "calls"),
                "ANSWERS": str(self.folder), "PYTHON": str(self.folder / "client"), "PAUSE": "0", **env})

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def at(self, start: str) -> int:
        """When it was asked that, first; -1 if never."""
        return next((n for n, call in enumerate(self.calls) if call.startswith(start)), -1)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


OUTPUTS = {"AZURE_RESOURCE_GROUP": "rg", "AZURE_FUNCTION_APP_NAME": "app", "EVENT_GRID_TOPIC_NAME": "topic",
           "STORAGE_ACCOUNT_NAME": "st"}


def test_events_are_subscribed_once_the_functions_are_there(told: Told):
    done = told.run("subscribe.sh", **OUTPUTS)
    assert done.returncode == 0, done.stderr
    assert told.at("deployment group create") > told.at("functionapp function list") >= 0


def test_functions_that_never_come_are_named_and_nothing_is_subscribed(told: Told):
    told.says(functions="x/on_alert\n")
    done = told.run("subscribe.sh", **OUTPUTS)
    assert done.returncode == 1
    assert "on_tick on_firewall_change" in done.stderr
    assert told.at("deployment group create") == -1


@pytest.mark.parametrize("missing", OUTPUTS)
def test_an_output_that_is_missing_is_named(told: Told, missing: str):
    done = told.run("subscribe.sh", **{k: v for k, v in OUTPUTS.items() if k != missing})
    assert (done.returncode, missing in done.stderr) == (2, True)


def test_deploying_goes_from_infrastructure_to_code_to_events(told: Told):
    (told.folder / "zip").write_text("#!/bin/sh\nprintf 'zip %s\\n' \"$*\" >> \"$CALLS\"\n")
    (told.folder / "zip").chmod(0o755)
    done = told.run("deploy.sh", AZURE_ENV_NAME="prod", AZURE_LOCATION="northeurope")
    assert done.returncode == 0, done.stderr
    steps = [told.at(call) for call in (
        "deployment sub create", "zip", "functionapp deployment source config-zip",
        "functionapp function list", "deployment group create")]
    assert -1 not in steps
    assert steps == sorted(steps)
    (packed,) = (call for call in told.calls if call.startswith("zip"))
    assert not any(f" {name}" in packed for name in ("sandbox", "tests", "infra", "local.settings"))
    assert "responder-prod" in told.calls[steps[0]]


def test_who_is_not_signed_in_is_told_so(told: Told):
    told.says(code="1")
    done = told.run("deploy.sh")
    assert (done.returncode, "az login" in done.stderr or "zip is needed" in done.stderr) == (2, True)
    assert told.at("deployment") == -1


def test_live_blocks_are_lifted_before_anything_is_taken_away(told: Told):
    told.says(rounds="3", rest="/subscriptions/s/x/plan\n")
    done = told.run("undeploy.sh")
    assert done.returncode == 0, done.stderr
    paused = told.at("client -m remediation pause --lift all")
    looked = [n for n, c in enumerate(told.calls) if c == "client -m remediation blocks --live"]
    assert len(looked) == 4
    assert looked[0] < told.at("resource delete --only-show-errors --resource-group") < paused < looked[1]
    assert looked[-1] < told.at("role assignment list")
    assert looked[-1] < told.at("resource delete --only-show-errors --ids /subscriptions/s/x/plan")


def test_blocks_that_stay_keep_everything_where_it_is(told: Told):
    told.says(rounds="1000")
    done = told.run("undeploy.sh")
    assert (done.returncode, "still there: b1" in done.stderr) == (1, True)
    assert told.at("role") == told.at("resource delete --only-show-errors --ids") == -1


def test_an_app_that_does_not_answer_keeps_everything_where_it_is(told: Told):
    told.says(rounds="down")
    done = told.run("undeploy.sh")
    assert (done.returncode, "does not answer you" in done.stderr) == (1, True)
    assert told.at("resource delete") == told.at("role") == -1


def test_that_azure_cannot_be_asked_is_not_taken_for_an_app_that_is_gone(told: Told):
    told.says(code="1")
    assert told.run("undeploy.sh", RESPONDER_URL="https://x").returncode != 0
    assert told.at("resource delete") == told.at("role") == -1


def test_it_may_be_run_again_when_the_app_is_gone(told: Told):
    told.says(site="", rounds="down")
    done = told.run("undeploy.sh")
    assert done.returncode == 0, done.stderr
    assert told.at("client") == -1
    assert told.at("role assignment list") >= 0


def test_the_list_of_live_blocks_goes_through_all_pages_and_leaves_out_what_has_ended(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import requests

    pages: list[Any] = [{"blocks": [{"id": "a", "state": "lifted"}], "nextPageToken": "t"},
                        {"blocks": [{"id": "b", "state": "shadowed"}, {"id": "c", "state": "revoked"}],
                         "nextPageToken": ""}]
    asked: list[dict[str, Any]] = []

    def request(method: str, url: str, **given: Any) -> requests.Response:
        asked.append(given["params"])
        answer = requests.Response()
        answer.status_code, answer._content = 200, json.dumps(pages.pop(0)).encode()
        return answer

    monkeypatch.setattr(requests, "request", request)
    where = ["--url", "http://127.0.0.1:9"]
    assert main(["blocks", "--live", *where]) == 0
    assert [b["id"] for b in json.loads(capsys.readouterr().out)["blocks"]] == ["b"]
    assert [a.get("pageToken") for a in asked] == [None, "t"]
    pages.append({"error": "no"})
    assert main(["blocks", "--live", *where]) == 2, "nobody can tell"


def test_every_role_that_is_made_is_taken_away():
    kinds = {kind for path in (INFRA / "modules").glob("*.bicep")
             for kind in re.findall(r"roleName: 'Defender ([\w$\{}-]+) \(", path.read_text())}
    kinds = (kinds - {"${kind}"}) | {"responder", "guest"}  # the last two by one module
    said = re.search(r"for kind in ([\w -]+); do", (INFRA / "undeploy.sh").read_text())
    assert said is not None
    assert set(said[1].split()) == kinds
