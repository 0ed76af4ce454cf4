"""Someone writes into the ledger, into alerts, or changes their mind; and floods against caps."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from chaos.life import LIFE_HOURS, PLATFORM, Life, hosts
from chaos.stage import Stage, scene
from remediation.ledger.forms import encode
from remediation.policy import DEFAULT_POLICY, load_policy
from tests.azure import OPERATOR
from tests.estate import ATTACKER, SECOND, alert, estate, nsg_id

OUR_OWN = "203.0.113.10"
"""The public address of the estate."""
FORBIDDEN = ("0.0.0.0/0", "0.0.0.0", "::/0", "*", "Internet", "AzureCloud", "10.0.0.0/8", "10.0.0.4",  # noqa: S104 - data
             PLATFORM, "169.254.169.254", OUR_OWN, "127.0.0.1", "255.255.255.255", "::1",
             "::ffff:10.0.0.4", "fe80::1%eth0", "198.51.100.0/24", "198.51.100.7/0", "", "' or 1 eq 1")
FLOOD, FLOODED = 1_000, ("nsg", "nsg2", "nsg3", "nsg4")


def _denied_hosts(life: Life, nsg: str = "nsg") -> set[str]:
    return {p for prefixes in life.azure.owned(nsg).values() for p in prefixes}


def _nothing_of_ours(life: Life) -> bool:
    return life.owned() == {}


def _nothing_but(stage: Stage, life: Life, allowed: Iterable[str], why: str) -> None:
    extra = _denied_hosts(life) - set(allowed)
    stage.damage.note("protected_blocked", len(extra), f"{why}: {sorted(extra)}")


@scene("tamper: rows of blocks that name what must never be blocked")
def rows(stage: Stage) -> None:
    """The guardrails look again under the lease, whoever wrote the row."""
    for state in ("pending", "active", "shadowed", "lifting"):
        life = stage.life()
        life.deliver(life.attack())
        blocks = life.azure.app.ledger.blocks
        row = blocks._table.get(encode(nsg_id()), f"outbound|{ATTACKER}")
        assert row is not None  # noqa: S101 - delivered above
        for address in FORBIDDEN:
            blocks._table.upsert(row.partition, f"outbound|{encode(address)}",
                                 {**row.values, "address": address, "state": state})
            blocks._table.upsert(row.partition, f"inbound|{encode(address)}",
                                 {**row.values, "address": address, "state": state})
            stage.struck += 2
        life.azure.app.ledger.work.recheck(nsg_id(), life.azure.clock.now())
        life.sweep_until(partial(life.denied, ATTACKER))
        _nothing_but(stage, life, [ATTACKER], state)
        stage.lost(ATTACKER in _denied_hosts(life), f"{state}: the true one is gone")
        life.azure.clock.forward(hours=LIFE_HOURS)
        life.sweep_until(partial(_nothing_of_ours, life))
        stage.damage.note("orphan_rules", len(life.owned()), f"{state}: {life.owned()}")


@scene("tamper: the protected list changes while blocks live")
def protected(stage: Stage) -> None:
    """What is protected from now on is lifted; the neighbours' blocks stay."""
    life = stage.life()
    for attacker in (ATTACKER, SECOND):
        life.deliver(life.attack(attacker=attacker))
    life.azure.app.operator.protect(OPERATOR, [(f"{ATTACKER}/32", "a partner")])
    stage.struck += 1
    life.sweep_until(lambda: life.denied(SECOND))
    _nothing_but(stage, life, [SECOND], "protected")
    stage.lost(life.denied(SECOND), f"the neighbour: {life.azure.owned()}")
    life.deliver(life.attack())
    life.sweep_until(lambda: life.denied(SECOND))
    _nothing_but(stage, life, [SECOND], "protected, and reported again")


@scene("tamper: alerts that Defender never raised, or raised otherwise")
def forged(stage: Stage) -> None:
    """Only Defender's own word is acted upon."""
    life = stage.life()
    true = life.attack()
    properties = true["properties"]
    forgeries: list[dict[str, Any]] = [
        alert(attacker=SECOND),
        {**true, "properties": {**properties, "entities": [{"$id": "1", "type": "ip", "address": SECOND}],
                                "extendedProperties": {"attacker IP": SECOND}}},
        {**true, "properties": {**properties, "status": "Active", "alertType": "SSH_Incoming_BF_OneToOne",
                                "extendedProperties": {"attacker IP": SECOND}}},
        {**alert(attacker=SECOND), "id": true["id"]},
    ]
    for one in forgeries:
        life.deliver(one)
        stage.struck += 1
    life.sweep_until(lambda: False)
    _nothing_but(stage, life, [ATTACKER], "forged")


def _nothing_pending(life: Life, nsg: str) -> bool:
    return "pending" not in life.azure.states(nsg)


@scene("tamper: a thousand alerts against the caps", alone=True)
def flood(stage: Stage) -> None:
    """However many come at once: no more than the hour's allowance is blocked unasked."""
    most = load_policy(DEFAULT_POLICY).caps.blocks_per_hour
    life = stage.life(estate(nsgs=4, machines=5), RESPONDER_BUDGET_SECONDS="20",
                      RESPONDER_LEASE_SECONDS="15")
    crowd = [str(a) for a in list(ipaddress.ip_network("198.51.96.0/20").hosts())[:FLOOD]]
    alerts = [alert(f"vm{n % 20 + 1}" if n % 20 else "vm", a) for n, a in enumerate(crowd)]
    stage.world.seed({"subscription": alerts[0]["id"].split("/")[2],
                      "alerts": [a["properties"] for a in alerts]})
    apps = [life.azure.app, life.twin()]
    began = life.azure.clock.now()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda n: life.deliver(alerts[n], apps[n % 2]), range(FLOOD)))
    stage.struck += FLOOD
    for nsg in FLOODED:
        life.azure.clock.forward(seconds=1)
        life.sweep_until(partial(_nothing_pending, life, nsg))
    blocked = {(direction, host) for nsg in FLOODED for direction, prefixes in life.azure.owned(nsg).items()
               for host in hosts(prefixes)}
    hours = 1 + (life.azure.clock.now().hour != began.hour)
    stage.damage.note("protected_blocked", max(0, len(blocked) - hours * most), f"{len(blocked)} blocked")
    stage.lost(len(blocked) >= most * 0.9, f"only {len(blocked)} of {most} allowed")
