"""Azure's own view of a NIC's rules bears a block out, or says why not."""

from __future__ import annotations

from typing import Any

from remediation.effective import groups_from_arm, objection
from remediation.model import BlockKey, Direction, Target

NSG = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/networksecuritygroups/n"
TARGET = Target("vm", "nic-1", "subnet", ("10.0.0.4",))
OUT = BlockKey(NSG, Direction.OUTBOUND, "198.51.100.7")


def rule(name: str, priority: int, access: str = "Deny", **changes: Any) -> dict[str, Any]:
    return {
        "name": f"securityRules/{name}", "protocol": "All", "priority": priority, "access": access,
        "direction": "Outbound", "sourcePortRange": "0-65535", "destinationPortRange": "0-65535",
        "sourcePortRanges": ["0-65535"], "destinationPortRanges": ["0-65535"],
        "sourceAddressPrefix": "0.0.0.0/0", "sourceAddressPrefixes": ["0.0.0.0/0", "0.0.0.0/0"],
        "destinationAddressPrefix": "198.51.100.7/32",
        "destinationAddressPrefixes": ["198.51.100.7/32"], **changes,
    }


INTERNET = rule("AllowInternetOutBound", 65001, "Allow", destinationAddressPrefix="Internet",
                destinationAddressPrefixes=["Internet"],
                expandedDestinationAddressPrefix=["128.0.0.0/1", "32.0.0.0/3", "64.0.0.0/2"])


def view(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"value": [{"networkSecurityGroup": {"id": NSG.upper()}, "effectiveSecurityRules": rules}]}


def test_a_deny_before_the_default_allow_bears_the_block_out():
    assert objection(groups_from_arm(view(rule("ours", 150), INTERNET)), OUT, TARGET) == ""


def test_an_allow_that_comes_first_is_named():
    allow = rule("early", 100, "Allow", protocol="Tcp", destinationAddressPrefixes=["0.0.0.0/0"])
    against = objection(groups_from_arm(view(allow, rule("ours", 150), INTERNET)), OUT, TARGET)
    assert "by early" in against


def test_a_deny_that_azure_does_not_know_yet_is_no_block():
    assert "AllowInternetOutBound" in objection(groups_from_arm(view(INTERNET)), OUT, TARGET)


def test_a_guard_that_is_not_in_effect_is_no_block():
    assert "does not count the NSG" in objection(groups_from_arm({"value": []}), OUT, TARGET)


def test_rules_with_single_fields_only_are_read_too():
    plain = {k: v for k, v in rule("ours", 150).items() if not k.endswith(("Prefixes", "Ranges"))}
    assert objection(groups_from_arm(view(plain, INTERNET)), OUT, TARGET) == ""
