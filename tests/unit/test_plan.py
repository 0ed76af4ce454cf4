"""decide: what is blocked where, what is skipped and why, what a person is asked first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.guardrails import Estate, Hold, Surroundings
from remediation.model import (
    Alert,
    BlockKey,
    BlockState,
    Direction,
    Front,
    Machine,
    Mapped,
    Mode,
    Nic,
    Plan,
    ResourceId,
    Verdict,
    utc,
)
from remediation.nsg import Nsg, Rule
from remediation.owned import Ownership
from remediation.plan import MOST_ADDRESSES, Scene, decide
from remediation.policy import DEFAULT_POLICY, Policy, Proxies, load_policy, parse_policy
from remediation.prefixes import PrefixSet
from remediation.waf import WAF_LIMITS
from tests.unit.raw import ATTACKER, VM, rest

NOW = datetime(2026, 1, 1, 3, tzinfo=UTC)
POLICY = load_policy()
OURS = Ownership("prod")
BASE = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/networksecuritygroups/"
SUBNET_NSG, NIC_NSG = BASE + "subnet", BASE + "nic"
AROUND = Surroundings(Estate(NOW, frozenset({"203.0.113.10"}), PrefixSet()))
NIC = Nic("/nic-1", "/vnet/subnets/app", ("10.0.0.4",), (), NIC_NSG, SUBNET_NSG)
MACHINE = Machine(VM.lower(), (NIC,), "PowerState/running")
IN, OUT = Direction.INBOUND, Direction.OUTBOUND


def nsg(nsg_id: str, *rules: Rule) -> Nsg:
    return Nsg(nsg_id, rules, frozenset({"/vnet/subnets/app"}), frozenset({"/nic-1"}))


SCENE = Scene(now=NOW, machines=(MACHINE,), around=AROUND,
              nsgs={SUBNET_NSG: nsg(SUBNET_NSG), NIC_NSG: nsg(NIC_NSG)})


def alert(kind: str = "Network_CommunicationWithC2", **changes: Any) -> Alert:
    return normalise(rest(kind, **changes))


def plan(one: Alert | None = None, scene: Scene = SCENE, *, verdict: Verdict = Verdict.CONFIRMED,
         policy: Policy = POLICY, cap: Mode = Mode.ENFORCE) -> Plan:
    return decide(one or alert(), verdict, scene, policy, cap, OURS)


def asks(found: Plan) -> str:
    return " ".join(a for b in found.blocks for a in b.ask)


def allow(priority: int = 100, direction: Direction = IN, **fields: Any) -> Rule:
    return Rule(name="allow", priority=priority, direction=direction, allow=True, **fields)


def test_a_confirmed_c2_alert_is_blocked_both_ways_the_decisive_first():
    found = plan()
    assert found.mode is Mode.ENFORCE
    assert found.acts
    assert [(b.key.direction, b.decisive) for b in found.blocks] == [(OUT, True), (IN, False)]
    assert {b.key.nsg_id for b in found.blocks} == {SUBNET_NSG}
    assert found.blocks[0].targets[0].addresses == ("10.0.0.4",)
    assert not asks(found)
    assert found.skipped == ()
    assert found.notices == ()


def test_the_nics_guard_is_taken_where_the_subnets_would_not_hold():
    shadowed = replace(SCENE, nsgs={**SCENE.nsgs, SUBNET_NSG: nsg(
        SUBNET_NSG, allow(direction=IN), replace(allow(direction=OUT), name="out"))})
    assert {b.key.nsg_id for b in plan(scene=shadowed).blocks} == {NIC_NSG}


def test_where_no_guard_holds_the_first_is_tried_and_the_proof_will_tell():
    rules = (allow(direction=IN), replace(allow(direction=OUT), name="out"))
    scene = replace(SCENE, nsgs={g: nsg(g, *rules) for g in (SUBNET_NSG, NIC_NSG)})
    assert {b.key.nsg_id for b in plan(scene=scene).blocks} == {SUBNET_NSG}


def test_the_policy_may_want_the_nics_guard_first():
    policy = replace(POLICY, guard="nic")
    assert {b.key.nsg_id for b in plan(policy=policy).blocks} == {NIC_NSG}


def test_two_machines_behind_one_guard_are_one_block():
    other = Machine("/vm-2", (replace(NIC, id="/nic-2", private_addresses=("10.0.0.5",)),))
    found = plan(scene=replace(SCENE, machines=(MACHINE, other)))
    assert len(found.blocks) == 2
    assert {t.machine_id for t in found.blocks[0].targets} == {VM.lower(), "/vm-2"}


@pytest.mark.parametrize(("machine", "reason"), [
    (Machine("/vm", ()), "has no network interface"),
    (Machine("/vm", (replace(NIC, nic_nsg="", subnet_nsg=""),)), "neither the network interface"),
    (Machine("/vm", (replace(NIC, nic_nsg="", subnet_nsg="/unread"),)), "cannot be read"),
])
def test_a_machine_without_a_guard_is_left_alone_and_told(machine: Machine, reason: str):
    found = plan(scene=replace(SCENE, machines=(machine,)))
    assert found.blocks == ()
    assert reason in found.skipped[0].reason
    assert reason in found.notices[0]


def test_a_resource_that_is_not_traced_is_told():
    found = plan(scene=replace(SCENE, machines=(), untraced=(("/lb", "not yet traced"),)))
    assert found.skipped[0].resource_id == "/lb"
    assert "/lb: not yet traced" in found.notices
    nothing = plan(scene=replace(SCENE, machines=()))
    assert "names no machine" in nothing.skipped[0].reason


@pytest.mark.parametrize("address", ["168.63.129.16", "203.0.113.10", "10.1.2.3"])
def test_an_address_never_to_block_is_skipped_with_the_reason(address: str):
    found = plan(alert(entities=[], extendedProperties={"attacker IP": address}))
    assert found.blocks == ()
    assert [s.address for s in found.skipped] == [address]
    assert found.skipped[0].reason


def test_an_alert_without_an_attacker_notifies():
    found = plan(alert(entities=[], extendedProperties={}))
    assert "names no attacker" in found.notices[0]


@pytest.mark.parametrize("status", ["Dismissed", "Resolved"])
def test_a_closed_alert_does_nothing(status: str):
    found = plan(alert(status=status))
    assert found.blocks == ()
    assert status in found.skipped[0].reason
    assert found.notices == ()


def test_a_sample_shows_what_it_would_do_and_acts_not():
    found = plan(alert("SIMULATED_Network_CommunicationWithC2"))
    assert found.mode is Mode.SIMULATE
    assert len(found.blocks) == 2
    assert not found.acts
    assert found.notices == ()


@pytest.mark.parametrize("kind", ["Network_TrafficFromUnrecommendedIP", "SSH_Outgoing_BF_OneToOne", "Odd"])
def test_some_alerts_only_notify(kind: str):
    found = plan(alert(kind, alertDisplayName="x"))
    assert found.mode is Mode.NOTIFY
    assert found.blocks == ()
    assert not found.acts
    assert "notify" in found.notices[0]


@pytest.mark.parametrize(("verdict", "said"), [
    (Verdict.UNKNOWN, "Defender does not confirm"), (Verdict.DIFFERENT, "with other content"),
])
def test_what_defender_does_not_confirm_waits_for_approval(verdict: Verdict, said: str):
    found = plan(verdict=verdict)
    assert found.mode is Mode.APPROVE
    assert found.acts
    assert all(said in " ".join(b.ask) for b in found.blocks)
    assert any(said in n for n in found.notices)
    assert any("wait for approval" in n for n in found.notices)


@pytest.mark.parametrize("cap", list(Mode))
def test_one_setting_caps_every_mode(cap: Mode):
    found = plan(cap=cap)
    assert found.mode is cap
    if cap is not Mode.ENFORCE:
        assert found.reasons == (f"RESPONDER_MODE caps at {cap}",)
    if cap is Mode.APPROVE:
        assert "RESPONDER_MODE" in asks(found)


def test_the_policy_itself_may_ask():
    found = plan(alert("VM_SshBruteForceFailed", alertDisplayName="x"))
    assert found.mode is Mode.APPROVE
    assert "the policy asks" in asks(found)
    assert [b.key.direction for b in found.blocks] == [IN]


def test_an_old_alert_asks_first():
    assert "long ago" in asks(plan(alert(timeGeneratedUtc="2025-12-20T00:00:00Z")))
    assert not asks(plan(alert(timeGeneratedUtc=None)))


def test_a_hold_asks_and_a_person_who_overrides_settles_it():
    held = replace(AROUND, holds={ATTACKER: Hold(ATTACKER, NOW + timedelta(hours=1), "ann", "ours", NOW)})
    assert "ann revoked" in asks(plan(scene=replace(SCENE, around=held)))
    assert not asks(plan(scene=replace(SCENE, around=held, override="bob")))


def test_override_never_settles_a_refusal():
    found = plan(alert(entities=[], extendedProperties={"attacker IP": "168.63.129.16"}),
                 replace(SCENE, override="bob"))
    assert found.blocks == ()


# --- caps -----------------------------------------------------------------------------------------


def many(n: int) -> Alert:
    return alert(extendedProperties={}, entities=[
        {"type": "ip", "address": f"198.51.100.{k}"} for k in range(1, n + 1)])


def test_addresses_beyond_the_cap_per_alert_ask_first():
    found = plan(many(12))
    asked = {b.key.address for b in found.blocks if b.ask}
    assert asked == {"198.51.100.11", "198.51.100.12"}


def test_addresses_beyond_what_an_alert_may_name_are_skipped_and_told():
    found = plan(many(MOST_ADDRESSES + 3))
    assert len({b.key.address for b in found.blocks}) == MOST_ADDRESSES
    assert [s.address for s in found.skipped] == ["198.51.100.51", "198.51.100.52", "198.51.100.53"]
    assert sum("beyond the 50" in n for n in found.notices) == 1


def test_addresses_beyond_the_cap_per_nsg_ask_first():
    policy = parse_policy(DEFAULT_POLICY.read_text().replace(
        "addresses_per_nsg = 500", "addresses_per_nsg = 3"))
    scene = replace(SCENE, live={SUBNET_NSG: frozenset({"198.51.100.1", "192.0.2.1"})})
    found = plan(many(3), scene, policy=policy)
    asked = {b.key.address for b in found.blocks if b.ask}
    assert asked == {"198.51.100.3"}


def test_new_blocks_beyond_the_hours_allowance_ask_first():
    found = plan(many(3), replace(SCENE, hour_room=2))
    assert sum(1 for b in found.blocks if b.ask) == 4
    assert "in an hour" in asks(found)


def test_blocks_that_exist_count_against_no_cap():
    scene = replace(SCENE, hour_room=0, live={SUBNET_NSG: frozenset({ATTACKER})})
    assert not asks(plan(scene=scene))


def test_a_policy_that_simulates_changes_nothing():
    policy = parse_policy('[guardrails]\nnever = []\n[alert.Network_CommunicationWithC2]\n'
                          'mode = "simulate"\nblock = ["outbound"]')
    found = plan(policy=policy)
    assert found.mode is Mode.SIMULATE
    assert not found.acts


# --- the nouns ------------------------------------------------------------------------------------


def test_a_block_is_known_by_what_it_is():
    first, second = plan().blocks[0].key, plan().blocks[0].key
    assert first.id == second.id
    assert first.id != replace(first, address="198.51.100.8").id
    assert first.id.isalnum()


def test_resource_ids_are_taken_apart_in_any_casing():
    parts = ResourceId.parse(VM)
    assert parts is not None
    assert parts.kind == "microsoft.compute/virtualmachines"
    assert str(parts) == VM.lower()
    assert ResourceId.parse("/subscriptions/x") is None


def test_modes_are_ordered_by_how_far_they_reach():
    assert [m.reach for m in Mode] == [0, 1, 2, 3]
    assert utc(NOW) == "2026-01-01T03:00:00.000Z"
    assert BlockState("active") is BlockState.ACTIVE


AGW = ("/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/g/providers/microsoft.network"
       "/applicationgateways/agw")
FRONT = Front(AGW, "agw", "/vnet/subnets/agw", BASE + "agw")
BEHIND = replace(NIC, hidden=(AGW,))


def behind(front: Front = FRONT, nic: Nic = BEHIND) -> Scene:
    guard = Nsg(BASE + "agw", (), frozenset({"/vnet/subnets/agw"}))
    return replace(SCENE, machines=(replace(MACHINE, nics=(nic,)),), fronts=(front,),
                   nsgs={**SCENE.nsgs, BASE + "agw": guard})


def places(found: Plan, direction: Direction) -> set[str]:
    return {b.key.nsg_id for b in found.blocks if b.key.direction is direction}


def test_what_comes_in_through_a_gateway_is_stopped_before_it_and_what_goes_out_behind_it():
    found = plan(scene=behind())
    assert places(found, IN) == {BASE + "agw"}
    assert places(found, OUT) == {SUBNET_NSG}
    (block,) = [b for b in found.blocks if b.key.direction is IN]
    assert [(t.machine_id, t.addresses) for t in block.targets] == [(AGW, ())]


def test_a_machine_whose_gateway_is_guarded_is_proven_for_what_comes_past_it():
    direct = replace(BEHIND, direct=True)
    hidden = {b.key.nsg_id: [t.hidden for t in b.targets]
              for b in plan(scene=behind(nic=direct)).blocks if b.key.direction is IN}
    assert hidden[SUBNET_NSG] == [""]
    alone = plan(scene=behind(replace(FRONT, guard=""), direct))
    hidden_by = [t.hidden for b in alone.blocks if b.key.direction is IN for t in b.targets]
    assert hidden_by == ["application gateway agw"]


def test_a_machine_that_is_reached_past_the_gateway_too_is_guarded_itself():
    assert places(plan(scene=behind(nic=replace(BEHIND, direct=True))), IN) == {BASE + "agw", SUBNET_NSG}
    assert places(plan(scene=behind(nic=NIC)), IN) == {BASE + "agw", SUBNET_NSG}


@pytest.mark.parametrize(("guard", "why"), [
    ("", "its subnet has no network security group"),
    (BASE + "else", "its network security group cannot be read"),
])
def test_a_gateway_without_a_guard_is_told_with_what_is_missing(guard: str, why: str):
    found = plan(scene=behind(replace(FRONT, guard=guard)))
    assert places(found, IN) == {SUBNET_NSG}, "better there than nowhere"
    assert any(why in n and "agw" in n for n in found.notices)


def test_a_machine_behind_another_gateway_keeps_its_own_block():
    other = replace(NIC, hidden=(AGW.replace(AGW, "/other"),))
    assert places(plan(scene=behind(nic=other)), IN) == {BASE + "agw", SUBNET_NSG}


def test_a_policy_that_blocks_outbound_only_leaves_the_gateway_alone():
    policy = replace(POLICY, rows={k: replace(r, block=(OUT,)) for k, r in POLICY.rows.items()})
    assert places(plan(scene=behind(), policy=policy), IN) == set()


# --- a gateway whose subnet has no guard: its WAF policies ---

WAF = ("/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/g/providers/microsoft.network"
       "/applicationgatewaywebapplicationfirewallpolicies/waf")
OPEN = replace(FRONT, guard="", wafs=(WAF,))


def shielded(front: Front = OPEN, waf: Nsg | None = None, nic: Nic = BEHIND) -> Scene:
    found = waf or Nsg(WAF, (), nics=frozenset({AGW}), limits=WAF_LIMITS)
    scene = behind(front, nic)
    return replace(scene, nsgs={**SCENE.nsgs, WAF: found})


def test_without_a_guard_before_it_a_gateway_is_shielded_by_its_waf_policy():
    found = plan(scene=shielded())
    assert places(found, IN) == {WAF}
    assert places(found, OUT) == {SUBNET_NSG}
    assert not found.notices


def test_a_guard_before_the_gateway_spares_its_policies():
    guard = Nsg(BASE + "agw", (), frozenset({"/vnet/subnets/agw"}))
    scene = shielded(replace(OPEN, guard=BASE + "agw"))
    assert places(plan(scene=replace(scene, nsgs={**scene.nsgs, BASE + "agw": guard})), IN) == {BASE + "agw"}


@pytest.mark.parametrize(("front", "waf", "why"), [
    (replace(OPEN, wafs=()), None, "it has no WAF policy"),
    (replace(OPEN, wafs=(), unseen=("listener http",)), None, "listener http has no WAF policy"),
    (replace(OPEN, wafs=(WAF + "2",)), None, "WAF policy waf2 cannot be read"),
    (OPEN, Nsg(WAF, (), limits=WAF_LIMITS), "WAF policy waf does not name the gateway"),
    (OPEN, Nsg(WAF, (), nics=frozenset({AGW}), limits=WAF_LIMITS, trouble="it only looks on"),
     "it only looks on"),
])
def test_what_would_stop_nobody_is_not_written_and_is_told(front: Front, waf: Nsg | None, why: str):
    found = plan(scene=shielded(front, waf))
    assert places(found, IN) == {SUBNET_NSG}, "better there than nowhere"
    (notice,) = [n for n in found.notices if "agw" in n]
    assert why in notice
    assert "its subnet has no network security group" in notice


def test_the_part_that_a_policy_sees_is_stopped_and_the_rest_is_told():
    found = plan(scene=shielded(replace(OPEN, unseen=("listener http",))))
    assert places(found, IN) == {WAF, SUBNET_NSG}
    assert any("some of what comes in" in n for n in found.notices)


# --- what is known is out of date, or does not show ---


def test_a_guard_that_does_not_know_the_interface_is_not_written_and_it_is_said():
    stale = {SUBNET_NSG: Nsg(SUBNET_NSG, ()), NIC_NSG: nsg(NIC_NSG)}
    assert places(plan(scene=replace(SCENE, nsgs=stale)), OUT) == {NIC_NSG}
    found = plan(scene=replace(SCENE, nsgs={**stale, NIC_NSG: Nsg(NIC_NSG, ())}))
    assert found.blocks == ()
    assert any("thought to be subnet and nic, which does not guard it" in n for n in found.notices)


def test_a_gateway_whose_guard_is_another_subnets_by_now_is_not_stopped_before():
    scene = behind()
    elsewhere = Nsg(BASE + "agw", (), frozenset({"/vnet/subnets/else"}))
    found = plan(scene=replace(scene, nsgs={**scene.nsgs, BASE + "agw": elsewhere}))
    assert BASE + "agw" not in places(found, IN)


def test_a_gateway_found_from_the_machines_side_is_complained_of_only_where_inbound_decides():
    front = replace(FRONT, guard="", named=False)
    assert not any("agw" in n for n in plan(scene=behind(front)).notices)
    inbound = alert("RDP_Incoming_BF_OneToOne")
    policy = replace(POLICY, rows={"rdp_incoming_bf_onetoone": replace(
        POLICY.row_for(alert()), block=(IN,))})
    assert any("agw" in n for n in plan(inbound, behind(front), policy=policy).notices)


def test_a_firewall_before_a_machine_hides_clients_and_no_gateway_makes_up_for_it():
    firewall = AGW.replace("applicationgateways/agw", "azurefirewalls/fw")
    found = plan(scene=behind(nic=replace(NIC, hidden=(AGW, firewall))))
    assert places(found, IN) == {BASE + "agw", SUBNET_NSG}
    (own,) = [b for b in found.blocks if b.key == BlockKey(SUBNET_NSG, IN, ATTACKER)]
    assert {t.hidden for t in own.targets} == {"application gateway agw, firewall fw"}


def test_proxies_of_the_policy_are_told_to_the_proof():
    policy = replace(POLICY, proxies=Proxies(before=("/vnet",), out=("/nic-1",)))
    targets = [t for b in plan(policy=policy).blocks for t in b.targets]
    assert {(t.hidden, t.proxied) for t in targets} == {("a proxy before it (policy, proxies)", True)}
    other = replace(POLICY, proxies=Proxies(before=("/vnet/subnets/ap",), out=("/nic",)))
    assert {(t.hidden, t.proxied) for b in plan(policy=other).blocks for t in b.targets} == {("", False)}
    front = plan(scene=behind(), policy=policy)
    assert {t.hidden for b in front.blocks if b.key.nsg_id == BASE + "agw" for t in b.targets} == {
        "a proxy before it (policy, proxies)"}


def test_a_machine_reached_in_two_ways_is_what_both_say():
    one = Machine("/vm", (replace(NIC, hidden=("/a",)), replace(NIC, id="/nic-2")), path=("lb", "vm"),
                  ports=(Mapped((1, 1), 2),), speaks_out=False)
    two = Machine("/vm", (replace(NIC, hidden=("/b", "/a"), direct=True), replace(NIC, id="/nic-3")),
                  path=("agw", "vm"), ports=(Mapped((3, 3), 4), Mapped((1, 1), 2)), speaks_out=True)
    both = one.merged(two)
    assert [(n.id, n.hidden, n.direct) for n in both.nics] == [
        ("/nic-1", ("/a", "/b"), True), ("/nic-2", (), False), ("/nic-3", (), False)]
    assert (both.path, both.speaks_out, len(both.ports)) == (("lb", "vm"), True, 2)
    assert one.merged(replace(two, speaks_out=None)).speaks_out is False
    assert replace(one, speaks_out=None).merged(replace(two, speaks_out=None)).speaks_out is None
