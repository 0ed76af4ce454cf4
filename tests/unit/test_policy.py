"""The policy is typed, checked at start, and reports every mistake at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from remediation.alerts import normalise
from remediation.errors import BadPolicy
from remediation.model import AlertDirection, Direction, Mode
from remediation.policy import DEFAULT_POLICY, duration, load_policy, parse_policy, prefix
from tests.unit.raw import C2, rest

DEFAULT = load_policy()
NEVER = '[guardrails]\nnever = ["10.0.0.0/8"]\n'


def test_the_default_policy_enforces_c2_outbound_first():
    row = DEFAULT.row_for(normalise(rest()))
    assert row.mode is Mode.ENFORCE
    assert row.block == (Direction.OUTBOUND, Direction.INBOUND)
    assert row.lifetime == timedelta(hours=24)


@pytest.mark.parametrize(("kind", "name", "mode"), [
    ("Network_TrafficFromUnrecommendedIP", "", Mode.NOTIFY),
    ("x", "Traffic from unrecommended IP addresses was detected", Mode.NOTIFY),
    ("x", C2, Mode.ENFORCE),
    ("SIMULATED_Network_CommunicationWithC2", "", Mode.ENFORCE),
    ("SSH_Outgoing_BF_OneToMany", "", Mode.NOTIFY),
    ("VM_SshBruteForceFailed", "", Mode.APPROVE),
    ("VM_Unheard_Of", "", Mode.NOTIFY),
])
def test_the_row_is_the_types_else_the_names_else_the_directions(kind: str, name: str, mode: Mode):
    alert = normalise(rest(kind, alertDisplayName=name or "something"))
    assert DEFAULT.row_for(alert).mode is mode


def test_no_policy_may_block_in_attacks_by_our_own_machines():
    with pytest.raises(BadPolicy) as error:
        parse_policy(NEVER + '[direction.outbound_attack]\nmode = "enforce"\nblock = ["outbound"]')
    assert "its addresses are ours" in str(error.value)


def test_documentation_ranges_are_not_on_the_never_list():
    never = DEFAULT.guardrails.never
    assert not any(prefix("192.0.2.1/32").overlaps(n) for n in never if n.version == 4)


def test_every_mistake_is_reported_at_once():
    text = """
    [typo]
    [defaults]
    mode = "block"
    [alert.X]
    lifetime = "forever"
    block = ["sideways"]
    [alert.Y]
    mode = "enforce"
    extra = 1
    block = ["inbound", "inbound"]
    [alert]
    Z = 3
    [direction.up]
    mode = "notify"
    [caps]
    addresses_per_alert = 0
    addresses_per_nsg = true
    [rules]
    guard = "door"
    pipeline_drift = "shrug"
    azure_confirms = 1
    priority_first = 198
    [guardrails]
    ask_first = ["10.0.0.1/8"]
    never = [3]
    protected = "x"
    ask_first_service_tags = [""]
    """.replace("[alert]\n    Z = 3", "[alert.Z]\n    block = 3")
    with pytest.raises(BadPolicy) as error:
        parse_policy(text, "my.toml")
    said = "\n".join(error.value.mistakes)
    for expected in (
        "my.toml: typo: is no table", "defaults: mode: must be one of", "alert type X: lifetime: must be",
        "alert type X: block: entry 1", "alert type Y: extra is no field", "twice",
        "direction up: must be one of", "caps: addresses_per_alert: must be a whole number",
        "caps: addresses_per_nsg: must be", "rules: guard: must be one of subnet, nic",
        "pipeline_drift: must be one of restore, yield", "azure_confirms: must be true or false",
        "priority_last must be at least 3 above", "guardrails: never: entry 1 (3) must be an address",
        "ask_first: entry 1 ('10.0.0.1/8') must be an address", "protected: must be a list",
        "ask_first_service_tags: entry 1 ('') must be a name", "alert type Z: block: must be a list",
    ):
        assert expected in said, expected
    assert all(m.startswith("my.toml: ") for m in error.value.mistakes)


@pytest.mark.parametrize("text", [
    "alert = 3\n" + NEVER, "[alert]\nX = 3\n" + NEVER, "caps = 3\n" + NEVER,
    NEVER + '[alert.X]\nmode = "enforce"',
])
def test_tables_must_be_tables_and_blocking_rows_must_say_where(text: str):
    with pytest.raises(BadPolicy):
        parse_policy(text)


def test_the_never_list_must_be_written_down():
    with pytest.raises(BadPolicy, match="never is missing"):
        parse_policy("")


def test_what_is_not_toml_says_so():
    with pytest.raises(BadPolicy, match="not TOML"):
        parse_policy("mode = ")


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(BadPolicy, match="cannot be read"):
        load_policy(tmp_path / "none.toml")


def test_a_small_policy_has_defaults_for_the_rest():
    policy = parse_policy(NEVER)
    assert policy.window.first == 150
    assert policy.guard == "subnet"
    assert policy.directions[AlertDirection.INBOUND].mode is Mode.NOTIFY
    assert policy.guardrails.hold == timedelta(days=1)


@pytest.mark.parametrize(("text", "span"), [
    ("90s", timedelta(seconds=90)), ("5m", timedelta(minutes=5)), ("24h", timedelta(hours=24)),
    ("7d", timedelta(days=7)), ("31d", timedelta(days=31)),
])
def test_durations_carry_their_unit(text: str, span: timedelta):
    assert duration(text) == span


@pytest.mark.parametrize("value", ["", "24", "0s", "32d", "1w", 24, None, "1.5h"])
def test_other_durations_are_refused(value: Any):
    with pytest.raises(ValueError, match="must be a time"):
        duration(value)


def test_the_packaged_policy_is_where_it_should_be():
    assert DEFAULT_POLICY.name == "policy.toml"


def test_a_row_may_have_caps_of_its_own_and_the_others_have_everyones():
    policy = parse_policy(NEVER + '[caps]\nblocks_per_hour = 7\n[alert.X]\naddresses_per_nsg = 3\n'
                          'mode = "enforce"\nblock = ["inbound"]')
    assert policy.caps_for("SIMULATED_x").addresses_per_nsg == 3
    assert policy.caps_for("X").blocks_per_hour == 7
    assert policy.caps_for("Y") == policy.caps


def test_proxies_are_resource_ids():
    policy = parse_policy(NEVER + '[proxies]\nout = ["/subscriptions/S/resourceGroups/g/"]')
    assert policy.proxies.out == ("/subscriptions/s/resourcegroups/g",)
    assert policy.proxies.before == ()
    with pytest.raises(BadPolicy, match=r"proxies: before: entry 1 \('proxy'\) must be a resource id"):
        parse_policy(NEVER + '[proxies]\nbefore = ["proxy"]')


def test_what_may_be_changed_unasked_must_be_among_the_steps():
    with pytest.raises(BadPolicy, match="unasked: updates is not among the steps"):
        parse_policy(NEVER + '[investigation]\nsteps = ["posture"]\nunasked = ["updates"]')
    found = parse_policy(NEVER + '[investigation]\nsteps = ["updates"]\nunasked = ["updates"]').inquiry
    assert (found.unasked, found.machines, found.again) == (("updates",), 20, timedelta(hours=6))
