"""What people are shown of the machines behind an alert: the way to each, how likely it is, and the proof of
every block that is to protect it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from remediation.investigation.task import CUT, Task, TaskState, Weight
from remediation.ledger.block import Block
from remediation.likelihood import NOT_LOOKED_AT, Likelihood
from remediation.managed import Managed
from remediation.model import BlockState, Plan, utc
from remediation.nsg import Nsg
from remediation.owned import Ownership
from remediation.plan import with_wanted
from remediation.policy import Policy
from remediation.proof import UNMANAGED, Outcome, prove
from remediation.topology import WAF_POLICY, kind_of

NOT_WEIGHED = {"powerThen": "", "powerReason": "", "likelihood": None, "reasons": ["not weighed yet"]}
LOG_STEP = "log_traces"
UNSEEN = "the rule guards it, but the proof did not look at it by itself"


def machines_of(
    plan: Mapping[str, Any], assessment: Mapping[str, Any] | None, blocks: Sequence[Block]
) -> list[dict[str, Any]]:
    """The machines of a recorded plan, with the blocks as the ledger has them now."""
    weighed = (assessment or {}).get("machines") or {}
    looked_at = [(b, {t.machine_id for t in b.targets}) for b in blocks]
    known = [m["id"] for m in plan.get("machines") or ()]
    fronts = sorted({one for b in plan.get("blocks") or () for one in b.get("machines") or ()} - set(known))
    return [
        {"id": m["id"], "path": m.get("path") or [], "power": m.get("power") or "",
         **(weighed.get(m["id"]) or NOT_WEIGHED),
         "proof": [_proof(b, m["id"], seen=m["id"] in ids) for b, ids in looked_at
                   if m["id"] in ids or b.key.nsg_id in (m.get("guards") or ())]}
        for m in plan.get("machines") or ()
    ] + [
        {"id": one, "path": [], "power": "", **NOT_WEIGHED,
         "proof": [_proof(b, one, seen=True) for b, ids in looked_at if one in ids]}
        for one in fronts
    ]


def _proof(block: Block, machine: str, *, seen: bool) -> dict[str, Any]:
    """What is known of the block for this machine alone: one of a pool may be past it, and the others not."""
    nics = {t.nic_id for t in block.targets if t.machine_id == machine}
    standing = block.state in (BlockState.ACTIVE, BlockState.SHADOWED)
    weak = next((w for w in block.weak if w.nic_id in nics), None) if standing else None
    outcome, detail, rule = block.state.value, block.detail, block.shadowed_by
    if weak is not None:
        outcome, detail = weak.outcome, weak.detail
        rule = weak.rule if weak.outcome == Outcome.SHADOWED else ""
    elif seen and block.state is BlockState.SHADOWED and block.each and block.weak:
        outcome, detail, rule = BlockState.ACTIVE.value, "", ""
    return {
        "direction": block.key.direction.value, "address": block.key.address, "guard": block.key.nsg_id,
        "outcome": outcome, "rule": block.rule, "shadowedBy": rule,
        "detail": detail if seen else UNSEEN,
        "proven": utc(block.proven) if block.proven and seen else None,
    }


def with_traces(machines: Sequence[Mapping[str, Any]], tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """The machines with what the logs showed: a flow record outweighs what was thought before it was read."""
    looked = next((t for t in tasks if t.step == LOG_STEP and t.state is TaskState.DONE and t.marks), None)
    if looked is None:
        return [dict(m) for m in machines]
    found = []
    for m in machines:
        hits = [s.text for s in looked.signs if s.machine == m["id"] and s.weight is not Weight.NOTE]
        reasons = [r for r in m["reasons"] if r != NOT_LOOKED_AT]
        said = [f"the logs show it: {h}" for h in hits[:2]] or [
            "what was read of the logs shows nothing of it, and there is more"
            if CUT in looked.marks
            else "the logs that are collected show nothing of it"
        ]
        found.append({**m, "likelihood": Likelihood.LIKELY.value if hits else m["likelihood"],
                      "reasons": [*said, *reasons]})
    return found


def expected(
    plan: Plan, nsgs: Mapping[str, Nsg], policy: Policy, ownership: Ownership, managed: Managed = UNMANAGED
) -> list[dict[str, Any]]:
    """The machines of a plan that is not carried out: what the proof of each block would find."""
    found: dict[str, list[dict[str, Any]]] = {}
    for block in plan.blocks:
        nsg = with_wanted(nsgs[block.key.nsg_id], block.key, policy, ownership)
        over = managed if kind_of(nsg.id) != WAF_POLICY else UNMANAGED
        for target in block.targets:
            proof = prove(nsg, block.key, [target], ownership, over)
            found.setdefault(target.machine_id, []).append({
                "direction": block.key.direction.value, "address": block.key.address,
                "guard": block.key.nsg_id, "outcome": proof.outcome.value,
                "rule": "" if not proof.effective else proof.rule,
                "shadowedBy": proof.rule if proof.outcome is Outcome.SHADOWED else "",
                "detail": proof.detail, "proven": None})
    known = {m.id for m in plan.machines}
    return [
        {"id": m.id, "path": list(m.path), "power": m.power, **NOT_WEIGHED, "proof": found.get(m.id, [])}
        for m in plan.machines
    ] + [
        {"id": one, "path": [], "power": "", **NOT_WEIGHED, "proof": proofs}
        for one, proofs in found.items() if one not in known
    ]
