"""Settings: every mistake at once, and no token ever leaves for a stranger's address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remediation.errors import BadSettings
from remediation.model import Mode
from remediation.settings import is_loopback, load_settings

LOCAL = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}
AZURE = {
    "AzureWebJobsStorage__tableServiceUri": "https://x.table.core.windows.net",
    "AzureWebJobsStorage__queueServiceUri": "https://x.queue.core.windows.net",
}


def mistakes(**env: str) -> str:
    with pytest.raises(BadSettings) as error:
        load_settings({**LOCAL, **env})
    return str(error.value)


def test_defaults_are_sensible():
    found = load_settings(AZURE)
    assert found.mode is Mode.ENFORCE
    assert found.arm_endpoint == "https://management.azure.com"
    assert found.token_scope == "https://management.azure.com/.default"  # noqa: S105 - no secret
    assert found.storage_connection == ""
    assert not found.local
    assert not found.auth_on


def test_the_logic_app_of_the_self_test_is_a_logic_app():
    logic = ("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-x/providers"
             "/Microsoft.Logic/workflows/logic-1")
    assert load_settings({**LOCAL, "SELFTEST_WORKFLOW": logic}).selftest_workflow == logic.lower()
    assert load_settings(LOCAL).selftest_workflow == ""
    assert "SELFTEST_WORKFLOW" in mistakes(SELFTEST_WORKFLOW="logic-1")
    assert "SELFTEST_WORKFLOW" in mistakes(SELFTEST_WORKFLOW=logic + "/triggers/manual")


def test_the_sample_settings_are_complete_and_work():
    sample = json.loads((Path(__file__).parents[2] / "local.settings.sample.json").read_text())
    found = load_settings(sample["Values"])
    assert found.mode is Mode.SIMULATE
    for name in ("SWEEP_SCHEDULE", "PYTHON_THREADPOOL_THREAD_COUNT", "COMMIT_QUEUE"):
        assert sample["Values"][name]


def test_every_mistake_is_reported_at_once():
    said = mistakes(RESPONDER_DEPLOYMENT="Bad_Name!", RESPONDER_MODE="yolo",
                    RESPONDER_SUBSCRIPTIONS="x", RESPONDER_LEASE_SECONDS="0",
                    RESPONDER_BUDGET_SECONDS="soon", AZURE_RESOURCE_MANAGER="http://arm.example")
    for name in ("RESPONDER_DEPLOYMENT", "RESPONDER_MODE", "RESPONDER_SUBSCRIPTIONS",
                 "RESPONDER_LEASE_SECONDS", "RESPONDER_BUDGET_SECONDS", "AZURE_RESOURCE_MANAGER"):
        assert name in said


def test_the_scope_is_subscriptions_or_management_groups():
    assert load_settings({**LOCAL, "RESPONDER_MANAGEMENT_GROUPS": "platform, shop"}).management_groups == (
        "platform", "shop")
    said = mistakes(RESPONDER_MANAGEMENT_GROUPS="a/b,ok",
                    RESPONDER_SUBSCRIPTIONS="00000000-0000-0000-0000-000000000001")
    assert "'a/b' is no management group's id" in said
    assert "leave out RESPONDER_SUBSCRIPTIONS" in said


@pytest.mark.parametrize("url", [
    "https://arm.example.com", "https://management.azure.com.evil.example", "http://127.0.0.1:1",
    "https://user@management.azure.com", "https://management.azure.com/x", "https://10.0.0.1",
])
def test_no_token_leaves_for_another_address(url: str):
    assert "AZURE_RESOURCE_MANAGER" in mistakes(AZURE_RESOURCE_MANAGER=url)


@pytest.mark.parametrize(("url", "scope"), [
    ("https://127.0.0.1:8443", "https://management.azure.com/.default"),
    ("https://localhost:8443/", "https://management.azure.com/.default"),
    ("https://management.usgovcloudapi.net", "https://management.usgovcloudapi.net/.default"),
])
def test_azures_clouds_and_loopback_are_accepted(url: str, scope: str):
    found = load_settings({**LOCAL, "AZURE_RESOURCE_MANAGER": url})
    assert found.token_scope == scope
    assert found.local == is_loopback(url)


def test_a_key_is_for_local_storage_only():
    remote = "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=y;TableEndpoint=https://x.table.core.windows.net"
    assert "for local storage only" in mistakes(AzureWebJobsStorage=remote)
    assert "missing" in mistakes(AzureWebJobsStorage="")
    local = "AccountName=x;AccountKey=y;TableEndpoint=http://127.0.0.1:1/x"
    assert load_settings({"AzureWebJobsStorage": local}).storage_connection == local


def test_endpoints_must_be_https():
    env = {**AZURE, "AzureWebJobsStorage__tableServiceUri": "http://x.example"}
    with pytest.raises(BadSettings, match="must be https"):
        load_settings(env)


def test_the_ledger_may_have_an_account_of_its_own():
    found = load_settings({**AZURE, "LEDGER__tableServiceUri": "https://ledger.table.core.windows.net"})
    assert found.table_endpoint == "https://ledger.table.core.windows.net"


def test_the_home_subscription_comes_from_the_platform():
    found = load_settings({**AZURE, "WEBSITE_OWNER_NAME": "abc+rg-webspace", "WEBSITE_AUTH_ENABLED": "True",
                           "IDENTITY_ENDPOINT": "http://x"})
    assert found.home_subscription == "abc"
    assert found.auth_on
    assert found.managed_identity
