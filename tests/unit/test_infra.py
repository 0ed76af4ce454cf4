"""The infrastructure and the code agree: settings, names, payloads, filters."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.cloud.evidence import INCOMING
from remediation.settings import load_settings
from remediation.steps import STEPS
from tests.estate import ATTACKER, alert, name_of
from tests.role import INFRA, capabilities

ROOT = INFRA.parent
MAIN = (INFRA / "main.bicep").read_text()
SITE = (INFRA / "modules" / "function-app.bicep").read_text()
SUBSCRIPTIONS = (INFRA / "event-subscription.bicep").read_text()
INTAKE = (INFRA / "modules" / "intake.bicep").read_text()
FUNCTIONS = (ROOT / "function_app.py").read_text()
SAMPLE: dict[str, str] = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
HOST = json.loads((ROOT / "host.json").read_text())
OF_THE_PLATFORM = {"AzureWebJobsStorage__credential", "AzureWebJobsStorage__clientId",
                   "APPLICATIONINSIGHTS_CONNECTION_STRING", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"}
"""Read by the host or the platform, not by us."""
FORBIDDEN_ON_FLEX = {"FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_RUN_FROM_PACKAGE",
                     "SCM_DO_BUILD_DURING_DEPLOYMENT"}
SET_BY_THE_PLATFORM = {"IDENTITY_ENDPOINT", "WEBSITE_OWNER_NAME", "WEBSITE_AUTH_ENABLED"}
"""Read by us, but nobody sets them."""


def read_by_the_code() -> set[str]:
    """All settings that `settings.py` reads."""
    text = (ROOT / "remediation" / "settings.py").read_text()
    return set(re.findall(r'r\.(?:text|number|read)\("(\w+)"', text)) | set(
        re.findall(r'env\.get\("(\w+)"', text)) | set(re.findall(r'r\.text\("\w+", r\.text\("(\w+)"', text))


def wanted_by_the_host() -> set[str]:
    """All settings that the triggers name."""
    return set(re.findall(r"%(\w+)%", FUNCTIONS)) | {"PYTHON_THREADPOOL_THREAD_COUNT"}


def block(text: str, start: str) -> str:
    """From there to the brace or bracket that closes it."""
    at = text.index(start) + len(start)
    depth, end = 1, at
    while depth:
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(text[end], 0)
        end += 1
    return text[at:end - 1]


def keys(text: str) -> dict[str, str]:
    """`NAME: value` of a Bicep object, on lines of their own."""
    return dict(re.findall(r"^\s*([A-Za-z]\w*): (.+)$", text, re.MULTILINE))


def settings_of(module: str) -> dict[str, str]:
    """The application settings that Bicep gives to an app."""
    common = keys(block(MAIN, "var common = {"))
    own = keys(block(MAIN[MAIN.index(f"module {module} "):], "settings: union(common, {"))
    every = keys(block(SITE[SITE.index("resource appSettings"):], "properties: union(\n      {"))
    return every | common | own


@pytest.mark.parametrize("module", ["responder", "guest"])
def test_an_app_is_given_no_setting_that_nobody_reads_and_all_that_its_triggers_want(module: str):
    given = settings_of(module)
    known = read_by_the_code() | wanted_by_the_host() | OF_THE_PLATFORM
    assert set(given) - known == set()
    assert set(given) & FORBIDDEN_ON_FLEX == set()
    wanted = wanted_by_the_host() - ({"COMMIT_QUEUE", "SWEEP_SCHEDULE"} if module == "guest" else set())
    assert wanted - set(given) == set()


def test_the_sample_and_the_readme_name_every_setting():
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("## Configuration"):readme.index("## People")]
    named = set(re.findall(r"`([A-Za-z_]+)`", table))
    short = {f"RESPONDER_{n.removeprefix('…_')}" for n in re.findall(r"`(…_[A-Z_]+)`", table)}
    spelled = read_by_the_code() | wanted_by_the_host()
    documented = {n for n in spelled if n in named | short or n.startswith(("AzureWebJobsStorage", "LEDGER"))
                  or n == "EVIDENCE"}
    assert spelled - documented - SET_BY_THE_PLATFORM == set()
    local = {n for n in spelled if "__" not in n and n not in ("LEDGER", "EVIDENCE")} - SET_BY_THE_PLATFORM
    assert local - set(SAMPLE) == set()
    assert set(SAMPLE) - spelled - {"FUNCTIONS_WORKER_RUNTIME"} == set()


def test_what_bicep_gives_is_accepted_by_the_code():
    for module in ("responder", "guest"):
        env = {}
        for name, value in settings_of(module).items():
            literal = re.fullmatch(r"'([^'$]*)'", value)
            env[name] = literal[1] if literal else {
                "LEDGER__tableServiceUri": "https://x.table.core.windows.net/",
                "AzureWebJobsStorage__queueServiceUri": "https://x.queue.core.windows.net/",
                "AzureWebJobsStorage__tableServiceUri": "https://x.table.core.windows.net/",
                "AzureWebJobsStorage__blobServiceUri": "https://x.blob.core.windows.net/",
                "EVIDENCE__blobServiceUri": "https://y.blob.core.windows.net/",
                "INCOMING__blobServiceUri": "https://z.blob.core.windows.net/",
                "EVIDENCE_CONTAINER": "evidence", "RESPONDER_DEPLOYMENT": "default",
                "RESPONDER_MODE": "enforce", "RESPONDER_INVESTIGATE": "on", "COMMIT_QUEUE": "commit",
                "INVESTIGATION_QUEUE": "investigations", "GUEST_QUEUE": "guest-investigations",
            }.get(name, "")
        found = load_settings(env)
        assert found.guest == (module == "guest")
        assert found.table_endpoint == "https://x.table.core.windows.net/"
        assert found.blob_endpoint == "https://y.blob.core.windows.net/"
        assert found.incoming_endpoint == "https://z.blob.core.windows.net/"


def test_by_default_the_service_acts():
    assert "param mode string = 'enforce'" in MAIN


def test_events_go_to_functions_that_are_there():
    functions = set(re.findall(r"^def (\w+)\(", FUNCTIONS, re.MULTILINE))
    named = set(re.findall(r"param \w*[fF]unctionName string = '(\w+)'", SUBSCRIPTIONS))
    named |= set(re.findall(r"/functions/(\w+)'", SUBSCRIPTIONS))
    assert named == {"on_alert", "on_tick", "on_firewall_change"}
    assert named <= functions
    assert set(re.findall(r"'function:(\w+)'", MAIN)) <= functions
    for name in named:
        assert re.search(rf"@outside\.event_grid_trigger\(arg_name=\"event\"\)\ndef {name}\(", FUNCTIONS)


def test_what_the_logic_apps_publish_is_what_the_subscriptions_take():
    published = set(re.findall(r"type: '((?:Defender|Responder)\.\w+)'", INTAKE))
    taken = {t for one in re.findall(r"includedEventTypes: \['([\w.]+)'\]", SUBSCRIPTIONS) for t in [one]}
    assert published == taken == {"Defender.SecurityAlert", "Responder.Tick"}


def test_queues_and_containers_of_bicep_are_those_of_the_code():
    names = keys(block(MAIN, "var names = {"))
    given = settings_of("responder")
    assert (given["COMMIT_QUEUE"], given["INVESTIGATION_QUEUE"]) == ("names.commitQueue", "names.queue")
    assert settings_of("guest")["INVESTIGATION_QUEUE"] == "names.guestQueue"
    assert "names.guestQueue" in given["GUEST_QUEUE"]
    created = block(MAIN[MAIN.index("module hostStorage"):], "queues: guestApp ? [")
    assert {n.removeprefix("names.") for n in created.replace(" ", "").split(",")} == {
        "commitQueue", "queue", "guestQueue"}
    assert f"blobContainerName: {names['deadLetters']}" in SUBSCRIPTIONS
    ledger = (INFRA / "modules" / "ledger.bicep").read_text()
    evidence = re.search(r"var evidence = '([\w-]+)'", ledger)
    assert evidence is not None
    assert evidence[1] == SAMPLE["EVIDENCE_CONTAINER"]
    assert names["incoming"] == f"'{evidence[1]}{INCOMING}'"


def test_the_logic_apps_event_is_an_alert_that_the_parser_takes():
    definition = block(INTAKE[INTAKE.index("resource forwarder"):], "body: {")
    given = keys(definition)
    assert given["id"] == r"'@{triggerBody()?[\'SystemAlertId\']}'"
    assert given["data"] == "'@triggerBody()'"
    body = automation_form(alert())
    event = {"id": body["SystemAlertId"], "data": body}  # what the two expressions come to
    found = normalise(event["data"])
    assert found.alert_id == event["id"]
    assert [a.address for a in found.attackers] == [ATTACKER]
    assert found.severity == "Medium"


def automation_form(one: dict[str, Any]) -> dict[str, Any]:
    """As Defender's workflow automation posts it: names begin with a capital."""
    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {k if k.startswith("$") or " " in k else k[:1].upper() + k[1:]: grown(v)
                    for k, v in value.items()}
        return [grown(v) for v in value] if isinstance(value, list) else value
    return {**grown(one["properties"]), "SystemAlertId": name_of(one),
            "TimeGenerated": datetime.now(UTC).isoformat()}


