"""Where blocks are written: NSGs, and the WAF policies of application gateways, behind one face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from remediation.clock import Clock, Deadline
from remediation.cloud.cache import Kept
from remediation.cloud.clients import Clients
from remediation.cloud.network import Network, StillRunning
from remediation.errors import NotFound, PermanentError
from remediation.model import ResourceId
from remediation.nsg import Nsg, Rule, nsg_from_arm, same_effect, with_flush
from remediation.owned import Ownership
from remediation.topology import GATEWAY, WAF_POLICY, kind_of, waf_policies
from remediation.waf import guard_from_arm, with_rule

WHOLE_API = "2026-03-01"
"""The newest: what an older one does not show, a PUT of the whole would take away."""

GLIMPSE_SECONDS = 3.0
"""From the read for a plan to the commit, in one process."""


class Guards:
    """Reads guards, and writes our rules into them. One instance serves all threads."""

    def __init__(self, clients: Clients, network: Network, ownership: Ownership, clock: Clock) -> None:
        self._clients = clients
        self._network = network
        self._ownership = ownership
        self._seen: Kept[str, Nsg] = Kept(clock, GLIMPSE_SECONDS)

    def glimpse(self, guard_id: str) -> Nsg | None:
        """The NSG as it was read within the last moments, if it was, and not written by us since."""
        return self._seen.peek(guard_id)

    def read(self, guard_id: str, deadline: Deadline) -> Nsg:
        """The guard as it is. Raises NotFound."""
        if kind_of(guard_id) == WAF_POLICY:
            body = self._settled(guard_id, f"read WAF policy {guard_id}", deadline)
            guard = guard_from_arm(body, self._ownership)
            return replace(guard, partly={g: part for g in sorted(guard.nics)
                                          if (part := self._unseen(g, deadline))})
        nsg = self._network.read_nsg(guard_id, deadline)
        self._seen.put(guard_id, nsg)
        return nsg

    def put_rule(
        self, guard_id: str, rule: Rule, deadline: Deadline, unheard: Callable[[], None]
    ) -> None:
        """Write one rule of ours and wait until it is settled, or raise StillRunning. `unheard`: see
        `Network.put_rule`."""
        if kind_of(guard_id) == WAF_POLICY:
            self._write_policy(guard_id, rule.name, rule, deadline, unheard)
        else:
            self._seen.forget(guard_id)
            self._network.put_rule(guard_id, rule, deadline, unheard)

    def delete_rule(
        self, guard_id: str, name: str, deadline: Deadline, unheard: Callable[[], None]
    ) -> None:
        """Take one rule of ours out and wait until it is gone, or raise StillRunning."""
        if kind_of(guard_id) == WAF_POLICY:
            self._write_policy(guard_id, name, None, deadline, unheard)
        else:
            self._seen.forget(guard_id)
            self._network.delete_rule(guard_id, name, deadline, unheard)

    def flush(
        self, nsg_id: str, deadline: Deadline, unheard: Callable[[], None], *, on: bool
    ) -> None:
        """Write the NSG whole under its etag, equal but for `flushConnection`, and wait until it is settled.
        Raises Conflict if someone else wrote it between our reading and our writing."""
        parts = _parts(nsg_id)

        def begin() -> Mapping[str, str]:
            body, etag = self._whole(nsg_id, deadline)
            if nsg_from_arm(body).flushes is on:
                return {}  # an earlier try of ours has landed
            return self._clients.arm_put(
                parts.subscription, nsg_id, WHOLE_API, with_flush(body, on=on), etag, deadline)

        self._network.carry_out(f"PUT NSG {parts.name} with flushConnection {on}", parts.subscription, begin,
                                deadline, unheard)

    def _unseen(self, gateway: str, deadline: Deadline) -> str:
        """What of an application gateway no WAF policy sees, as it is now: a listener may have been added."""
        if kind_of(gateway) != GATEWAY:
            return ""
        parts = _parts(gateway)
        try:
            body = self._clients.arm_get(parts.subscription, gateway, WHOLE_API, deadline)
        except PermanentError as error:
            return f"whether WAF policies see all of {parts.name} is not known ({error})"
        unseen = waf_policies(body)[1]
        return f"no WAF policy sees {', '.join(unseen)} of {parts.name}" if unseen else ""

    # --- WAF policies: written whole, under the etag they were read with ---

    def _whole(self, resource_id: str, deadline: Deadline) -> tuple[dict[str, Any], str]:
        """The resource as ARM has it, and its etag."""
        parts = _parts(resource_id)
        body, headers = self._clients.arm_answer(parts.subscription, resource_id, WHOLE_API, deadline)
        return body, str(body.get("etag") or headers.get("ETag") or "")

    def _write_policy(
        self, policy_id: str, name: str, rule: Rule | None, deadline: Deadline, unheard: Callable[[], None]
    ) -> None:
        """Raises Conflict if someone else wrote it between our reading and our writing."""
        parts = _parts(policy_id)
        what = f"PUT WAF policy {parts.name} with{'' if rule else 'out'} {name}"

        def begin() -> Mapping[str, str]:
            body, etag = self._whole(policy_id, deadline)
            there = next((r for r in guard_from_arm(body, self._ownership).rules if r.name == name), None)
            if there is None if rule is None else _stands(there, rule):
                return {}  # an earlier try of ours has landed
            return self._clients.arm_put(
                parts.subscription, policy_id, WHOLE_API, with_rule(body, name, rule), etag, deadline)

        self._network.carry_out(what, parts.subscription, begin, deadline, unheard)
        self._settled(policy_id, what, deadline)

    def _settled(self, policy_id: str, what: str, deadline: Deadline) -> dict[str, Any]:
        """The policy once it is no longer being updated: what is still under way proves nothing, and not
        every version of Azure's names an operation to ask after."""
        while True:
            body = self._whole(policy_id, deadline)[0]
            state = str((body.get("properties") or {}).get("provisioningState") or "Succeeded")
            if state != "Updating":
                return body
            if deadline.left() <= self._network.poll_seconds:
                raise StillRunning(f"{what}: still {state}", "")
            deadline.clock.sleep(self._network.poll_seconds)


def _stands(there: Rule | None, rule: Rule) -> bool:
    """Is the rule there as it should be? In a policy whose last update failed it counts for nothing."""
    return there is not None and there.state != "Failed" and same_effect(there, rule)


def _parts(policy_id: str) -> ResourceId:
    parts = ResourceId.parse(policy_id)
    if parts is None:
        raise NotFound(f"{policy_id} is no resource id")
    return parts
