"""Alerts by someone who wants to break the service: answered in time, and nothing more."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chaos.life import PLATFORM, hosts
from chaos.stage import Stage, scene
from remediation.alerts import normalise, unwrap
from remediation.errors import MalformedAlert, TemporaryError
from sandbox.world import ROOT
from tests.estate import ATTACKER, COMPUTE, SUB, alert

LONGEST_SECONDS = 10.0
PARSED, PARSE_SECONDS = 1_500, 2.0
COVERED_SECONDS = 60
MEGABYTE = 1_000_000

TEXTS = (
    "", "\x00", "a\x00b", "\ud800", "\udfff\ud800", "\u202e198.51.100.7", "\u2066x\u2069", "\ufeff",
    "\u00e9" * 5000,
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "{{7*7}}", "${jndi:ldap://x/a}",
    "'; DROP TABLE alerts;--", "' or 1 eq 1 or '", "\r\nnotice approval: approved by ann", "\x1b[2J",
    "%00%0a",     "../../../../etc/passwd", "a" * 70_000, "NaN", "-1", "1e999", "null", "[]", "{}",
)
ADDRESSES: tuple[Any, ...] = (
    3325256711, -1, 0, 1.5, True, None, "0xC6336407", "0306.0063.0144.07", "198.51.100.007",
    "198.51.100.7/0", "198.51.100.7/32", "0.0.0.0/0", "::/0", "::ffff:198.51.100.7", "::ffff:10.0.0.4",
    "::198.51.100.7",
    "64:ff9b::c633:6407", "2002:c633:6407::1", "fe80::1%eth0", "fe80::1%25eth0", "[::1]:80",
    "198.51.100.7:443",
    "198.51.100.7, 0.0.0.0", "198.51.100.7\n0.0.0.0/0", PLATFORM, "169.254.169.254", "127.0.0.1", "10.0.0.4",
    "255.255.255.255", "*", "Internet", "\uff11\uff19\uff18.51.100.7", "198.51.100.7\u202e", ["198.51.100.7"],
    {"address": "198.51.100.7"}, "9" * 40,
)
RESOURCES: tuple[Any, ...] = (
    "/subscriptions/" + SUB + "/../../providers", "/subscriptions/x' | union securityresources //", "/",
    f"{COMPUTE}/virtualMachines/vm' or '1'=='1", f"{COMPUTE}/virtualMachines/vm/../../../nsg",
    f"{COMPUTE}/virtualMachines/vm?api-version=1&x=%2e%2e", f"{COMPUTE}/virtualMachines/vm#", "https://evil.test/x",
    f"{COMPUTE}/virtualMachines/" + "v" * 9000, f"{COMPUTE}/virtualMachines/\u202emv", 7, None, [],
    {"$ref": "1"},
    f"{COMPUTE}//virtualMachines//vm", f"{COMPUTE}/virtualMachines/vm\r\nX-Evil: 1",
)


def _nested(depth: int) -> Any:
    inner: Any = {"address": ATTACKER}
    for _ in range(depth):
        inner = {"entities": [inner]}
    return inner


def _loops() -> list[dict[str, Any]]:
    return [{"$id": "1", "type": "ip", "address": ATTACKER, "location": {"$ref": "2"}},
            {"$id": "2", "$ref": "1"}, {"$ref": "2"}, {"$ref": "nowhere"},
            {"$id": "3", "host": {"$ref": "3"}}]


def hostile_alerts() -> Iterator[dict[str, Any]]:
    """Alerts with one thing wrong at a time; what is right in them is right."""
    for text in TEXTS:
        for name in ("alertDisplayName", "compromisedEntity", "severity", "status", "startTimeUtc",
                     "systemAlertId", "alertType"):
            yield alert(**{name: text})
        yield alert(extendedProperties={text: text, "attacker IP": text})
        yield {**alert(), "id": text}
    for address in ADDRESSES:
        yield alert(entities=[{"$id": "1", "type": "ip", "address": address}],
                    extendedProperties={"attacker IP": address})
    for resource in RESOURCES:
        yield alert(resourceIdentifiers=[{"type": "AzureResource", "azureResourceId": resource}])
    yield alert(entities=_loops())
    yield alert(entities=[_nested(400)])
    yield alert(entities=[{"$id": str(n), "type": "ip", "address": f"198.51.100.{n % 256}"}
                          for n in range(5000)])
    yield alert(extendedProperties={"x": "y" * MEGABYTE})
    odds: tuple[Any, ...] = (None, 3, "x", [], {})
    for odd in odds:
        yield alert(entities=odd, extendedProperties=odd, resourceIdentifiers=odd)
        yield {**alert(), "properties": odd}


def in_time(stage: Stage, what: str, seconds: float, call: Callable[[], object]) -> object:
    """The answer; an exception, or one that comes late, is damage."""
    stage.struck += 1
    started = time.monotonic()
    answer: object = None
    try:
        answer = call()
    except TemporaryError as error:  # the event would come again, and again
        stage.damage.note("ledger_gaps", 1, f"{what[:200]}: put off: {error}")
    except Exception as error:  # noqa: BLE001 - whatever escapes is what is looked for
        stage.damage.note("ledger_gaps", 1, f"{what[:200]}: {type(error).__name__}: {error}"[:600])
    took = time.monotonic() - started
    stage.damage.note("ledger_gaps", int(took > seconds), f"{what[:200]}: {took:.1f} s")
    return answer


def _holdable(one: dict[str, Any]) -> bool:
    """Could Defender hold it? Its texts are anyone's, its form is Defender's own."""
    held = one["properties"]
    return (isinstance(held, dict) and one["id"].startswith("/subscriptions/")
            and isinstance(held.get("entities"), list)
            and isinstance(held.get("extendedProperties"), dict)
            and isinstance(held.get("resourceIdentifiers"), list))


@scene("hostile: alerts, as delivered and as Defender holds them")
def alerts(stage: Stage) -> None:
    """Nothing but the true attacker is ever blocked."""
    life = stage.life()
    for n, one in enumerate(hostile_alerts()):
        if n % 2 and _holdable(one):
            life.azure.know(one)
        in_time(stage, json.dumps(one["properties"]), LONGEST_SECONDS,
                 partial(life.azure.app.on_alert, one, event_id="e", event_time=None))
    life.orphans()
    allowed = {str(host) for host in ipaddress.ip_network("198.51.100.0/24")}
    denied = [host for prefixes in life.azure.owned().values() for host in hosts(prefixes)]
    extra = set(denied) - allowed
    stage.damage.note("protected_blocked", len(extra), f"{sorted(extra)[:50]}")
    life.judge_foreign()


_words = st.sampled_from([
    "properties", "entities", "address", "type", "ip", "$id", "$ref", "extendedProperties", "attacker IP",
    "resourceIdentifiers", "azureResourceId", "AlertType", "SystemAlertId", "alertType", "data", "value",
    "rows",
    "columns", "tables", "records", "body", "Entities", "CompromisedEntity", "host", "kind", "evidence"])
_leaves = (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
           | st.sampled_from(TEXTS)
           | st.sampled_from([a for a in ADDRESSES if isinstance(a, str)]) | st.just(json.dumps(_loops())))
_bodies = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=5)
                       | st.dictionaries(_words | st.text(max_size=8), inner, max_size=6), max_leaves=30)


def read(data: Any) -> None:
    """Read whatever an event may hold. Raises only what it must not."""
    for raw in unwrap(data):
        try:
            normalise(raw)
        except MalformedAlert:
            continue  # said to be malformed: the right answer to such a body


@scene("hostile: the parser, fuzzed")
def parser(stage: Stage) -> None:
    """Whatever JSON can hold is read, or said to be malformed."""
    def one(data: Any) -> None:
        in_time(stage, repr(data), PARSE_SECONDS, lambda: read(data))

    whole = alert()["properties"]
    changed = st.builds(lambda name, value: {"properties": {**whole, name: value}},
                        st.sampled_from(sorted(whole)), _bodies)
    fuzz = given(_bodies | changed)(one)
    settings(max_examples=PARSED, deadline=None, database=None, phases=[Phase.generate],
             suppress_health_check=list(HealthCheck))(fuzz)()
    depths = count(1)
    for text in ("[" * 10_000, "[" * 10_000 + "]" * 10_000, '{"entities":[' * 10_000,
                 '{"a":' * 9_000 + "1" + "}" * 9_000,
                 '"' + "x" * MEGABYTE + '"', "{" * 10, '{"data":' * 500 + "1" + "}" * 500):
        in_time(stage, f"deep text {next(depths)}", PARSE_SECONDS, partial(read, text))
    deep: Any = _nested(10_000)
    in_time(stage, "10,000 deep", PARSE_SECONDS, lambda: read({"properties": {**whole, "entities": [deep]}}))
    while isinstance(deep, dict):  # taken apart by hand: freeing it would recurse as deep
        deep = deep.pop("entities", [None]).pop()


@scene("hostile: the parser, fuzzed by coverage")
def covered(stage: Stage) -> None:
    """atheris goes where new branches are; where it does not install, the scene says so."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed here: the parser is not fuzzed by coverage")
        return
    command = [sys.executable, "-m", "chaos.fuzz", f"-max_total_time={COVERED_SECONDS}", "-timeout=5",
               "-max_len=20000", "-seed=7", f"-artifact_prefix={stage.world.folder}/"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True,
                          timeout=COVERED_SECONDS + 60)
    runs = re.search(r"Done (\d+) runs", done.stderr)
    stage.struck += int(runs[1]) if runs else 1
    stage.damage.note("ledger_gaps", int(done.returncode != 0 or not runs), done.stderr[-3000:])
