"""POST …/resourceGroups/{group}/moveResources: resources get new ids, and all that points to them
follows. Rules, subnets and other children move with their parent.
"""

from __future__ import annotations

import re
from typing import Any

from sandbox.arm.call import Answer
from sandbox.arm.errors import ArmError, no_group
from sandbox.arm.state import State


def move(state: State, body: dict[str, Any]) -> Answer:
    """All or nothing → 202; the move is done when the answer is there."""
    target = str(body.get("targetResourceGroup", ""))
    if target.lower() not in state.groups:
        raise no_group(target.rpartition("/")[2])
    ids = [str(r) for r in body.get("resources") or []]
    missing = [r for r in ids if state.get(r) is None]
    if missing or not ids:
        raise ArmError(404, "ResourceNotFound", f"The resources {missing} were not found.",
                       gateway=True)
    new = {old: f"{target}/providers/{old.split('/providers/', 1)[1]}" for old in ids}
    for old in ids:
        resource = state.resources.pop(old.lower())
        resource.id = new[old]
        resource.touch()
        state.put(resource)
    for resource in state.resources.values():
        resource.body = _renamed(resource.body, new)
        resource.facts = _renamed(resource.facts, new)
        for children in resource.children.values():
            for child in children.values():
                child.properties = _renamed(child.properties, new)
    return Answer(202)


def _renamed(value: Any, new: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _renamed(v, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, new) for v in value]
    if isinstance(value, str):
        for old, now in new.items():
            if re.match(re.escape(old) + r"(/|$)", value, re.IGNORECASE):
                return now + value[len(old):]
    return value
