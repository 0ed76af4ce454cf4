"""Changes of a rule collection group, or of a firewall with classic rules, as raw JSON. Pure.

Azure has no resource for one rule: the whole is written under its etag. So nothing may pass through a model
that drops what it does not know: a body is changed in place, and all else stays as it was read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from remediation.errors import Invalid, NoCapacity
from remediation.firewall.rules import CLASSIC, KINDS, FlowRule, Kind, Where

type Body = dict[str, Any]

READ_ONLY = frozenset({"etag", "provisioningState", "size", "resourceGuid", "systemData"})
"""Azure's to say, wherever they stand. (A size is how big Azure finds a group.)"""
FREE = frozenset({"tags", "additionalProperties"})
"""What people may name anything in."""
FIRST_PRIORITY = 100


def to_write(body: Mapping[str, Any]) -> Body:
    """What a PUT sends: the body without what is Azure's to say."""
    written: Body = _stripped({k: v for k, v in body.items() if k != "type"})
    return written


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Equal in all that people wrote? Ids may be spelled in another casing."""
    return bool(_folded(to_write(one)) == _folded(to_write(other)))


def without(body: Mapping[str, Any], gone: Iterable[Where]) -> Body:
    """The body without these rules, and without a collection that they leave empty. A rule that is not there
    is none the less gone. Raises Invalid where a name stands for several rules: which one is meant?"""
    names = _names(gone)
    changed = copy.deepcopy(dict(body))
    there = [_name(kind, c, r) for kind, collections in _parts(changed) for c in collections
             for r in _rules_of(c)]
    double = next((n for n in names if there.count(n) > 1), None)
    if double is not None:
        raise Invalid(f"collection {double[1]} has several rules named {double[2] or 'nothing'}")
    for kind, collections in _parts(changed):
        for collection in list(collections):
            rules = _rules_of(collection)
            kept = [r for r in rules if _name(kind, collection, r) not in names]
            if len(kept) == len(rules):
                continue
            rules[:] = kept
            if not kept:
                collections.remove(collection)
    return changed


def with_restored(body: Mapping[str, Any], backup: Mapping[str, Any], gone: Iterable[Where]) -> Body:
    """The body with these rules put back as the backup has them, into the collections they were in, where
    they stood. What others changed since stays. Raises Invalid if something else has their place."""
    names = _names(gone)
    changed = copy.deepcopy(dict(body))
    for (kind, part), (_, old) in zip(
            _parts(changed, make=True), _parts(copy.deepcopy(dict(backup)), make=True), strict=True):
        for collection in old:
            back = [(at, r) for at, r in enumerate(_rules_of(collection))
                    if _name(kind, collection, r) in names]
            if back:
                _put_back(part, collection, back)
    return changed


def _put_back(part: list[Body], collection: Body, back: Sequence[tuple[int, Body]]) -> None:
    name = collection.get("name")
    here = next((c for c in part if c.get("name") == name), None)
    if here is None:
        priority = _priority(collection)
        if any(_priority(c) == priority for c in part):
            raise Invalid(f"collection {name} is gone, and its priority {priority} is taken by another")
        _rules_of(collection)[:] = [rule for _, rule in back]
        part.append(collection)
        return
    if _action(here) != _action(collection):
        raise Invalid(f"collection {name} is now one of {_action(here)}")
    rules = _rules_of(here)
    for at, rule in back:
        there = next((r for r in rules if r.get("name") == rule.get("name")), None)
        if there is None:
            rules.insert(min(at, len(rules)), rule)
        elif not same(there, rule):
            raise Invalid(f"collection {name} has another rule {rule.get('name')} by now")


def with_deny(body: Mapping[str, Any], rule: FlowRule, name: str) -> Body:
    """The body with a collection of ours just before the rule's own, which denies what the rule allows.
    Raises NoCapacity if no number is free there. What later rules would allow of it is denied, too."""
    changed = copy.deepcopy(dict(body))
    names = _names([rule.where])
    for kind, part in _parts(changed):
        found = [(c, r) for c in part for r in _rules_of(c) if _name(kind, c, r) in names]
        if len(found) > 1:
            raise Invalid(f"collection {rule.where.collection} has several rules named {rule.where.rule}")
        if not found or any(c.get("name") == name for c in part):
            continue
        collection, given = found[0]
        taken = {_priority(c) for c in part}
        before = (n for n in range(_priority(collection) - 1, FIRST_PRIORITY - 1, -1) if n not in taken)
        priority = next(before, None)
        if priority is None:
            raise NoCapacity(f"no priority is free before collection {rule.where.collection}")
        part.append(_like(collection, name, priority, {**copy.deepcopy(given), "name": "deny"}))
    return changed


def without_collections(body: Mapping[str, Any], prefix: str) -> Body:
    """The body without our collections, whose names begin so."""
    changed = copy.deepcopy(dict(body))
    for _, part in _parts(changed):
        part[:] = [c for c in part if not str(c.get("name") or "").startswith(prefix)]
    return changed


def _like(collection: Body, name: str, priority: int, rule: Body) -> Body:
    if "properties" in collection:
        return {"name": name, "properties": {
            "priority": priority, "action": {"type": "Deny"}, "rules": [rule]}}
    return {"ruleCollectionType": collection.get("ruleCollectionType"), "name": name, "priority": priority,
            "action": {"type": "Deny"}, "rules": [rule]}


# --- both shapes: a group has its collections flat, a classic firewall in three parts with properties ---


type _Name = tuple[Kind | None, object, object]


def _names(places: Iterable[Where]) -> set[_Name]:
    return {(w.kind, w.collection, w.rule) for w in places}


def _name(kind: Kind | None, collection: Body, rule: Body) -> _Name:
    """In a group a rule says its own kind; in a classic firewall its part does."""
    return (kind or KINDS.get(str(rule.get("ruleType") or "").lower()), str(collection.get("name") or ""),
            str(rule.get("name") or ""))


PARTS: Mapping[str, Kind | None] = {"ruleCollections": None, **CLASSIC}


def _parts(body: Body, *, make: bool = False) -> Iterator[tuple[Kind | None, list[Body]]]:
    """The lists of collections there are. `make`: all there may be; one is written only once something is
    put into it."""
    properties = body.setdefault("properties", {})
    for name, kind in PARTS.items():
        held = properties.get(name)
        if held or make:
            yield kind, held if held is not None else _Late(properties, name)


class _Late(list[Body]):
    def __init__(self, properties: Body, name: str) -> None:
        super().__init__()
        self._into = (properties, name)

    def append(self, one: Body) -> None:
        super().append(one)
        properties, name = self._into
        properties[name] = self


def _inner(collection: Body) -> Body:
    inner: Body = collection.get("properties", collection)
    return inner


def _rules_of(collection: Body) -> list[Body]:
    rules: list[Body] = _inner(collection).setdefault("rules", [])
    return rules


def _priority(collection: Body) -> int:
    return int(_inner(collection).get("priority") or 0)


def _action(collection: Body) -> str:
    return str((_inner(collection).get("action") or {}).get("type") or "")


def _stripped(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: v if k in FREE else _stripped(v) for k, v in node.items() if k not in READ_ONLY}
    return [_stripped(one) for one in node] if isinstance(node, list) else node


def _folded(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _folded(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_folded(one) for one in node]
    return node.lower() if isinstance(node, str) and node.lower().startswith("/subscriptions/") else node