def test_the_automations_filter_lets_the_alert_about_a_command_and_control_centre_through():
    severities = re.search(r"param severities .*= \[(.+)\]", MAIN)
    assert severities is not None
    assert alert()["properties"]["severity"].lower() in re.findall(r"'(\w+)'", severities[1])
    automation = (INFRA / "modules" / "automation.bicep").read_text()
    assert "/triggers/manual'" in automation
    assert re.search(r"triggers: \{\s*(//.*\s*)*manual: \{\s*type: 'Request'", INTAKE)
    estate = re.search(r"param severities .*= \[(.+)\]", (INFRA / "estate.bicep").read_text())
    assert estate is not None
    assert "Medium" in estate[1]


BICEP = {p: p.read_text() for p in sorted(INFRA.rglob("*.bicep"))}


def resources(kind: str) -> list[str]:
    """The text of every resource of a type that is made (not `existing`)."""
    begins = re.compile(rf"^resource \w+ '{re.escape(kind)}@[\w-]+' = (?!\w)", re.MULTILINE)
    return [block(text[hit.start():], "{") for text in BICEP.values() for hit in begins.finditer(text)]


def test_no_storage_account_has_keys_or_shows_anything_to_strangers():
    accounts = resources("Microsoft.Storage/storageAccounts")
    assert len(accounts) == 2
    for one in accounts:
        for line in ("allowSharedKeyAccess: false", "allowBlobPublicAccess: false",
                     "minimumTlsVersion: 'TLS1_2'", "supportsHttpsTrafficOnly: true",
                     "allowCrossTenantReplication: false",
                     "defaultAction: private ? 'Deny' : 'Allow'", "deleteRetentionPolicy: { enabled: true"):
            assert line in one, line
        assert "publicAccess" not in one, "a container"


