"""What exists: resources with etags, operations that settle, locks, and the token buckets.

Single-threaded by construction: only the event loop of the ARM server touches it.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.arm.access import Access

SECURITY_LOCATION = "centralus"


def new_etag() -> str:
    """As Microsoft.Network writes them."""
    return f'W/"{uuid.uuid4()}"'


@dataclass
class Resource:
    """One stored resource. `body` has location, tags, zones, sku…, and `properties` as requested.

    `children` hold what has no life of its own: an NSG's rules, a VNet's subnets and peerings.
    """

    id: str
    kind: str
    body: dict[str, Any]
    etag: str = field(default_factory=new_etag)
    state: str = "Succeeded"
    guid: str = field(default_factory=lambda: str(uuid.uuid4()))
    children: dict[str, dict[str, Child]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    deleting: bool = False

    @property
    def name(self) -> str:
        """The last part of the id."""
        return self.id.rpartition("/")[2]

    @property
    def group(self) -> str:
        """The resource group, in the casing of the id."""
        return self.id.split("/")[4]

    @property
    def location(self) -> str:
        """Lower-cased, without blanks, as in operation URLs."""
        return str(self.body.get("location", "westeurope")).lower().replace(" ", "")

    def touch(self) -> None:
        """Something in it changed."""
        self.etag = new_etag()


@dataclass
class Child:
    """A child resource stored inside its parent."""

    name: str
    properties: dict[str, Any]
    state: str = "Succeeded"
    guid: str = field(default_factory=lambda: str(uuid.uuid4()))
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Operation:
    """Work under way. `finish` is applied when it is done."""

    id: str
    target: str
    name: str
    provider: str
    location: str
    api: str
    due: float
    started: datetime
    finish: Callable[[], None]
    deletes: bool = False
    result: Any = None
    status: str = "InProgress"
    error: dict[str, Any] | None = None
    polls: int = 0
    retry_after: int = 0
    effect: Callable[[], dict[str, Any]] | None = None
    """What is in force from then on, for the record of effects."""
    segment: str = "operations"
    """Its part of the URL."""
    fail: Callable[[], None] | None = None
    """What an error leaves behind."""
    event: dict[str, Any] | None = None
    """What is said of it when it has succeeded."""


class Bucket:
    """ARM's token bucket: so deep, refilled at so many a second."""

    def __init__(self, depth: float, rate: float) -> None:
        self.depth, self.rate = depth, rate
        self.tokens, self.at = depth, time.monotonic()

    def take(self) -> float | None:
        """None if there was a token; else the seconds until there is one."""
        now = time.monotonic()
        self.tokens = min(self.depth, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return (1 - self.tokens) / self.rate if self.rate else 60.0


@dataclass
class Tuning:
    """How fast and how strict. Seconds."""

    settle: float = 1.0
    read: float = 0.0
    write: float = 0.0
    manual: bool = False
    """Operations finish only when told to (`Arm.settle`): recordings have their own pace."""
    retry_after: bool = True
    busy: str = "429"
    """A second write to a busy NSG: `429`, `409`, or `accept` (all three were recorded)."""
    if_match: bool = True
    graph_lag: float = 0.0
    throttle: bool = True
    reads: tuple[float, float] = (250, 25)
    writes: tuple[float, float] = (200, 10)
    deletes: tuple[float, float] = (200, 10)
    graph: tuple[float, float] = (15, 3)


class State:
    """The whole of one local Azure."""

    def __init__(self, tuning: Tuning | None = None) -> None:
        self.tuning = tuning or Tuning()
        self.resources: dict[str, Resource] = {}
        self.groups: dict[str, str] = {}
        self.subscriptions: dict[str, str] = {}
        self.operations: dict[str, Operation] = {}
        self.running: dict[str, Operation] = {}
        self.effects: deque[dict[str, Any]] = deque(maxlen=100_000)
        """When which rules came into force, in order: {"at", "nsg", "whole", "rules"}."""
        self.alerts: dict[str, dict[str, Any]] = {}
        self.onboarding = ""
        self.management_groups: dict[str, list[str]] = {}
        self.locks: dict[str, dict[str, Any]] = {}
        self.access = Access()
        self.activity: deque[dict[str, Any]] = deque(maxlen=20_000)
        self.gone_machines: set[str] = set()
        self.version = 0
        self.unseen: set[str] = set()
        """Ids, lower-cased, that the graph does not know yet."""
        self.graph_rows: dict[str, dict[str, Any]] = {}
        """By id, rows of the graph's other tables: {"table", "id", "name", "type", "properties"}."""
        self.logs: dict[str, dict[str, list[dict[str, Any]]]] = {}
        """Workspace → table → rows."""
        self.logs_denied: set[str] = set()
        self.ghosts: list[dict[str, Any]] = []
        """Rows that the graph still shows of what is gone."""
        self.runs: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        """Runs of Logic Apps, by workflow and name."""
        self.logic_base = ""
        """Where their triggers listen."""
        self.on_event: Callable[[dict[str, Any]], None] | None = None
        """Who hears of what is written and deleted, as Event Grid would say it."""
        self.pointers: tuple[int, Any] | None = None
        self.buckets: dict[str, Bucket] = {}

    # --- time ---

    def settle(self) -> None:
        """Finish all operations whose time has come."""
        if self.tuning.manual:
            return
        now = time.monotonic()
        for op in sorted((o for o in self.running.values() if o.due <= now), key=lambda o: o.due):
            self.finish(op)

    def finish(self, op: Operation) -> None:
        """Finish one operation."""
        if op.status != "InProgress":
            return
        op.status = "Failed" if op.error else "Succeeded"
        self.running.pop(op.id, None)
        if op.error and op.fail is not None:
            op.fail()
        if not op.error:
            op.finish()
            self.say(op.event)
            if op.effect is not None:
                late = max(0.0, time.monotonic() - op.due)
                self.effects.append({"at": time.time() - late, **op.effect()})
        self.version += 1

    def begin(
        self, target: str, name: str, provider: str, location: str, api: str,
        finish: Callable[[], None], *, deletes: bool = False, seconds: float | None = None,
        retry_after: int = 1, effect: Callable[[], dict[str, Any]] | None = None,
    ) -> Operation:
        """Start an operation."""
        settle = self.tuning.settle if seconds is None else seconds
        op = Operation(
            str(uuid.uuid4()), target.lower(), name, provider, location, api,
            time.monotonic() + settle, datetime.now(UTC), finish, deletes, retry_after=retry_after,
            effect=effect,
        )
        self.operations[op.id] = self.running[op.id] = op
        if len(self.operations) > 5000:
            for key in list(self.operations)[:1000]:
                if self.operations[key].status != "InProgress":
                    del self.operations[key]
        return op

    def say(self, event: dict[str, Any] | None) -> None:
        """Have it heard."""
        if event is not None and self.on_event is not None:
            self.on_event(event)

    def pending(self, prefix: str) -> Operation | None:
        """An operation under way on this resource or a child of it."""
        low = prefix.lower()
        for op in self.running.values():
            if op.target == low or op.target.startswith(low + "/"):
                return op
        return None

    # --- resources ---

    def get(self, resource_id: str) -> Resource | None:
        """By id, in any casing."""
        return self.resources.get(resource_id.lower())

    def put(self, resource: Resource) -> None:
        """Store."""
        self.resources[resource.id.lower()] = resource
        self.version += 1

    def drop(self, resource_id: str) -> None:
        """Remove, with everything below it."""
        low = resource_id.lower()
        for key in [k for k in self.resources if k == low or k.startswith(low + "/")]:
            del self.resources[key]
        self.version += 1

    def of_kind(self, kind: str, scope: str = "") -> Iterator[Resource]:
        """All resources of a type under a scope, in the order of their making."""
        low = scope.lower()
        for key, resource in self.resources.items():
            if resource.kind == kind and (not low or key.startswith(low + "/")):
                yield resource

    def add_group(self, subscription: str, group: str, location: str = "westeurope") -> None:
        """Make a subscription and a resource group."""
        self.subscriptions.setdefault(subscription.lower(), f"Subscription {subscription[:8]}")
        self.groups.setdefault(f"/subscriptions/{subscription}/resourcegroups/{group}".lower(),
                               location)

    def has_group(self, subscription: str, group: str) -> bool:
        """Is the group there?"""
        return f"/subscriptions/{subscription}/resourcegroups/{group}".lower() in self.groups

    def lock_over(self, scope: str, levels: tuple[str, ...]) -> str | None:
        """The scope of a lock of one of these levels at or above `scope`."""
        low = scope.lower()
        for lock in self.locks.values():
            over = lock["scope"].lower()
            if lock["level"].lower() in levels and (low == over or low.startswith(over + "/")):
                return str(lock["scope"])
        return None

    def bucket(self, kind: str, who: str) -> Bucket:
        """The token bucket of a principal for a kind of request."""
        key = f"{kind}|{who}"
        if key not in self.buckets:
            depth, rate = getattr(self.tuning, kind)
            self.buckets[key] = Bucket(depth, rate)
        return self.buckets[key]
