"""What ARM refuses of a security rule, and of an NSG's rules together.

Refusals and their bodies: recorded traffic and public issues. That an address family must not mix
in one rule is a guess of ours, on the strict side.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

from sandbox.arm.call import check_name
from sandbox.arm.errors import ArmError, bad
from sandbox.arm.state import Child

MAX_RULES, MAX_ADDRESSES = 1000, 4000
PROTOCOLS = {"*", "tcp", "udp", "icmp", "esp", "ah"}
LISTS = ("sourcePortRanges", "destinationPortRanges", "sourceAddressPrefixes",
          "destinationAddressPrefixes")
SINGLES = ("description", "protocol", "sourcePortRange", "destinationPortRange",
            "sourceAddressPrefix", "destinationAddressPrefix")
GROUPS = ("sourceApplicationSecurityGroups", "destinationApplicationSecurityGroups")


def checked(nsg_id: str, name: str, p: dict[str, Any], others: dict[str, Child]) -> Child:
    """A rule from its request, or ARM's refusal."""
    check_name(name)
    rule_id = f"{nsg_id}/securityRules/{name}"
    for field, allowed in (("protocol", PROTOCOLS), ("access", {"allow", "deny"}),
                           ("direction", {"inbound", "outbound"})):
        if str(p.get(field, "")).lower() not in allowed:
            raise bad("InvalidRequestFormat", f"Cannot parse the request: {field} of {rule_id} has "
                      f"the value '{p.get(field)}'.")
    priority = p.get("priority")
    if isinstance(priority, bool) or not isinstance(priority, int) or not 100 <= priority <= 4096:
        raise bad("SecurityRuleInvalidPriority", f"Security rule {rule_id} has invalid Priority. "
                  f"Value provided: {priority} Allowed range 100-4096.")
    if len(str(p.get("description") or "")) > 140:
        raise bad("SecurityRuleInvalidDescription", f"Security rule {rule_id} has a description of "
                  "more than 140 characters.")
    for other in others.values():
        if (other.properties["priority"] == priority
                and other.properties["direction"].lower() == p["direction"].lower()):
            raise bad("SecurityRuleConflict", f"Security rule {other.name} conflicts with rule "
                      f"{name}. Rules cannot have the same Priority and Direction. To learn more, "
                      "see aka.ms/nsgrules.")
    for side in ("source", "destination"):
        _check_side(rule_id, side, p)
    kept = {k: p[k] for k in (*SINGLES, *LISTS, *GROUPS, "access", "priority", "direction")
            if p.get(k) is not None}
    return Child(name, kept)


def _check_side(rule_id: str, side: str, p: dict[str, Any]) -> None:
    one, many = p.get(f"{side}AddressPrefix"), p.get(f"{side}AddressPrefixes") or []
    groups = p.get(f"{side}ApplicationSecurityGroups") or []
    if not one and not many and not groups:
        raise _bad_prefix(rule_id, "")
    if one and not _is_tag(one) and one != "*":
        _network(rule_id, one)
    networks = []
    title = f"{side.title()}AddressPrefix"
    for text in many:
        if text == "*" or _is_tag(text):
            raise bad("SecurityRuleParameterContainsUnsupportedValue",
                      f"Security rule parameter {title} for rule with Id {rule_id} cannot specify "
                      "existing VIRTUALNETWORK, INTERNET, AZURELOADBALANCER, '*' or system tags. "
                      f"Unsupported value used: {text}.")
        networks.append((_network(rule_id, text), text))
    if len({n.version for n, _ in networks}) > 1:
        raise _bad_prefix(rule_id, ", ".join(t for _, t in networks))
    networks.sort(key=lambda n: (int(n[0].network_address), n[0].prefixlen))
    for (a, x), (b, y) in itertools.pairwise(networks):
        if a.overlaps(b):
            raise bad("OverlappingSubnetsNotPermittedInSecurityRule",
                      f"Security rule parameter {title} for rule with Id {rule_id} contains "
                      f"overlapping subnets [{x}, {y}], which is not permitted.")
    for name in (f"{side}PortRange", f"{side}PortRanges"):
        values = p.get(name)
        for text in [values] if isinstance(values, str) else values or []:
            if not _is_port(text, plural=name.endswith("s")):
                raise bad("SecurityRuleInvalidPortRange", f"Security rule {rule_id} has invalid Port "
                          f"range. Value provided: {text}. Value should be an integer OR integer "
                          "range with '-' delimiter. Valid range 0-65535.")


def _is_tag(text: str) -> bool:
    """Service tags are words; anything with a digit first, a dot between digits or a colon is an
    address."""
    return text[:1].isalpha() and ":" not in text


def _network(rule_id: str, text: str) -> Any:
    try:
        if text.isascii() and text.isdigit():  # .NET reads a bare number as an address
            return ipaddress.ip_network(int(text) & 0xFFFFFFFF)
        return ipaddress.ip_network(text)
    except ValueError:
        raise _bad_prefix(rule_id, text) from None


def _bad_prefix(rule_id: str, text: str) -> ArmError:
    return bad("SecurityRuleInvalidAddressPrefix", f"Security rule {rule_id} has invalid Address "
               f"prefix. Value provided: {text}")


def _is_port(text: str, *, plural: bool) -> bool:
    if text == "*":
        return not plural
    low, dash, high = str(text).partition("-")
    try:
        a, b = int(low), int(high if dash else low)
    except ValueError:
        return False
    return 0 <= a <= b <= 65535


def check_limits(nsg_id: str, rules: dict[str, Child]) -> None:
    """The limits of an NSG as a whole."""
    if len(rules) > MAX_RULES:
        raise bad("SecurityRuleCountLimitReached",
                  "A security group cannot have more than 1000 security rules.")
    for side in ("source", "destination"):
        count = sum(
            len(r.properties.get(f"{side}AddressPrefixes") or ())
            + bool(r.properties.get(f"{side}AddressPrefix"))
            for r in rules.values()
        )
        if count > MAX_ADDRESSES:
            name = f"{side.title()}AddressPrefixes"
            raise bad(
                "SecurityRuleAddressesOrPortsPerSecurityGroupLimitReached",
                f"Network security group {nsg_id} has {count} {name}. A security group cannot have "
                f"more than 4000 {name} as per the limit "
                "MaxSecurityRuleAddressesOrPortsPerSecurityGroup.",
            )