def test_nobody_comes_in_by_a_password_or_from_anywhere():
    (site,) = resources("Microsoft.Web/sites")
    for line in ("httpsOnly: true", "minTlsVersion: '1.2'", "ftpsState: 'Disabled'",
                 "ipSecurityRestrictionsDefaultAction: 'Deny'"):
        assert line in site, line
    assert site.count("properties: { allow: false }") == 2, "basic publishing, by FTP and by SCM"
    topics = resources("Microsoft.EventGrid/topics")
    assert len(topics) == 2
    assert all("disableLocalAuth: true" in t and "minimumTlsVersionAllowed: '1.2'" in t for t in topics)
    assert all("disableLocalAuth: true" in w.lower().replace("disablelocalauth", "disableLocalAuth")
               for kind in ("Microsoft.OperationalInsights/workspaces", "Microsoft.Insights/components")
               for w in resources(kind))
    (auth,) = resources("Microsoft.Web/sites/config")
    assert "excludedPaths: ['/runtime/webhooks/eventgrid']" in auth
    assert "unauthenticatedClientAction: 'Return401'" in auth


def test_no_template_holds_or_shows_a_secret():
    for path, text in BICEP.items():
        assert not re.search(r"\blist(Keys|AccountSas|ServiceSas)\(|\.listKeys\(", text), path
        shown = [line for line in text.splitlines() if line.startswith("output ")]
        assert not any(re.search(r"key|secret|callback|ConnectionString", line) for line in shown), path
    assert [p.name for p, text in BICEP.items() if "listCallbackUrl(" in text] == ["automation.bicep"]


