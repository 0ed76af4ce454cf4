"""One ARM request, taken apart, and the answer to it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from sandbox.arm.errors import ArmError, bad
from sandbox.arm.state import Operation, Resource, State

CANONICAL = {
    t.lower(): t
    for t in (
        "Microsoft.Network/networkSecurityGroups", "Microsoft.Network/virtualNetworks",
        "Microsoft.Network/networkInterfaces", "Microsoft.Network/publicIPAddresses",
        "Microsoft.Network/publicIPPrefixes", "Microsoft.Network/loadBalancers",
        "Microsoft.Network/applicationSecurityGroups", "Microsoft.Network/applicationGateways",
        "Microsoft.Compute/virtualMachines", "Microsoft.Compute/virtualMachines/extensions",
        "Microsoft.Compute/virtualMachines/runCommands",
        "Microsoft.Network/networkSecurityGroups/securityRules",
        "Microsoft.Network/networkSecurityGroups/defaultSecurityRules",
        "Microsoft.Network/virtualNetworks/subnets",
        "Microsoft.Network/virtualNetworks/virtualNetworkPeerings",
        "Microsoft.Network/networkInterfaces/ipConfigurations",
        "Microsoft.Network/ApplicationGatewayWebApplicationFirewallPolicies",
        "Microsoft.Network/natGateways", "Microsoft.Compute/virtualMachineScaleSets",
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommands",
        "Microsoft.Network/loadBalancers/backendAddressPools",
        "Microsoft.Network/loadBalancers/inboundNatRules",
        "Microsoft.Network/azureFirewalls", "Microsoft.Network/firewallPolicies",
        "Microsoft.Network/firewallPolicies/ruleCollectionGroups",
        "Microsoft.Network/firewallPolicies/firewallPolicyDrafts",
        "Microsoft.Network/firewallPolicies/ruleCollectionGroups/ruleCollectionGroupDrafts",
        "Microsoft.Network/ipGroups",
    )
}


@dataclass(frozen=True)
class Caller:
    """Whose token it is. `upn` is set for people."""

    name: str
    upn: str = ""


@dataclass
class Answer:
    """Status, JSON body (None: empty), headers."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None


@dataclass
class Call:
    """A request for `/subscriptions/{sub}[/resourceGroups/{group}]/providers/{ns}/{type}/{name}…`."""

    state: State
    method: str
    url: str
    base: str
    api: str
    subscription: str
    group: str
    namespace: str
    parts: list[str]
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    caller: Caller

    @property
    def types(self) -> list[str]:
        """The type segments."""
        return self.parts[0::2]

    @property
    def names(self) -> list[str]:
        """The name segments."""
        return self.parts[1::2]

    @property
    def kind(self) -> str:
        """Such as `microsoft.network/networksecuritygroups/securityrules`."""
        return "/".join([self.namespace, *self.types]).lower()

    @property
    def root_kind(self) -> str:
        """The top-level type."""
        return f"{self.namespace}/{self.types[0]}".lower()

    @property
    def scope(self) -> str:
        """The subscription or resource group that the request is in."""
        base = f"/subscriptions/{self.subscription}"
        return f"{base}/resourceGroups/{self.group}" if self.group else base

    def id_of(self, depth: int) -> str:
        """The id down to the n-th resource of the path, in the request's casing of names."""
        kind = CANONICAL.get(f"{self.namespace}/{self.types[0]}".lower(),
                             f"{self.namespace}/{self.types[0]}")
        provider, first = kind.split("/", 1)
        out = f"{self.scope}/providers/{provider}/{first}/{self.names[0]}"
        for n in range(1, depth):
            full = "/".join([kind, *self.types[1 : n + 1]]).lower()
            canonical = CANONICAL.get(full, full).rsplit("/", 1)[1]
            out += f"/{canonical}/{self.names[n]}"
        return out

    @property
    def id(self) -> str:
        """The id of what the path names."""
        return self.id_of(len(self.names))

    @property
    def is_list(self) -> bool:
        """The path ends in a type."""
        return len(self.parts) % 2 == 1

    def json(self) -> dict[str, Any]:
        """The body. 400 if it is no object."""
        try:
            body = json.loads(self.raw or b"")
        except ValueError:
            raise ArmError(400, "InvalidRequestContent", "The request content was invalid and "
                           "could not be deserialized.", gateway=True) from None
        if not isinstance(body, dict):
            raise ArmError(400, "InvalidRequestContent", "The request content is not an object.",
                           gateway=True)
        return body

    def replacing(self) -> tuple[dict[str, Any], Resource | None]:
        """A PUT's body, and what it replaces: a proper name, and If-Match where there is something."""
        check_name(self.names[0])
        body = self.json()
        old = self.state.get(self.id)
        if old is not None:
            self.check_match(old)
        return body, old

    def check_match(self, resource: Resource) -> None:
        """If-Match, where the sandbox honours it."""
        sent = self.headers.get("if-match", "*")
        if sent != "*" and self.state.tuning.if_match and sent != resource.etag:
            raise ArmError(
                412, "PreconditionFailed", "Precondition failed.",
                details=[{
                    "code": "PreconditionFailedEtagMismatch",
                    "message": f"Etag provided in if-match header {sent} does not match etag "
                               f"{resource.etag} of resource {resource.id} in NRP data store.",
                }],
            )

    def operation_headers(
        self, op: Operation, *, location: bool = False, retry_after: bool = True
    ) -> dict[str, str]:
        """Azure-AsyncOperation and its companions, in the provider's form."""
        base = f"{self.base}/subscriptions/{self.subscription}/providers/{op.provider}"
        url = f"{base}/locations/{op.location}/{op.segment}/{op.id}"
        headers = {"azure-asyncnotification": "Enabled"}
        if op.provider == "Microsoft.Compute":
            partition = f"p={op.id}&" if op.api >= "2022-01-01" else ""
            headers["azure-asyncoperation"] = f"{url}?{partition}api-version={op.api}"
            if location:
                headers["location"] = f"{url}?{partition}monitor=true&api-version={op.api}"
        else:
            headers["azure-asyncoperation"] = f"{url}?api-version={op.api}"
            if location:
                results = f"{base}/locations/{op.location}/{op.segment[:-1]}Results/{op.id}"
                headers["location"] = f"{results}?api-version={op.api}"
        if retry_after and self.state.tuning.retry_after and op.retry_after:
            headers["retry-after"] = str(op.retry_after)
        return headers


NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")


def check_name(name: str) -> None:
    """Microsoft.Network's names."""
    if not NAME.fullmatch(name):
        raise bad(
            "InvalidResourceName",
            f"Resource name {name} is invalid. The name can be up to 80 characters long. It must "
            "begin with a word character, and it must end with a word character or with '_'. The "
            "name may contain word characters or '.', '-', '_'.",
        )


def ref(resource_id: str) -> dict[str, str]:
    """A reference."""
    return {"id": resource_id}
