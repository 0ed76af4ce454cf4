"""How likely each machine behind an alert is, and whether it ran then: recorded after the block stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from remediation.inputs import Request
from tests.azure import Azure
from tests.estate import ATTACKER, COMPUTE, SUB, alert
from tests.sandbox.test_tracing import LB, site


def on_balancer(azure: Azure, **changes: Any) -> dict[str, Any]:
    return azure.attack(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": LB}], **changes)


def machines(azure: Azure, one: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {m["path"][-1]: m for m in azure.timeline(one)["machines"]}


def event(azure: Azure, machine: str, verb: str, **ago: float) -> None:
    azure.world.seed({"activity": [{
        "resource": f"{COMPUTE}/virtualMachines/{machine}", "operation":
        f"Microsoft.Compute/virtualMachines/{verb}/action",
        "at": (datetime.now(UTC) - timedelta(**ago)).isoformat()}]})


def test_each_machine_has_its_power_then_its_likelihood_and_its_proof(azure: Azure):
    azure.world.seed(site())
    event(azure, "vm3", "deallocate", minutes=30)  # the activity began an hour ago
    event(azure, "vm2", "start", minutes=10)
    azure.know(alert("vm", alertDisplayName="Suspicious process executed"))
    found = machines(azure, on_balancer(azure))
    assert (found["vm3"]["power"], found["vm3"]["powerThen"]) == (
        "PowerState/deallocated", "PowerState/running")
    assert (found["vm2"]["power"], found["vm2"]["powerThen"]) == ("PowerState/running", "PowerState/stopped")
    assert {n: m["likelihood"] for n, m in found.items()} == {
        "vm": "likely", "vm2": "unlikely", "vm3": "unlikely", "uni/0": "unlikely", "uni/1": "unlikely"}
    assert any("Suspicious process executed" in r for r in found["vm"]["reasons"])
    assert any("does not carry its traffic out" in r for r in found["vm3"]["reasons"])
    proofs = {(p["direction"], p["outcome"]) for p in found["vm"]["proof"]}
    assert ("outbound", "active") in proofs
    assert {p["address"] for p in found["vm"]["proof"]} == {ATTACKER}


def test_an_alert_does_not_speak_for_itself(azure: Azure):
    azure.world.seed(site())
    found = machines(azure, azure.attack("vm3"))
    assert not any("other alerts" in r for r in found["vm3"]["reasons"])


def test_what_may_not_be_read_is_said_and_the_block_stands(azure: Azure):
    azure.world.seed(site())
    azure.world.seed({"denied": [{"action": "eventtypes/values/read", "scope": f"/subscriptions/{SUB}"}]})
    found = machines(azure, on_balancer(azure))
    assert azure.blocks()["outbound", ATTACKER].state.value == "active"
    assert found["vm"]["powerThen"] == ""
    assert any("activity log of rg cannot be read" in r for r in found["vm"]["reasons"])


def test_what_cannot_be_read_now_the_sweep_reads_later(azure: Azure):
    azure.world.seed(site())
    azure.faults({"service": "arm", "method": "GET", "path": "eventtypes", "status": 503, "times": 40})
    one = on_balancer(azure)
    assert machines(azure, one)["vm"]["likelihood"] is None
    assert azure.blocks()["outbound", ATTACKER].state.value == "active"
    azure.faults()
    azure.clock.forward(minutes=10)
    azure.sweep()
    assert machines(azure, one)["vm"]["likelihood"] == "possible"


def test_the_machines_of_an_alert_are_weighed_once(azure: Azure):
    azure.world.seed(site())
    on_balancer(azure)
    reads = [r for r in azure.world.log() if "eventtypes" in r["path"]]
    azure.clock.forward(minutes=10)
    azure.sweep()
    assert len([r for r in azure.world.log() if "eventtypes" in r["path"]]) == len(reads) == 1


def test_a_dry_run_shows_each_machines_way_and_what_its_proof_would_find(azure: Azure):
    azure.world.seed(site())
    one = azure.know(alert(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": LB}]))
    reply = azure.app.serve("replay", Request("/api/replay", json.dumps(one).encode(), {"dryRun": "true"}))
    assert reply.status == 200
    (result,) = reply.body["results"]
    shown = {m["path"][-1]: m for m in result["machines"]}
    assert shown["vm"]["path"] == ["lb", "pool web", "nic", "vm"]
    assert {(p["direction"], p["outcome"]) for p in shown["vm"]["proof"]} == {
        ("outbound", "effective"), ("inbound", "effective")}
    assert "application gateway agw hides" in next(
        p["detail"] for p in shown["vm2"]["proof"] if p["direction"] == "inbound")
    assert not azure.writes()