def test_names_of_assignments_stay_the_same_when_deployed_again():
    for path, text in BICEP.items():
        for name in re.findall(r"name: guid\(.*\)", text):
            assert "principalId" not in name, f"{path}: {name}"


def test_neither_app_can_write_the_others_package():
    site = MAIN[MAIN.index("module guest 'mod"):]
    assert "hostStorageName: guestStorage!.outputs.name" in site[:site.index("settings:")]
    roles = block(SITE, "var roles = union(")
    assert re.findall(r"scope: '(\w+)', id: 'b7e6dc6d", roles) == ["host"]


def test_evidence_may_be_added_and_read_and_nothing_else():
    role = (INFRA / "modules" / "evidence-role.bicep").read_text()
    rights = re.findall(r"'(Microsoft\.Storage[^']+)'", block(role, "dataActions: ["))
    assert {r.rpartition("blobs/")[2] for r in rights} == {"read", "add/action"}
    for one in ("b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"):
        for line in [x for x in SITE.splitlines() if one in x]:
            assert "'host'" in line or "subscriptionResourceId" in line, "no such role on the ledger"


def test_capabilities_name_no_wildcard_that_writes_and_no_right_over_rights():
    for word, actions in capabilities().items():
        for action in actions:
            assert not action.startswith("Microsoft.Authorization/") or action.endswith("/read"), word
            if "*" in action:
                assert action.endswith(("/*/read", "patchAssessmentResults/*")), action


def test_the_app_that_faces_the_internet_has_no_capability_of_the_guests():
    text = (INFRA / "modules" / "capabilities.bicep").read_text()
    app = text[text.index("func responderCapabilities"):text.index("func guestCapabilities")]
    assert not {"guest", "updates", "antimalware"} & set(re.findall(r"'(\w+)'", app))
    table = capabilities()
    words = set(re.findall(r"'(\w+)'", app))
    inside = {a for s in STEPS.values() if s.guest for a in s.permissions if "runCommand" in a}
    assert inside
    assert inside & {a for w in words for a in table[w]} == set()


def test_the_folder_of_a_deployment_holds_what_it_needs():
    ignored = (ROOT / ".funcignore").read_text().split()
    for name in ("sandbox", "tests", "bench", "chaos", "infra", "docs"):
        assert any(line.strip("/") == name for line in ignored), name
    assert not any(line.strip("/") in ("remediation", "host.json", "requirements.txt") for line in ignored)


def test_what_is_deployed_is_healthy_to_the_functions_doctor(tmp_path: Path):
    ignored = [line.rstrip("/") for line in (ROOT / ".funcignore").read_text().split()]
    package = tmp_path / "package"
    shutil.copytree(ROOT, package, ignore=shutil.ignore_patterns(*ignored, "__pycache__", ".*_cache"))
    assert {p.name for p in package.iterdir()} >= {"function_app.py", "host.json", "remediation"}
    doctor = Path(sys.executable).with_name("azure-functions-doctor")
    done = subprocess.run(
        [doctor, "doctor", "--path", package, "--profile", "deploy", "--hosting-plan", "flex-consumption",
         "--target-python", "3.13", "--format", "json"], capture_output=True, text=True)
    items = [i for s in json.loads(done.stdout)["results"] for i in s["items"]]
    said = {i["label"]: i["status"] for i in items}
    assert done.returncode == 0, done.stdout
    assert len([s for s in said.values() if s == "pass"]) >= 14
    assert {label for label, status in said.items() if status not in ("pass", "skip")} <= {
        "Native dependency risk",  # the package is built in Azure
        "Binding connection resolution", "Application Insights configuration",  # settings: Bicep's
    }


def test_host_json_and_the_triggers_hold_together():
    assert HOST["extensions"]["queues"]["visibilityTimeout"] != "00:00:00", "a failure is retried at once"
    assert HOST["functionTimeout"] <= "00:10:00"
    assert Path(ROOT / "requirements.txt").is_file()
