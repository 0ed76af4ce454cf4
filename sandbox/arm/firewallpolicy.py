"""Firewall policies with their rule collection groups and drafts. Source of shapes: the recordings.

One update at a time: of a policy with its groups, of a base policy and those that inherit from it. A draft
enforces nothing until it is deployed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.arm.call import Answer, Call, check_name, ref
from sandbox.arm.errors import ArmError, bad, not_found
from sandbox.arm.firewall import (
    GROUPS,
    POLICY,
    SEGMENT,
    faulted,
    firewalls_of,
    idle,
    names,
    new_guid,
    on_failure,
)
from sandbox.arm.firewall import there as _there
from sandbox.arm.state import Child, Operation, Resource, State

POLICY_TYPE = "Microsoft.Network/FirewallPolicies"
GROUP_TYPE = f"{POLICY_TYPE}/RuleCollectionGroups"
DRAFT_TYPE, DRAFTS = f"{POLICY_TYPE}/FirewallPolicyDrafts", "firewallpolicydrafts"
GROUP_DRAFT_TYPE, GROUP_DRAFTS = f"{GROUP_TYPE}/RuleCollectionGroupDrafts", "rulecollectiongroupdrafts"
NOBODYS = "00000000-0000-0000-0000-000000000000"
LISTS = {
    "NetworkRule": ("sourceAddresses", "sourceIpGroups", "destinationAddresses", "destinationIpGroups",
                    "destinationFqdns"),
    "ApplicationRule": ("fqdnTags", "targetFqdns", "targetUrls", "sourceAddresses", "destinationAddresses",
                        "sourceIpGroups", "webCategories", "httpHeadersToInsert"),
    "NatRule": ("sourceAddresses", "sourceIpGroups"),
}
"""What is shown of a rule even where it was not given."""

# --- policies ---


def render_policy(state: State, policy: Resource, api: str = "") -> dict[str, Any]:
    """The policy as ARM shows it; `api` changes nothing here."""
    given = policy.body.get("properties") or {}
    p: dict[str, Any] = {
        "sku": given.get("sku") or {"tier": "Standard"},
        "childPolicies": [ref(one.id) for one in _inheriting(state, policy.id)],
        "ruleCollectionGroups": [ref(f"{policy.id}/ruleCollectionGroups/{g.name}")
                                 for g in policy.children.get(GROUPS, {}).values()],
        "firewalls": [ref(one.id) for one in firewalls_of(state, policy.id)],
        "threatIntelMode": "Alert",
        **{k: copy.deepcopy(v) for k, v in given.items() if k != "sku"},
        "provisioningState": policy.state,
    }
    return {"properties": p, "id": policy.id, "name": policy.name, "type": POLICY_TYPE, "etag": policy.etag,
            **{k: policy.body[k] for k in ("location", "tags", "identity") if k in policy.body}}


def _inheriting(state: State, policy_id: str) -> list[Resource]:
    return [one for one in state.of_kind(POLICY) if names(one, "basePolicy", policy_id)]


def put_policy(call: Call) -> Answer:
    """PUT the policy; its groups are resources of their own."""
    body, old = call.replacing()
    if old is not None:
        idle(call.state, _family(call.state, call.id))
    mine = ("provisioningState", "childPolicies", "ruleCollectionGroups", "firewalls", "size")
    properties = {k: copy.deepcopy(v) for k, v in (body.get("properties") or {}).items() if k not in mine}
    base = str((properties.get("basePolicy") or {}).get("id") or "")
    if base and call.state.get(base) is None:
        raise bad("InvalidResourceReference", f"Resource {base} referenced by {call.id} was not found.")
    policy = old or Resource(call.id, POLICY, {})
    policy.body = {**{k: body[k] for k in ("location", "tags", "identity") if k in body},
                   "properties": properties}
    policy.etag, policy.state = new_guid(), "Updating"
    call.state.put(policy)

    def finish() -> None:
        policy.state = "Succeeded"

    op = _begin(call, policy, "PutFirewallPolicyOperation", finish)
    return Answer(201 if old is None else 200, render_policy(call.state, policy),
                  call.operation_headers(op, retry_after=False))


def get_policy(call: Call) -> Answer:
    """GET the policy."""
    policy = _there(call, POLICY_TYPE)
    return Answer(200, render_policy(call.state, policy), {"etag": f'"{policy.etag}"'})


def delete_policy(call: Call) -> Answer:
    """DELETE the policy, unless something uses it."""
    policy = call.state.get(call.id)
    if policy is None:
        return Answer(204)
    used = [*firewalls_of(call.state, policy.id), *_inheriting(call.state, policy.id)]
    if used:
        raise bad("FirewallPolicyCannotBeDeletedWhenInUse", f"{policy.id} is in use by {used[0].id}.")
    call.state.drop(policy.id)
    return Answer(200)


# --- rule collection groups ---


def render_group(policy: Resource, group: Child) -> dict[str, Any]:
    """A rule collection group as ARM shows it."""
    p = {"priority": group.properties.get("priority"),
         "ruleCollections": [_collection(c) for c in group.properties.get("ruleCollections") or []],
         "provisioningState": group.state}
    return {"properties": p, "id": f"{policy.id}/ruleCollectionGroups/{group.name}", "name": group.name,
            "type": GROUP_TYPE, "etag": group.extra["etag"],
            **{k: policy.body[k] for k in ("location",) if k in policy.body}}


def _collection(given: Mapping[str, Any]) -> dict[str, Any]:
    one = copy.deepcopy(dict(given))
    action = one.get("action") or {}
    if str(action.get("type", "")).lower() == "dnat":
        one["action"] = {"type": "Dnat"}
    one["rules"] = [_rule(r) for r in one.get("rules") or []]
    return one


def _rule(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(given.get("ruleType"))
    shown: dict[str, Any] = {name: [] for name in LISTS.get(kind, ())} | dict(given)
    if kind == "ApplicationRule":
        shown.setdefault("terminateTLS", False)
    if kind == "NetworkRule":
        shown.setdefault("ipv6Rule", False)
    return copy.deepcopy(shown)


def put_group(call: Call) -> Answer:
    """PUT a group: a full replacement of its collections."""
    policy = _owner(call)
    name = call.names[1]
    check_name(name)
    groups = policy.children.setdefault(GROUPS, {})
    old = groups.get(name.lower())
    idle(call.state, _family(call.state, policy.id))
    if old is not None:
        _check_match(call, old.extra["etag"])
    properties = {k: v for k, v in (call.json().get("properties") or {}).items()
                  if k not in ("provisioningState", "size")}
    _check_group(call, policy, name, properties)
    group = old or Child(name, {})
    group.properties = properties
    group.state = "Updating"
    group.extra["etag"] = new_guid()
    groups[name.lower()] = group
    call.state.version += 1

    def finish() -> None:
        group.state = "Succeeded"
        group.extra["etag"] = new_guid()

    op = _begin(call, policy, "PutFirewallPolicyRuleCollectionGroupOperation", finish, group)
    return Answer(201 if old is None else 200, render_group(policy, group),
                  call.operation_headers(op, retry_after=False))


def get_group(call: Call) -> Answer:
    """GET a group."""
    policy = _owner(call)
    group = _group_of(call, policy)
    return Answer(200, render_group(policy, group), {"etag": f'"{group.extra["etag"]}"'})


def list_groups(call: Call) -> Answer:
    """GET all groups of a policy."""
    policy = _owner(call)
    return Answer(200, {"value": [render_group(policy, g) for g in policy.children.get(GROUPS, {}).values()]})


def delete_group(call: Call) -> Answer:
    """DELETE a group."""
    policy = _owner(call)
    groups = policy.children.get(GROUPS, {})
    group = groups.get(call.names[1].lower())
    if group is None:
        return Answer(204)
    idle(call.state, _family(call.state, policy.id))
    shown = render_group(policy, group)
    op = _begin(call, policy, "DeleteFirewallPolicyRuleCollectionGroupOperation",
                lambda: groups.pop(group.name.lower(), None))
    return Answer(202, shown, call.operation_headers(op, location=True, retry_after=False))


def _check_group(call: Call, policy: Resource, name: str, properties: Mapping[str, Any]) -> None:
    """What Azure refuses. The codes are inferred: no such refusal was recorded."""
    priority = properties.get("priority")
    if not isinstance(priority, int) or not 100 <= priority <= 65000:
        raise bad("FirewallPolicyRuleCollectionGroupInvalidPriorityValue",
                  f"Priority of {name} must be from 100 to 65000.")
    others = [g for key, g in policy.children.get(GROUPS, {}).items() if key != name.lower()]
    if any(g.properties.get("priority") == priority for g in others):
        raise bad("FirewallPolicyRuleCollectionGroupInvalidPriorityValue",
                  f"Another group of {policy.id} has priority {priority}.")
    collections = properties.get("ruleCollections") or []
    priorities, names = [c.get("priority") for c in collections], [c.get("name") for c in collections]
    if len(set(priorities)) < len(priorities) or len(set(names)) < len(names):
        raise bad("FirewallPolicyRuleCollectionGroupInvalidRuleCollection",
                  f"Names and priorities of the collections of {name} must be unique.")
    for one in collections:
        for rule in one.get("rules") or []:
            for group in (*(rule.get("sourceIpGroups") or ()), *(rule.get("destinationIpGroups") or ())):
                call.state.access.check(call.caller.name, "Microsoft.Network/ipGroups/join/action", group)
                if call.state.get(group) is None:
                    raise bad("InvalidResourceReference",
                              f"Resource {group} referenced by {call.id} was not found.")


# --- drafts: nothing is enforced by them until the policy is deployed ---


def put_draft(call: Call) -> Answer:
    """PUT the draft of a policy."""
    policy = _owner(call)
    old = policy.facts.get("draft")
    given = call.json()
    properties = {"threatIntelMode": "Unknown", **(given.get("properties") or {})}
    policy.facts["draft"] = {"etag": new_guid(), "properties": properties}
    return Answer(201 if old is None else 200, _draft(policy))


def get_draft(call: Call) -> Answer:
    """GET the draft of a policy."""
    policy = _owner(call)
    if "draft" not in policy.facts:
        raise not_found(DRAFT_TYPE, "/".join(call.names), call.group)
    return Answer(200, _draft(policy), {"etag": f'"{policy.facts["draft"]["etag"]}"'})


def delete_draft(call: Call) -> Answer:
    """DELETE the draft of a policy, and those of its groups."""
    policy = _owner(call)
    return Answer(200 if _drop_drafts(policy) else 204)


def _draft(policy: Resource) -> dict[str, Any]:
    held = policy.facts["draft"]
    return {"properties": copy.deepcopy(held["properties"]),
            "id": f"{policy.id}/firewallPolicyDrafts/default", "name": policy.name, "type": DRAFT_TYPE,
            "etag": held["etag"],
            **{k: policy.body[k] for k in ("location",) if k in policy.body}}


def put_group_draft(call: Call) -> Answer:
    """PUT the draft of a group."""
    policy = _owner(call)
    group = _group_of(call, policy)
    old = group.extra.get("draft")
    properties = {k: v for k, v in (call.json().get("properties") or {}).items()
                  if k not in ("provisioningState", "size")}
    group.extra["draft"] = {"etag": new_guid(), "properties": properties}
    return Answer(201 if old is None else 200, {"properties": _drafted(properties), "etag": NOBODYS})


def get_group_draft(call: Call) -> Answer:
    """GET the draft of a group."""
    policy = _owner(call)
    group = _group_of(call, policy)
    held = group.extra.get("draft")
    if held is None:
        raise not_found(GROUP_DRAFT_TYPE, "/".join(call.names), call.group)
    return Answer(200, {
        "properties": _drafted(held["properties"]),
        "id": f"{policy.id}/ruleCollectionGroups/{group.name}/ruleCollectionGroupDrafts/default",
        "name": group.name, "type": GROUP_DRAFT_TYPE, "etag": held["etag"],
        **{k: policy.body[k] for k in ("location",) if k in policy.body}}, {"etag": f'"{held["etag"]}"'})


def _drafted(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"priority": properties.get("priority"),
            "ruleCollections": [_collection(c) for c in properties.get("ruleCollections") or []]}


def deploy(call: Call) -> Answer:
    """POST deploy: what was drafted is enforced."""
    policy = call.state.get(call.id)
    if policy is None:
        raise not_found(POLICY_TYPE, call.names[0], call.group)
    idle(call.state, _family(call.state, policy.id))
    policy.state = "Updating"
    groups = list(policy.children.get(GROUPS, {}).values())

    def finish() -> None:
        for group in groups:
            if "draft" in group.extra:
                group.properties = group.extra["draft"]["properties"]
                group.extra["etag"] = new_guid()
        drafted = {k: v for k, v in policy.facts.get("draft", {}).get("properties", {}).items()
                   if v != "Unknown"}
        policy.body["properties"] = {**(policy.body.get("properties") or {}), **drafted}
        policy.etag, policy.state = new_guid(), "Succeeded"
        _drop_drafts(policy)

    op = _begin(call, policy, "DeployFirewallPolicyDraftOperation", finish)
    headers = call.operation_headers(op, retry_after=False)
    return Answer(202, None, {**headers, "location": headers["azure-asyncoperation"]})


def _drop_drafts(policy: Resource) -> bool:
    there = policy.facts.pop("draft", None) is not None
    for group in policy.children.get(GROUPS, {}).values():
        there = group.extra.pop("draft", None) is not None or there
    return there


# --- what they share ---


def _owner(call: Call) -> Resource:
    policy = call.state.get(call.id_of(1))
    if policy is None:
        raise not_found(POLICY_TYPE, call.names[0], call.group)
    return policy


def _group_of(call: Call, policy: Resource) -> Child:
    group = policy.children.get(GROUPS, {}).get(call.names[1].lower())
    if group is None:
        raise not_found(GROUP_TYPE, "/".join(call.names[:2]), call.group)
    return group


def _check_match(call: Call, etag: str) -> None:
    """If-Match, quoted as the header has it or bare as the body does."""
    sent = call.headers.get("if-match", "*")
    if sent != "*" and call.state.tuning.if_match and sent.strip('"') != etag:
        raise ArmError(412, "PreconditionFailed", "Precondition failed.", details=[{
            "code": "PreconditionFailedEtagMismatch",
            "message": f"Etag provided in if-match header {sent} does not match etag {etag} of resource "
                       f"{call.id} in NRP data store."}])


def _family(state: State, policy_id: str) -> list[str]:
    """A policy, its base and those that inherit from it, and their firewalls: updated one at a time."""
    policy = state.get(policy_id)
    given = (policy.body.get("properties") or {}) if policy else {}
    base = str((given.get("basePolicy") or {}).get("id") or "")
    near = [policy_id, *([base] if base else []), *(one.id for one in _inheriting(state, policy_id))]
    return [*near, *(f.id for one in near for f in firewalls_of(state, one))]


def _begin(call: Call, policy: Resource, name: str, finish: Any, group: Child | None = None) -> Operation:
    """An update of a policy: its firewalls take it over, and one of them may be unable to."""
    firewalls = [f for one in (policy, *_inheriting(call.state, policy.id))
                 for f in firewalls_of(call.state, one.id)]
    for firewall in firewalls:
        firewall.state = "Updating"

    def done() -> None:
        finish()
        for firewall in firewalls:
            firewall.state = "Succeeded"
            firewall.touch()

    op = call.state.begin(policy.id, name, "Microsoft.Network", policy.location, call.api, done,
                          retry_after=0)
    op.segment = SEGMENT
    op.error = faulted(firewalls, f"Put on Firewall Policy {policy.name}", "FirewallPolicyUpdateFailed")
    on_failure(op, [*firewalls, *([group] if group else [policy])])
    return op




def graph_rows(state: State) -> Iterator[dict[str, Any]]:
    """Rule collection groups, which Resource Graph has in a table of its own."""
    for policy in state.of_kind(POLICY):
        for group in policy.children.get(GROUPS, {}).values():
            yield {**render_group(policy, group), "type": GROUP_TYPE.lower()}
