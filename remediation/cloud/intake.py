"""The way by which alerts come in, looked at from its beginning: workflow automations and the Logic App."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from remediation.clock import Deadline
from remediation.cloud.clients import Clients
from remediation.cloud.failures import translated
from remediation.cloud.graph import Graph
from remediation.cloud.machines import COMPUTE_API
from remediation.errors import Invalid
from remediation.rehearsal.forwarding import Forwarding, forwarding
from remediation.settings import is_loopback

LOGIC_API, AUTOMATIONS_API = "2019-05-01", "2023-12-01-preview"
TAKEN = (200, 202)
TRIGGER, ACTION = "manual", "Publish"
"""As `infra/modules/intake.bicep` names them."""
ENDED = ("Succeeded", "Failed", "Cancelled", "TimedOut", "Aborted", "Skipped", "Faulted")
_RUN = re.compile(r"[A-Za-z0-9]{1,100}")


class Intake:
    """What we ask of Microsoft.Security/automations and Microsoft.Logic. One instance serves all threads."""

    def __init__(self, clients: Clients, graph: Graph, workflow: str) -> None:
        self._clients = clients
        self._graph = graph
        self.workflow = workflow
        self.home = workflow.split("/")[2] if workflow else ""

    def forwarding(self, deadline: Deadline) -> Forwarding:
        """Which of the subscriptions with machines send their alerts on to our Logic App. The graph knows all
        at once; what it does not know of our own subscription is read there."""
        wanted = sorted({str(r["subscriptionId"]).lower()
                         for r in self._graph.rows("subscriptions_with_machines", deadline)})
        rows: list[Mapping[str, Any]] = list(self._graph.rows("automations", deadline))
        found = forwarding(rows, wanted, self.workflow)
        if self.home in (*found.without, *found.off):
            base = f"/subscriptions/{self.home}"
            own = self._clients.arm_pages(
                self.home, f"{base}/providers/Microsoft.Security/automations", AUTOMATIONS_API, {}, deadline)
            others = [r for r in rows if not str(r.get("id", "")).lower().startswith(f"{base}/")]
            found = forwarding([*others, *own], wanted, self.workflow)
        return found

    def machine(self, deadline: Deadline) -> str:
        """Any machine; '' if there is none. Raises Forbidden where none may be read: no graph says so."""
        for query in ("any_machine", "any_instance"):
            for row in self._graph.rows(query, deadline):
                return str(row["id"]).lower()
        path = f"/subscriptions/{self.home}/providers/Microsoft.Compute/virtualMachines"
        there = self._clients.arm_get(self.home, path, COMPUTE_API, deadline).get("value") or ()
        return next((str(m.get("id") or "").lower() for m in there), "")

    def send(self, alert: Mapping[str, Any], deadline: Deadline) -> str:
        """Send an alert to the Logic App as the automation does → the run it began, '' if it does not say.
        The address is a credential: no error and no log line shows it."""
        held, _ = self._clients.arm_send(
            "POST", f"{self.workflow}/triggers/{TRIGGER}/listCallbackUrl", LOGIC_API, deadline)
        url = str(held.get("value") or "")
        if not url.startswith("https://") and not is_loopback(url):
            raise Invalid("the Logic App gives no address for its trigger")
        with translated("send an alert to the Logic App"):
            status, headers = self._clients.post(url, alert, deadline)
        if status not in TAKEN:
            raise Invalid(f"the Logic App answers {status}")
        run = headers.get("x-ms-workflow-run-id", "")
        return run if _RUN.fullmatch(run) else ""

    def run(self, run: str, deadline: Deadline) -> tuple[bool, str] | None:
        """Did the run publish, and what was said; None while it goes on."""
        path = f"{self.workflow}/runs/{run}"
        held = self._properties(path, deadline)
        status = str(held.get("status") or "")
        if status not in ENDED:
            return None
        if status == "Succeeded":
            return True, ""
        action = self._properties(f"{path}/actions/{ACTION}", deadline)
        code = str(action.get("code") or held.get("code") or "")
        return False, f"{status}: {ACTION} {str(action.get('status') or 'unknown').lower()} ({code})"

    def _properties(self, path: str, deadline: Deadline) -> Mapping[str, Any]:
        body = self._clients.arm_get(path.split("/")[2], path, LOGIC_API, deadline)
        found = body.get("properties")
        return found if isinstance(found, dict) else {}
