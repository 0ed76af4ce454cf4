"""Replays one recording to the sandbox's ARM, alone and in order, and to the echo model beside it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from sandbox.arm.adopt import adopt
from sandbox.arm.gateway import Arm
from sandbox.arm.state import State, Tuning
from sandbox.faults import Faults
from sandbox.identity import Tokens
from sandbox.log import Log
from tests.conformance.compare import Answer, differences, shape
from tests.conformance.echo import Echo
from tests.conformance.recordings import GROUPED, OPERATION, Interaction

HOST = "https://management.azure.com"


@dataclass
class Verdict:
    """One scored interaction."""

    interaction: Interaction
    problems: list[str]
    echo_status: bool
    echo_shape: bool
    echo: bool

    @property
    def matches(self) -> bool:
        """Nothing differs."""
        return not self.problems


@dataclass
class Replay:
    """One recording."""

    interactions: list[Interaction]
    verdicts: list[Verdict] = field(default_factory=list)
    _send: Callable[..., httpx.Response] = field(init=False)

    def run(self) -> list[Verdict]:
        """Send all of it."""
        self.state = State(Tuning(manual=True, throttle=False, busy="accept"))
        tokens = Tokens()
        arm = Arm(self.state, Faults(), tokens, Log())
        self.echo = Echo()
        self.operations: dict[str, str] = {}
        self.put: set[str] = set()
        self._create_groups()
        self._last_polls = self._plan_polls()
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(arm), base_url=HOST,
                headers={"authorization": f"Bearer {tokens.issue('recorder')}"},
            )
            self._send = lambda *args: runner.run(client.request(*args[:2], content=args[2]))
            for interaction in self.interactions:
                self._one(interaction)
            runner.run(client.aclose())
        return self.verdicts

    # --- before ---

    def _create_groups(self) -> None:
        for x in self.interactions:
            hit = GROUPED.search(x.url)
            if hit:
                self.state.add_group(hit["sub"], hit["group"])
            elif "/subscriptions/" in x.url:
                self.state.subscriptions.setdefault(x.url.split("/subscriptions/")[1].split("/")[0], "")

    def _plan_polls(self) -> dict[str, int]:
        """The number of the last poll of each recorded operation."""
        last: dict[str, int] = {}
        for x in self.interactions:
            hit = OPERATION.search(x.url)
            if hit:
                last[hit["id"].lower()] = x.i
        return last

    # --- one interaction ---

    def _one(self, x: Interaction) -> None:
        hit = OPERATION.search(x.url)
        self._finish_unpolled(x)
        if hit:
            self._poll(x, hit["id"].lower())
            return
        if x.code == "ResourceGroupNotFound":
            self._delete_group(x)
        before = self._known(x)
        self._prepare_references(x)
        if x.status == 200 and x.method == "GET" and not before:
            self._seed(x)
            return
        if not self._ours(x):
            self._opaque(x)
            return
        answer = self._ask(x)
        self._map_operation(x, answer)
        if x.scored:
            self._score(x, answer)

    def _ask(self, x: Interaction) -> Answer:
        response = self._send(x.method, HOST + x.path, x.raw_request or None)
        try:
            body = response.json() if response.content else None
        except ValueError:
            body = None
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, body)

    def _score(self, x: Interaction, answer: Answer) -> None:
        echoed = self.echo.ask(x.method, x.path, x.request)
        self.verdicts.append(Verdict(
            x, differences(x, answer), echoed.status == x.status,
            set(shape(echoed.body)) == set(shape(x.response)), not differences(x, echoed)))

    # --- state of the recording ---

    def _ours(self, x: Interaction) -> bool:
        return x.scored or "/publicipaddresses" in x.template.lower()

    def _known(self, x: Interaction) -> bool:
        """Has it been made here, or seen, before?"""
        path = x.path.partition("?")[0].rstrip("/").lower()
        if path.count("/subscriptions/") > 1:
            return True
        if x.method == "PUT":
            self.put.add(path)
        listing = len(path.partition("/providers/")[2].split("/")) % 2 == 0
        if listing and isinstance(x.response, dict) and "value" in x.response:
            ids = [str(v.get("id", "")).lower() for v in x.response["value"] if isinstance(v, dict)]
            return all(self._there(i) for i in ids)
        return self._there(path) or path in self.put

    def _there(self, path: str) -> bool:
        held = self.state.get(path)
        if held is not None:
            return not held.facts.get("stub")
        parent, _, name = path.rpartition("/")
        owner, _, kind = parent.rpartition("/")
        held = self.state.get(owner)
        return held is not None and name in held.children.get(kind, {})

    def _seed(self, x: Interaction) -> None:
        """First seen here: taken over from the recorded answer, and not scored."""
        bodies = x.response.get("value") if isinstance(x.response, dict) and "value" in x.response \
            else [x.response]
        for body in bodies or []:
            if isinstance(body, dict) and str(body.get("id", "")).startswith("/subscriptions/"):
                adopt(self.state, body)
        self.echo.seed(x.path, x.response)

    def _opaque(self, x: Interaction) -> None:
        """Kinds out of scope: what Azure answered is what there is, until it is deleted."""
        path = x.path.partition("?")[0]
        if x.method == "DELETE" and x.status < 300:
            self._end_later(x, path)
        elif x.method in ("PUT", "GET", "PATCH") and x.status in (200, 201) \
                and isinstance(x.response, dict) and x.response.get("id"):
            adopt(self.state, x.response)

    def _end_later(self, x: Interaction, path: str) -> None:
        """A deletion ends when its operation is recorded as done; at once if it is never polled."""
        names = [x.headers.get(h, "") for h in ("azure-asyncoperation", "location")]
        ids = [hit["id"].lower() for hit in map(OPERATION.search, names) if hit]
        polled = next((i for i in ids if i in self._last_polls), None)
        if polled is None:
            self.state.drop(path)
        else:
            op = self.state.begin(path, "Delete", "Microsoft.Network", "x", "x",
                                  lambda: self.state.drop(path), deletes=True)
            self.operations[polled] = op.id

    def _prepare_references(self, x: Interaction) -> None:
        """Opaque stand-ins for ids out of scope that a request refers to."""
        for resource_id in re.findall(r'"(/subscriptions/[^"]+)"', x.raw_request):
            low = resource_id.lower()
            if "/providers/" not in low or self.state.get(low) is not None:
                continue
            kind = "/".join(low.partition("/providers/")[2].split("/")[:2])
            if kind == "microsoft.network/applicationsecuritygroups":
                adopt(self.state, {"id": resource_id, "properties": {}})

    def _delete_group(self, x: Interaction) -> None:
        """The recording shows that the group is gone; the request that did it was not published."""
        hit = GROUPED.search(x.url)
        if hit is None:
            return
        key = f"/subscriptions/{hit['sub']}/resourcegroups/{hit['group']}".lower()
        if key in self.state.groups:
            for op in self.state.operations.values():
                self.state.finish(op)
            del self.state.groups[key]
            self.state.drop(key)

    # --- operations ---

    def _map_operation(self, x: Interaction, answer: Answer) -> None:
        for name in ("azure-asyncoperation", "location"):
            theirs = OPERATION.search(x.headers.get(name, ""))
            ours = OPERATION.search(answer.headers.get(name, ""))
            if theirs and ours:
                self.operations[theirs["id"].lower()] = ours["id"].lower()

    def _poll(self, x: Interaction, theirs: str) -> None:
        ours = self.operations.get(theirs)
        op = self.state.operations.get(ours or "")
        if op is None:
            return
        done = isinstance(x.response, dict) and x.response.get("status") in ("Succeeded", "Failed")
        if done or "operationresults" in x.url.lower():
            self.state.finish(op)
        self._send(x.method, HOST + x.path.replace(theirs, op.id), None)

    def _finish_unpolled(self, x: Interaction) -> None:
        """Operations that nobody will poll any more have ended by the next request, unless a later look at
        the resource shows it at work still: how long Azure took, the recording says."""
        ahead = {ours for theirs, ours in self.operations.items()
                 if self._last_polls.get(theirs, -1) >= x.i}
        for op in list(self.state.operations.values()):
            if op.status == "InProgress" and op.id not in ahead and not self._at_work(op.target, x.i):
                self.state.finish(op)

    def _at_work(self, target: str, now: int) -> bool:
        """Does the next recorded look at the resource show it being updated?"""
        for later in self.interactions:
            if later.i >= now and later.method == "GET" and later.status == 200 and (
                    later.path.partition("?")[0].lower() == target):
                properties = later.response.get("properties") if isinstance(later.response, dict) else None
                return isinstance(properties, dict) and properties.get("provisioningState") == "Updating"
        return False


def replay_all(recordings: dict[str, list[Interaction]]) -> list[Verdict]:
    """Every recording."""
    return [v for interactions in recordings.values() for v in Replay(interactions).run()]


def as_json(verdict: Verdict) -> str:
    """One line for people who look for the cause."""
    return json.dumps({"key": verdict.interaction.key, "class": verdict.interaction.klass,
                       "problems": verdict.problems})


