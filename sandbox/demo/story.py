"""The story of `make demo`, chapter by chapter. Each expectation is checked; one that fails is named,
and the command ends with 1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox.demo import count, firewall, inquiry
from sandbox.demo.estate import ESTATE, c2_alert, element_id, name_of
from sandbox.inbox import Inbox
from sandbox.world import ROOT, FunctionsHost, World, waiting

LIFETIME_SECONDS = 25
SETTLE_SECONDS = 0.6

FIRST, SECOND, SHADOWED, SAMPLE, FORGED = (
    "198.51.100.7", "198.51.100.8", "198.51.100.40", "198.51.100.50", "198.51.100.66")
BALANCED, THROUGH = "198.51.100.80", "198.51.100.90"
PLATFORM, OWN = "168.63.129.16", "203.0.113.20"


class Story:
    """Plays it."""

    def __init__(self, console: Console, world: World) -> None:
        self.console = console
        self.world = world
        self.failures: list[str] = []
        self.summary: list[tuple[str, str]] = []
        self.host: FunctionsHost
        self.inbox = Inbox()
        self.settings: dict[str, str] = {}
        self.first = c2_alert("web-1", [FIRST])
        self.foreign: dict[str, str] = {}

    # --- telling ---

    def chapter(self, title: str) -> None:
        """A heading."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(f"  {text}")

    def expect(self, what: str, holds: bool, detail: Any = "") -> None:
        """An expectation, seen to hold or not."""
        mark = "[green]✓[/]" if holds else "[red]✗[/]"
        self.console.print(f"  {mark} {what}" + (f"  [dim]{detail}[/]" if detail else ""))
        if not holds:
            self.failures.append(what)

    # --- doing ---

    def publish(self, alert: Any, event_id: str = "") -> None:
        """Publish, and wait until it is delivered."""
        self.world.publish(alert, event_id)
        if not self.world.settled(40):
            self.expect("the event is delivered", holds=False)

    def known(self, alert: dict[str, Any]) -> dict[str, Any]:
        """Make Defender hold the alert."""
        self.world.seed({"subscription": ESTATE["subscription"], "alerts": [alert["properties"]]})
        return alert

    def blocks(self, **query: str) -> list[dict[str, Any]]:
        """Blocks, by the API."""
        found: list[dict[str, Any]] = self.world.api(
            self.host, "GET", "blocks", **query).json()["blocks"]
        return found

    def live(self, address: str) -> dict[tuple[str, str], str]:
        """(NSG, direction) → state, of the live blocks of an address."""
        return {
            (b["nsg"].rpartition("/")[2], b["direction"]): b["state"]
            for b in self.blocks(address=address) if b["state"] not in ("lifted", "revoked")
        }

    def wait(self, holds: Callable[[], bool], seconds: float = 20) -> bool:
        """Wait for something to become true."""
        return any(holds() for _ in waiting(seconds, 0.2))

    def timeline(self, alert: dict[str, Any]) -> dict[str, Any]:
        """All that the ledger knows of an alert."""
        found: dict[str, Any] = self.world.api(self.host, "GET", f"alerts/{name_of(alert)}").json()
        return found

    # --- the chapters ---

    def play(self) -> dict[str, Any]:
        """All chapters → the numbers."""
        started = time.monotonic()
        self.set_up()
        self.blocked_and_proven()
        self.delivered_again()
        self.one_more_address()
        self.shadowed()
        self.not_acted_upon()
        self.forged_then_approved()
        self.revoked_and_held()
        self.replayed_then_lifted()
        self.tell_timeline()
        numbers = count.tally(self.world, self.foreign)
        self.check_numbers(numbers)
        with self.inbox, inquiry.unfamiliar():
            self.with_guests()
            balanced = self.traced()
            numbers["traced"] = count.traced(self.world)
            numbers["investigation"] = inquiry.play(self, balanced)
        self.let_go()
        numbers["firewall"] = firewall.play(self)
        result = {"ok": not self.failures, **numbers,
                  "seconds": round(time.monotonic() - started, 1)}
        self.tell_summary(result)
        return result

    def set_up(self) -> None:
        """The estate, the host, the handshake."""
        self.chapter("Set-up")
        self.world.seed(ESTATE)
        self.world.tune(settle=SETTLE_SECONDS)
        policy = self.world.folder / "policy.toml"
        text = (ROOT / "remediation" / "policy.toml").read_text()
        text = text.replace('action = "ask"', 'action = "remove"').replace('gather = "20s"', 'gather = "2s"')
        policy.write_text(text.replace('lifetime = "24h"', f'lifetime = "{LIFETIME_SECONDS}s"'))
        self.settings = {
            "RESPONDER_MODE": "enforce", "RESPONDER_DEPLOYMENT": "demo", "RESPONDER_POLICY": str(policy),
            "SWEEP_SCHEDULE": "*/2 * * * * *", "RESPONDER_SWEEP_SECONDS": "2", "RESPONDER_INVESTIGATE": "off"}
        self.host = self.world.start_host(**self.settings)
        self.say(f"Azurite, ARM (TLS), Resource Graph, Event Grid, Functions host at {self.host.url}")
        self.world.subscribe(self.host)
        # The first sweep compares Defender's list with the ledger; the story begins after it.
        swept = self.wait(lambda: bool(
            self.world.api(self.host, "GET", "health").json().get("lastSweep")))
        self.expect("the app is healthy and sweeping", swept)
        self.foreign = count.foreign_rules(self.world)
        self.say(f"{len(self.foreign)} rules in 4 NSGs, 7 machines; a block lives "
                 f"{LIFETIME_SECONDS} s here instead of 24 h")

    def blocked_and_proven(self) -> None:
        """1: a C2 alert becomes a proven block."""
        self.chapter(f"1  web-1 talks to a command and control centre at {FIRST}")
        self.publish(self.known(self.first))
        states = self.live(FIRST)
        self.expect("denied outbound, proven", states.get(("nsg-web", "outbound")) == "active")
        self.expect("denied inbound, proven", states.get(("nsg-web", "inbound")) == "active")
        for rule in count.owned_rules(self.world, "nsg-web"):
            p = rule["properties"]
            self.say(f"[cyan]{rule['name']}[/] priority {p['priority']} {p['access']} "
                     f"{p['sourceAddressPrefixes'] or p['destinationAddressPrefixes']}")
        self.summary.append((f"C2 alert, {FIRST}", "blocked both ways, proven"))

    def delivered_again(self) -> None:
        """2: the same event three times more."""
        self.chapter("2  The same event is delivered three times more")
        before = len(count.writes(self.world))
        for _ in range(3):
            self.publish(self.first)
        self.expect("no new ARM write", len(count.writes(self.world)) == before)
        self.summary.append(("the same event, three times more", "absorbed, no write"))

    def one_more_address(self) -> None:
        """3: another attacker on the same NSG."""
        self.chapter(f"3  Another attacker on the same NSG: {SECOND}")
        self.publish(self.known(c2_alert("web-2", [SECOND])))
        rules = count.owned_rules(self.world, "nsg-web")
        self.expect("still one rule per direction", len(rules) == 2, [r["name"] for r in rules])
        both = all(
            _holds(r, FIRST) and _holds(r, SECOND) for r in rules)
        self.expect("it carries both addresses", both and bool(rules))
        self.summary.append((f"second attacker, {SECOND}", "same rule, one more address"))

    def shadowed(self) -> None:
        """4: an Allow at priority 100 wins."""
        self.chapter(f"4  {SHADOWED} on an NSG whose Allow at priority 100 always wins")
        alert = self.known(c2_alert("legacy-1", [SHADOWED]))
        self.publish(alert)
        blocks = self.blocks(address=SHADOWED)
        self.expect("reported as shadowed, not as blocked",
                    {b["state"] for b in blocks} == {"shadowed"})
        named = {b["shadowedBy"] for b in blocks}
        self.expect("the rules that shadow are named",
                    named == {"allow-everything-in", "allow-everything-out"})
        for b in blocks:
            self.say(f"[yellow]{b['direction']}: {b['detail']}[/]")
        self.summary.append((f"attacker behind an Allow at 100, {SHADOWED}", "shadowed, told so"))

    def not_acted_upon(self) -> None:
        """5: what is never acted upon."""
        self.chapter("5  A sample, addresses never to block, a malformed alert")
        before = len(count.writes(self.world))
        sample = self.known(c2_alert("data-1", [SAMPLE], sample=True))
        self.publish(sample)
        plan = self.timeline(sample)["plan"]
        self.expect("the sample shows what it would do", len(plan["blocks"]) == 2,
                    f"mode {plan['mode']}: {', '.join(plan['reasons'])}")
        careful = self.known(c2_alert("data-1", [PLATFORM, OWN]))
        self.publish(careful)
        skipped = {s["address"]: s["reason"] for s in self.timeline(careful)["plan"]["skipped"]}
        self.expect(f"{PLATFORM} is skipped", PLATFORM in skipped, skipped.get(PLATFORM))
        self.expect(f"{OWN} is skipped", OWN in skipped, skipped.get(OWN))
        self.publish({"alertDisplayName": "no id", "severity": "High"}, "malformed-1")
        self.expect("the malformed one is in quarantine, and answered",
                    count.tally(self.world, self.foreign)["quarantined"] == 1)
        self.expect("nothing was written", len(count.writes(self.world)) == before)
        self.summary.append(("sample · own and platform addresses · malformed",
                             "simulated · skipped with the reason · quarantined"))

    def forged_then_approved(self) -> None:
        """5, second part: an alert that Defender does not know."""
        self.chapter(f"5  A forged alert names {FORGED}; Defender does not know it")
        before = len(count.writes(self.world))
        self.publish(c2_alert("data-1", [FORGED]))
        states = set(self.live(FORGED).values())
        self.expect("its blocks wait for approval", states == {"waiting"})
        self.expect("nothing was written", len(count.writes(self.world)) == before)
        questions = self.world.api(self.host, "GET", "approvals").json()["approvals"]
        mine = [q for q in questions if any(b["address"] == FORGED for b in q["blocks"])]
        self.expect("one question is open", len(mine) == 1,
                    "; ".join(mine[0]["asks"]) if mine else "")
        if mine:
            answer = self.world.api(self.host, "POST", f"approvals/{mine[0]['id']}",
                                    {"decision": "approve", "reason": "seen in the proxy's log too"})
            self.expect("approved over HTTP", answer.status_code == 200)
        self.expect("then blocked", self.wait(
            lambda: set(self.live(FORGED).values()) == {"active"}))
        self.summary.append((f"alert unknown to Defender, {FORGED}", "waited, approved, blocked"))

    def revoked_and_held(self) -> None:
        """6: a person revokes; a new alert asks."""
        self.chapter(f"6  A person revokes {FIRST}; a new alert names it again")
        answer = self.world.api(self.host, "POST", "blocks/revoke", {
            "address": FIRST, "reason": "partner's gateway, checked by phone", "holdHours": 24})
        revoked = answer.json().get("revoked", [])
        self.expect("both blocks are revoked", len(revoked) == 2, answer.json().get("heldUntil"))
        gone = self.wait(lambda: not any(
            _holds(r, FIRST) for r in count.owned_rules(self.world, "nsg-web")))
        self.expect("the address is out of our rules", gone)
        self.publish(self.known(c2_alert("web-1", [FIRST])))
        blocks = [b for b in self.blocks(address=FIRST) if b["state"] == "waiting"]
        self.expect("the new alert asks, since the revoke holds", len(blocks) == 2,
                    blocks[0]["asks"][0] if blocks else "")
        self.summary.append((f"revoke of {FIRST}, then a new alert", "held: it asks first"))

    def replayed_then_lifted(self) -> None:
        """7: replay, and the end of all blocks."""
        self.chapter("7  Alert 1 is replayed, first dry; then time runs out")
        body = {"alertId": name_of(self.first)}
        before = len(count.writes(self.world))
        dry = self.world.api(self.host, "POST", "replay", body, dryRun="true", override="true")
        result = dry.json()["results"][0]
        self.expect("the dry run shows the difference and writes nothing",
                    len(result["difference"]) == 2 and len(count.writes(self.world)) == before)
        for d in result["difference"]:
            after = d["after"] or {}
            self.say(f"would {d['write'].upper()} [cyan]{d['rule']}[/] "
                     f"{after.get('sourceAddressPrefixes') or after.get('destinationAddressPrefixes')}")
        real = self.world.api(self.host, "POST", "replay", body, override="true")
        self.expect("replayed for real by a person who overrides the hold",
                    real.status_code == 200 and len(real.json()["results"][0]["claimed"]) == 2)
        self.expect("blocked again", self.wait(
            lambda: set(self.live(FIRST).values()) == {"active"}))
        self.say(f"waiting for {LIFETIME_SECONDS} s to pass …")
        over = self.wait(
            lambda: all(b["state"] in ("lifted", "revoked") for b in self.blocks(pageSize="1000")),
            LIFETIME_SECONDS + 40)
        self.expect("the sweep lifts the rest", over)
        self.expect("owned rules are gone", not count.owned_rules(self.world))
        self.expect("the users' own rules are untouched",
                    count.foreign_rules(self.world) == self.foreign)
        self.summary.append(("replay of alert 1, then time runs out", "blocked again, then lifted"))

    def tell_timeline(self) -> None:
        """8: alert 1 as the ledger recorded it."""
        self.chapter("8  The timeline of alert 1, as recorded in the ledger")
        found = self.timeline(self.first)
        view = Table(box=None, pad_edge=False)
        view.add_column("time (UTC)", style="dim")
        view.add_column("hop")
        view.add_column("where", style="cyan")
        view.add_column("what")
        rows = [(at, hop, "", "") for hop, at in found["hops"].items()]
        for a in found["actions"]:
            where = f"{a.get('nsg', '').rpartition('/')[2]} {a.get('direction', '')}".strip()
            if a["action"] == "proven" and a.get("written"):
                rows.append((a["written"], "written", where, a.get("rule", "")))
            what = a.get("detail") or a.get("reason") or a.get("address", "")
            rows.append((a["at"], a["action"], where, f"{what}  by {a.get('by', '')}"))
        for row in sorted(rows):
            view.add_row(*row)
        self.console.print(view)
        hops = {r[1] for r in rows}
        wanted = {"generated", "event", "received", "verified", "claimed", "written", "proven",
                  "revoked", "replayed", "lifted"}
        self.expect("every hop has its time", wanted <= hops, sorted(wanted - hops) or "")

    def with_guests(self) -> None:
        """From now on machines are looked into: the app anew, the guest app beside it."""
        inquiry.guests(self)
        self.world.stop_host(self.host)
        more = {**inquiry.SETTINGS, "RESPONDER_NOTIFY": self.inbox.url}
        self.host = self.world.start_host("host-inquiry", **{**self.settings, **more})
        self.world.start_host("host-guest", **{
            **self.settings, **more, "RESPONDER_ROLE": "guest", "AZURE_CLIENT_ID": "guest-identity",
            "INVESTIGATION_QUEUE": inquiry.GUEST_QUEUE, "GUEST_QUEUE": "", "RESPONDER_NOTIFY": ""})
        self.world.subscribe(self.host)

    def traced(self) -> dict[str, Any]:
        """9: alerts on what stands before machines → the one about the load balancer."""
        balanced: dict[str, Any] = {}
        self.chapter(f"9  {BALANCED} behind a load balancer, {THROUGH} through an application gateway")
        for kind, name, attacker in (("loadBalancers", "lb-shop", BALANCED),
                                     ("applicationGateways", "agw-shop", THROUGH)):
            alert = self.known(c2_alert(name, [attacker], resource=element_id(kind, name)))
            self.publish(alert)
            balanced = balanced or alert
            plan = self.timeline(alert)["plan"]
            for machine in plan["machines"]:
                self.say("[cyan]" + " → ".join(machine["path"]) + "[/]")
            for one in plan["skipped"]:
                self.say(f"[yellow]{one['reason']}[/]")
        self.expect("every member of both pools is guarded", self.wait(lambda: self.live(BALANCED) == {
            (nsg, way): "active" for nsg in ("nsg-web", "nsg-data") for way in ("outbound", "inbound")}),
            self.live(BALANCED))
        self.expect("out: the member's guard; in: the guard of the gateway's own subnet", self.wait(
            lambda: self.live(THROUGH) == {("nsg-data", "outbound"): "active",
                                           ("nsg-gateway", "inbound"): "active"}), self.live(THROUGH))
        found = count.traced(self.world)
        self.expect("4 machines, 1 machine, and 1 name that is not guessed", found == {
            "load_balancer": 4, "application_gateway": 1, "not_traced": 1}, found)
        for block in (*self.blocks(address=BALANCED), *self.blocks(address=THROUGH)):
            self.world.api(self.host, "POST", "blocks/extend", {
                "blockId": block["id"], "hours": 1, "reason": "while the machines are looked into"})
        return balanced

    def let_go(self) -> None:
        """The end of both."""
        for address in (BALANCED, THROUGH):
            self.world.api(self.host, "POST", "blocks/revoke", {"address": address, "reason": "the end"})
        self.expect("revoked, and our rules are gone", self.wait(
            lambda: not count.owned_rules(self.world)))
        self.expect("the users' own rules are untouched still",
                    count.foreign_rules(self.world) == self.foreign)
        self.summary.append(("alerts on a load balancer and a gateway", "every machine behind them, guarded"))

    # --- the end ---

    def check_numbers(self, numbers: dict[str, Any]) -> None:
        """What the log and the ledger must say at the end."""
        self.chapter("The numbers, from the sandbox's log and the ledger")
        exact = {"blocked": 6, "duplicates_absorbed": 3, "shadowed": 2, "skipped": 2,
                 "simulated": 1, "quarantined": 1, "unverified": 1, "revoked": 2, "lifted": 8,
                 "foreign_rules_changed": 0}
        for name, value in exact.items():
            self.expect(f"{name} = {value}", numbers[name] == value, numbers[name])
        self.expect("few ARM writes", 0 < numbers["arm_writes"] <= 40, numbers["arm_writes"])

    def tell_summary(self, result: dict[str, Any]) -> None:
        """The table at the end."""
        view = Table(title="What happened", title_justify="left")
        view.add_column("event")
        view.add_column("outcome")
        for row in self.summary:
            view.add_row(*row)
        self.console.print()
        self.console.print(view)
        self.console.print(json.dumps(result))
        for failure in self.failures:
            self.console.print(f"[red]not as expected: {failure}[/]")


def _holds(rule: dict[str, Any], address: str) -> bool:
    """Does one of our rules deny this address? Prefixes may be collapsed."""
    import ipaddress

    p = rule["properties"]
    one = ipaddress.ip_address(address)
    prefixes = [*p["sourceAddressPrefixes"], *p["destinationAddressPrefixes"]]
    return any(one in ipaddress.ip_network(x) for x in prefixes)




def write_result(result: dict[str, Any], path: Path) -> None:
    """`build/demo.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
