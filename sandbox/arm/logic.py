"""Microsoft.Logic/workflows, consumption plan: the address of a Request trigger, and the runs of a workflow.

What a run does is in `sandbox.workflow`; here are the ARM views of it. Form of the answers: the public
reference of the workflow API, 2019-05-01; that a disabled workflow's trigger says 404 is inferred.
"""

from __future__ import annotations

import hashlib

from sandbox.arm.call import Answer, Call
from sandbox.arm.errors import not_found
from sandbox.arm.state import State

KIND = "microsoft.logic/workflows"


def signature(workflow_id: str) -> str:
    """The secret part of a trigger's address."""
    return hashlib.sha256(f"sandbox {workflow_id.lower()}".encode()).hexdigest()[:43]


def callback(call: Call) -> Answer:
    """POST …/workflows/{w}/triggers/{t}/listCallbackUrl"""
    workflow = call.state.get(call.id_of(1))
    trigger = call.names[1]
    if workflow is None:
        raise not_found("Microsoft.Logic/workflows", call.names[0], call.group)
    if trigger not in workflow.body["properties"]["definition"]["triggers"]:
        raise not_found("Microsoft.Logic/workflows/triggers", trigger, call.group)
    name = hashlib.sha256(workflow.id.lower().encode()).hexdigest()[:32]
    base = f"{call.state.logic_base}/workflows/{name}/triggers/{trigger}/paths/invoke"
    sig = signature(workflow.id)
    return Answer(200, {
        "value": f"{base}?api-version=2016-10-01&sp=%2Ftriggers%2F{trigger}%2Frun&sv=1.0&sig={sig}",
        "method": "POST", "basePath": base,
        "queries": {"api-version": "2016-10-01", "sp": f"/triggers/{trigger}/run", "sv": "1.0", "sig": sig},
    })


def get_run(call: Call) -> Answer:
    """GET …/workflows/{w}/runs/{r}"""
    run = _run(call)
    return Answer(200, {"id": call.id, "name": call.names[1], "type": "Microsoft.Logic/workflows/runs",
                        "properties": run["properties"]})


def get_action(call: Call) -> Answer:
    """GET …/workflows/{w}/runs/{r}/actions/{a}"""
    action = _run(call)["actions"].get(call.names[2])
    if action is None:
        raise not_found("Microsoft.Logic/workflows/runs/actions", call.names[2], call.group)
    return Answer(200, {"id": call.id, "name": call.names[2], "properties": action,
                        "type": "Microsoft.Logic/workflows/runs/actions"})


def _run(call: Call) -> dict[str, dict[str, object]]:
    run = call.state.runs.get((call.id_of(1).lower(), call.names[1]))
    if run is None:
        raise not_found("Microsoft.Logic/workflows/runs", call.names[1], call.group)
    return run


def by_name(state: State, name: str) -> str:
    """The workflow whose trigger has this name in its address; '' if there is none."""
    return next((r.id for r in state.of_kind(KIND, "")
                 if hashlib.sha256(r.id.lower().encode()).hexdigest()[:32] == name), "")
