"""What `az cloud register` and `az login` ask the sandbox for; the real azure-identity signs in."""

from __future__ import annotations

import ssl

import httpx
from azure.identity import ClientSecretCredential

from tests.azure import Azure
from tests.estate import SUB, estate

TENANT = "00000000-0000-0000-0000-00000000feed"


def test_the_metadata_has_the_form_that_az_reads(azure: Azure):
    context = ssl.create_default_context(cafile=azure.world.addresses["caFile"])
    arm = azure.world.addresses["arm"]
    with httpx.Client(verify=context) as client:
        new = client.get(f"{arm}/metadata/endpoints?api-version=2022-09-01").json()
        old = client.get(f"{arm}/metadata/endpoints?api-version=2019-05-01").json()
    assert old == [new], "a list in the older versions, one cloud in the newer"
    assert new["resourceManager"] == arm
    assert new["authentication"]["loginEndpoint"] == azure.world.addresses["login"]


def test_a_service_principal_signs_in_and_arm_knows_it(azure: Azure):
    azure.world.seed(estate())
    credential = ClientSecretCredential(
        TENANT, "deployer", "any secret", authority=azure.world.addresses["login"],
        disable_instance_discovery=True, connection_verify=azure.world.addresses["caFile"])
    token = credential.get_token("https://management.azure.com/.default").token
    context = ssl.create_default_context(cafile=azure.world.addresses["caFile"])
    with httpx.Client(verify=context, headers={"authorization": f"Bearer {token}"}) as client:
        answer = client.get(f"{azure.world.addresses['arm']}/subscriptions?api-version=2022-12-01")
    assert [s["subscriptionId"] for s in answer.json()["value"]] == [SUB]
    assert azure.world.log()[-1]["by"] == "deployer"
