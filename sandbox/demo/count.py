"""What really happened, counted from the sandbox's own log and from the ledger's tables."""

from __future__ import annotations

import gzip
import json
from typing import Any

from sandbox.world import World

APP = "responder-identity"
"""The name under which the app's managed identity appears in the log."""
WRITES = ("PUT", "PATCH", "DELETE")
OURS = "defender-block-"


def table(world: World, name: str) -> list[dict[str, Any]]:
    """All rows of a ledger table."""
    from azure.core.exceptions import ResourceNotFoundError
    from azure.data.tables import TableServiceClient

    with TableServiceClient.from_connection_string(world.direct_connection) as service:
        try:
            return [dict(e) for e in service.get_table_client(name).list_entities()]
        except ResourceNotFoundError:
            return []


def blobs(world: World, container: str, folder: str) -> dict[str, bytes]:
    """The blobs of a folder, by their names in it."""
    from azure.core.exceptions import ResourceNotFoundError
    from azure.storage.blob import ContainerClient

    with ContainerClient.from_connection_string(world.direct_connection, container) as client:
        try:
            names = [b.name for b in client.list_blobs(name_starts_with=f"{folder}/")]
        except ResourceNotFoundError:
            return {}
        return {n.partition("/")[2]: bytes(client.download_blob(n).readall()) for n in names}


def plan_of(row: dict[str, Any]) -> dict[str, Any]:
    """The plan packed into an alert's row."""
    data = b"".join(row[k] for k in sorted(
        (k for k in row if k.startswith("plan_")), key=lambda k: int(k[5:])))
    plan: dict[str, Any] = json.loads(gzip.decompress(data)) if data else {}
    return plan


def writes(world: World, since: int = 0) -> list[dict[str, Any]]:
    """The app's writes to ARM, whatever came of them."""
    return [r for r in world.log(since)
            if r["service"] == "arm" and r["method"] in WRITES and r["by"] == APP]


def foreign_rules(world: World) -> dict[str, str]:
    """Every NSG rule that is not ours, as it stands."""
    found = {}
    for nsg in world.resources("microsoft.network/networksecuritygroups"):
        for rule in nsg["properties"]["securityRules"]:
            if not rule["name"].startswith(OURS):
                properties = {k: v for k, v in rule["properties"].items()
                              if k != "provisioningState"}
                found[rule["id"].lower()] = json.dumps(properties, sort_keys=True)
    return found


def owned_rules(world: World, nsg: str = "") -> list[dict[str, Any]]:
    """Every rule of ours, in one NSG or all."""
    return [
        rule
        for one in world.resources("microsoft.network/networksecuritygroups")
        if not nsg or one["name"] == nsg
        for rule in one["properties"]["securityRules"]
        if rule["name"].startswith(OURS)
    ]


def absorbed(world: World) -> int:
    """Deliveries of an event already delivered before, during which the app wrote nothing."""
    log = world.log()
    seen: set[str] = set()
    count = 0
    for row in log:
        if row["service"] != "eventgrid" or row.get("outcome") != "Delivered":
            continue
        event = row["path"]
        if event in seen:
            start = row["at"] - row["ms"] / 1000
            count += not any(
                w["service"] == "arm" and w["method"] in WRITES and w["by"] == APP
                and start <= w["at"] <= row["at"] for w in log)
        seen.add(event)
    return count


def traced(world: World) -> dict[str, int]:
    """Machines found behind what alerts named, by its kind; and what was not traced."""
    found = {"load_balancer": 0, "application_gateway": 0, "not_traced": 0}
    for row in table(world, "alerts"):
        plan = plan_of(row)
        for machine in plan.get("machines", []):
            way = " ".join(machine["path"][:1])
            found["load_balancer"] += way.startswith("lb-")
            found["application_gateway"] += way.startswith("agw-")
        found["not_traced"] += sum(
            1 for s in plan.get("skipped", []) if s["reason"].startswith("not traced"))
    return found


def tally(world: World, foreign_before: dict[str, str]) -> dict[str, Any]:
    """All numbers of `build/demo.json` but `ok` and `seconds`."""
    alerts = table(world, "alerts")
    bodies = [r for r in alerts if str(r["RowKey"]).startswith("alert|")]
    actions = [{"at": r["at"], **a} for r in alerts for a in json.loads(str(r.get("actions", "[]")))]
    proofs: dict[str, str] = {}
    for action in sorted(actions, key=lambda a: str(a["at"])):
        if action["action"] in ("proven", "shadowed"):
            proofs[str(action["block"])] = str(action["action"])
    blocks = table(world, "blocks")
    ended = {s: {r["blockId"] for r in blocks if r["state"] == s} for s in ("lifted", "revoked")}
    foreign_after = foreign_rules(world)
    return {
        "blocked": len({a["block"] for a in actions if a["action"] == "proven"}),
        "duplicates_absorbed": absorbed(world),
        "arm_writes": len(writes(world)),
        "shadowed": sum(1 for v in proofs.values() if v == "shadowed"),
        "skipped": sum(1 for b in bodies for s in plan_of(b).get("skipped", []) if s["address"]),
        "simulated": sum(1 for b in bodies if b.get("mode") == "simulate"),
        "quarantined": sum(1 for r in alerts if r["PartitionKey"] == "~quarantine"),
        "unverified": sum(1 for b in bodies if b.get("verdict") in ("unknown", "different")),
        "revoked": len(ended["revoked"]),
        "lifted": len(ended["lifted"]),
        "foreign_rules_changed": len(
            {k for k in foreign_before.keys() | foreign_after.keys()
             if foreign_before.get(k) != foreign_after.get(k)}),
    }
