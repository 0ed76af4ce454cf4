"""Settings from the environment → one frozen object. Every mistake is reported at once.

Documented in the README's configuration table and in `local.settings.sample.json`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from remediation.errors import BadSettings
from remediation.model import Mode
from remediation.policy import DEFAULT_POLICY

AZURE_CLOUDS = {
    "management.azure.com": "https://management.azure.com",
    "management.usgovcloudapi.net": "https://management.usgovcloudapi.net",
    "management.chinacloudapi.cn": "https://management.chinacloudapi.cn",
}
"""ARM hosts a token may be sent to. Any other address is taken on loopback only."""
AZURE_LOGS = {
    "https://api.loganalytics.io": "https://api.loganalytics.io",
    "https://api.loganalytics.azure.com": "https://api.loganalytics.io",
    "https://api.loganalytics.us": "https://api.loganalytics.us",
    "https://api.loganalytics.azure.cn": "https://api.loganalytics.azure.cn",
}
"""Where Log Analytics is asked, and for whom the token is."""


INSTALLS = ("updates", "antimalware")
"""What a guest app may have the right to install."""
GUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, checked. Durations are in seconds."""

    deployment: str
    mode: Mode
    policy_file: Path
    arm_endpoint: str
    subscriptions: tuple[str, ...]
    management_groups: tuple[str, ...]
    home_subscription: str
    storage_connection: str
    table_endpoint: str
    queue_endpoint: str
    table_prefix: str
    client_id: str
    managed_identity: bool
    lease_seconds: float
    budget_seconds: float
    sweep_seconds: float
    machine_cache_seconds: float
    drift_seconds: float
    reconcile_seconds: float
    recheck_seconds: float
    resume_seconds: float
    poll_seconds: float
    retention_days: float
    auth_on: bool
    commit_queue: str
    investigate: bool
    investigation_queue: str
    guest_queue: str
    guest: bool
    may_install: frozenset[str]
    evidence_connection: str
    blob_endpoint: str
    incoming_endpoint: str
    evidence_container: str
    logs_endpoint: str
    workspaces: tuple[str, ...]
    channels: tuple[str, ...]
    topic: str
    links: str
    selftest_workflow: str
    troubles: tuple[str, ...]

    @property
    def token_scope(self) -> str:
        """What the credential is asked for: the cloud's own ARM, also behind a loopback address."""
        host = urlsplit(self.arm_endpoint).hostname or ""
        return f"{AZURE_CLOUDS.get(host, AZURE_CLOUDS['management.azure.com'])}/.default"

    @property
    def local(self) -> bool:
        """ARM is on loopback: a developer's machine, not Azure."""
        return is_loopback(self.arm_endpoint)


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.mistakes: list[str] = []
        self.troubles: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self.env.get(name, "").strip() or default

    def read[T](self, name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
        text = self.text(name)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            self.mistakes.append(f"{name}: must be {expected}, not {text[:60]!r}")
            return default

    def number(self, name: str, default: float, low: float, high: float) -> float:
        def parse(text: str) -> float:
            value = float(text)
            if not low <= value <= high:
                raise ValueError
            return value

        return self.read(name, default, parse, f"a number from {low:g} to {high:g}")


def policy_path(env: Mapping[str, str]) -> Path:
    """Where the policy is."""
    return Path(env.get("RESPONDER_POLICY", "").strip() or DEFAULT_POLICY)


def load_settings(env: Mapping[str, str]) -> Settings:
    """Read the environment. Raises BadSettings with every mistake in it."""
    r = _Reader(env)
    deployment = r.text("RESPONDER_DEPLOYMENT", "default").lower()
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?", deployment):
        r.mistakes.append("RESPONDER_DEPLOYMENT: must be 1-20 letters, digits or inner hyphens")
    subscriptions = tuple(
        s.strip().lower() for s in r.text("RESPONDER_SUBSCRIPTIONS").split(",") if s.strip()
    )
    for one in subscriptions:
        if not re.fullmatch(GUID, one):
            r.mistakes.append(f"RESPONDER_SUBSCRIPTIONS: {one[:60]!r} is no subscription id")
    groups = tuple(g.strip() for g in r.text("RESPONDER_MANAGEMENT_GROUPS").split(",") if g.strip())
    for one in groups:
        if not re.fullmatch(r"[A-Za-z0-9_().-]{1,90}", one):
            r.mistakes.append(f"RESPONDER_MANAGEMENT_GROUPS: {one[:60]!r} is no management group's id")
    if groups and subscriptions:
        r.mistakes.append("RESPONDER_MANAGEMENT_GROUPS: leave out RESPONDER_SUBSCRIPTIONS, or this")
    storage = _storage(r)
    arm = _arm_endpoint(r)
    evidence = _evidence(r, storage[0])
    budget = r.number("RESPONDER_BUDGET_SECONDS", 15, 2, 20)
    settings = Settings(
        deployment=deployment,
        mode=r.read("RESPONDER_MODE", Mode.ENFORCE, lambda t: Mode(t.lower()),
                    f"one of {', '.join(Mode)}"),
        policy_file=policy_path(env),
        arm_endpoint=arm,
        subscriptions=subscriptions,
        management_groups=groups,
        home_subscription=(subscriptions or (r.text("WEBSITE_OWNER_NAME").partition("+")[0],))[0],
        storage_connection=storage[0], table_endpoint=storage[1], queue_endpoint=storage[2],
        table_prefix=_table_prefix(r),
        client_id=r.text("AZURE_CLIENT_ID"),
        managed_identity=bool(r.text("IDENTITY_ENDPOINT")),
        lease_seconds=r.number("RESPONDER_LEASE_SECONDS", 60, 2, 600),
        budget_seconds=budget,
        sweep_seconds=r.number("RESPONDER_SWEEP_SECONDS", 60, 1, 3600),
        machine_cache_seconds=r.number("RESPONDER_MACHINE_CACHE_SECONDS", 600, 0, 3600),
        drift_seconds=r.number("RESPONDER_DRIFT_SECONDS", 3600, 5, 86400),
        reconcile_seconds=r.number("RESPONDER_RECONCILE_SECONDS", 900, 1, 86400),
        recheck_seconds=r.number("RESPONDER_RECHECK_SECONDS", 20, 1, 600),
        resume_seconds=r.number("RESPONDER_RESUME_SECONDS", 60, 1, 600),
        poll_seconds=r.number("RESPONDER_POLL_SECONDS", 1, 0.05, 30),
        retention_days=r.number("RESPONDER_RETENTION_DAYS", 400, _shortest_retention(arm), 4000),
        auth_on=r.text("WEBSITE_AUTH_ENABLED").lower() == "true",
        commit_queue=r.text("COMMIT_QUEUE", "commit"),
        investigate=r.read("RESPONDER_INVESTIGATE", True, _on_or_off, "on or off"),
        investigation_queue=r.text("INVESTIGATION_QUEUE", "investigations"),
        guest_queue=r.text("GUEST_QUEUE"),
        guest=r.read("RESPONDER_ROLE", False, _is_guest, "responder or guest"),
        may_install=r.read("RESPONDER_MAY_INSTALL", frozenset(INSTALLS), _installs,
                           f"none, or some of {','.join(INSTALLS)}"),
        evidence_connection=evidence[0], blob_endpoint=evidence[1],
        incoming_endpoint=_incoming(r, evidence[1]),
        evidence_container=r.text("EVIDENCE_CONTAINER", "evidence"),
        logs_endpoint=_logs_endpoint(r),
        workspaces=_workspaces(r),
        channels=_channels(r),
        topic=_topic(r),
        links=r.text("RESPONDER_LINKS").rstrip("/"),
        selftest_workflow=_workflow(r),
        troubles=tuple(r.troubles),
    )
    if settings.guest:  # by default it would act, and on the app's own queue
        r.mistakes += [f"{name}: missing; the guest app wants it" for name in (
            "RESPONDER_MODE", "INVESTIGATION_QUEUE") if not r.text(name)]
    if r.mistakes:
        raise BadSettings(r.mistakes)
    return settings


def _storage(r: _Reader) -> tuple[str, str, str]:
    """(connection string, table endpoint, queue endpoint): one or the others.

    The ledger may have an account of its own (`LEDGER__…`); else it is the app's
    (`AzureWebJobsStorage…`). A connection string holds a key, so only local storage may use one.
    """
    tables = r.text("LEDGER__tableServiceUri", r.text("AzureWebJobsStorage__tableServiceUri"))
    queues = r.text("AzureWebJobsStorage__queueServiceUri")
    connection = r.text("LEDGER", r.text("AzureWebJobsStorage"))
    if tables and queues:
        for name, url in (("tableServiceUri", tables), ("queueServiceUri", queues)):
            if not url.startswith("https://") and not is_loopback(url):
                r.mistakes.append(f"AzureWebJobsStorage__{name}: must be https")
        return "", tables, queues
    if connection:
        if not _local_storage(connection):
            r.mistakes.append(
                "AzureWebJobsStorage: a connection string with a key is for local storage only; in "
                "Azure set AzureWebJobsStorage__tableServiceUri and __queueServiceUri"
            )
        return connection, "", ""
    r.mistakes.append(
        "AzureWebJobsStorage: missing; set AzureWebJobsStorage__tableServiceUri and "
        "AzureWebJobsStorage__queueServiceUri, or a local connection string"
    )
    return "", "", ""


def _evidence(r: _Reader, connection: str) -> tuple[str, str]:
    """(connection string, blob endpoint) of the account that keeps the evidence: one of its own, else the
    app's."""
    url = r.text("EVIDENCE__blobServiceUri", r.text("AzureWebJobsStorage__blobServiceUri"))
    if url:
        if not url.startswith("https://") and not is_loopback(url):
            r.mistakes.append("EVIDENCE__blobServiceUri: must be https")
        return "", url
    held = r.text("EVIDENCE", connection)
    if held and not _local_storage(held):
        r.mistakes.append("EVIDENCE: a connection string with a key is for local storage only; set "
                          "EVIDENCE__blobServiceUri")
    return held, ""


def _incoming(r: _Reader, evidence: str) -> str:
    """Where machines write what scripts say: evidence must not be changed, this is taken away."""
    url = r.text("INCOMING__blobServiceUri", evidence)
    if url and not url.startswith("https://") and not is_loopback(url):
        r.mistakes.append("INCOMING__blobServiceUri: must be https")
    return url


def _logs_endpoint(r: _Reader) -> str:
    url = r.text("LOG_ANALYTICS", "https://api.loganalytics.io").rstrip("/")
    if url not in AZURE_LOGS and not (is_loopback(url) and url.startswith("https://")):
        r.mistakes.append(
            f"LOG_ANALYTICS: must be one of {', '.join(AZURE_LOGS)}; another address is accepted "
            "on loopback only, so that no token leaves"
        )
    return url


def _workspaces(r: _Reader) -> tuple[str, ...]:
    found = tuple(w.strip().lower() for w in r.text("RESPONDER_WORKSPACES").split(",") if w.strip())
    for one in found:
        if not re.fullmatch(GUID, one):
            r.mistakes.append(f"RESPONDER_WORKSPACES: {one[:60]!r} is no workspace's id (a GUID)")
    return found


def _channels(r: _Reader) -> tuple[str, ...]:
    """Addresses of chats, mailboxes and services, as Apprise writes them. They hold secrets: no word of ours
    shows one. That one is wrong must not keep anything from being blocked: it is a trouble, no mistake."""
    text = r.text("RESPONDER_NOTIFY")
    if text.startswith("@Microsoft.KeyVault("):
        r.troubles.append("RESPONDER_NOTIFY: the reference to Key Vault was not resolved; look at the app's "
                          "identity and its right to read the secret. Nobody is told of anything")
        return ()
    found = text.split()
    for n, one in enumerate(found, 1):
        if "://" not in one:
            r.troubles.append(
                f"RESPONDER_NOTIFY: entry {n} is no address of a channel, such as mailto://…; it is left out"
            )
    return tuple(one for one in found if "://" in one)


def _topic(r: _Reader) -> str:
    url = r.text("ESCALATION_TOPIC")
    host = urlsplit(url).hostname or ""
    ok = url.startswith("https://") and host.endswith((".eventgrid.azure.net", ".eventgrid.azure.us",
                                                       ".eventgrid.azure.cn"))
    if url and not ok and not is_loopback(url):
        r.mistakes.append("ESCALATION_TOPIC: must be the endpoint of an Event Grid topic")
    return url


def _workflow(r: _Reader) -> str:
    """The Logic App by which alerts come in."""
    text = r.text("SELFTEST_WORKFLOW").lower().rstrip("/")
    if text and not re.fullmatch(
        rf"/subscriptions/{GUID}/resourcegroups/[\w.()-]{{1,90}}/providers/microsoft\.logic/workflows"
        r"/[\w.()-]{1,80}", text, re.ASCII):
        r.mistakes.append("SELFTEST_WORKFLOW: must be the resource id of a Logic App")
    return text


def _on_or_off(text: str) -> bool:
    return {"on": True, "off": False}[text.lower()] if text.lower() in ("on", "off") else _refuse()


def _is_guest(text: str) -> bool:
    return text.lower() == "guest" if text.lower() in ("guest", "responder") else _refuse()


def _installs(text: str) -> frozenset[str]:
    found = frozenset(t.strip() for t in text.lower().split(",") if t.strip() not in ("", "none"))
    if found - set(INSTALLS):
        raise ValueError
    return found


def _refuse() -> bool:
    raise ValueError


def _shortest_retention(arm: str) -> float:
    """Days. An alert forgotten while Event Grid or the reconciliation may still bring it would be a new
    one; only against a simulated Azure may that be tried."""
    return 0.002 if is_loopback(arm) else 4


def _table_prefix(r: _Reader) -> str:
    """Lets the ledgers of several deployments live in one account."""
    prefix = r.text("RESPONDER_TABLE_PREFIX")
    if not re.fullmatch(r"(?:[A-Za-z][A-Za-z0-9]{0,19})?", prefix):
        r.mistakes.append("RESPONDER_TABLE_PREFIX: must be up to 20 letters and digits, a letter first")
    return prefix


def _local_storage(connection: str) -> bool:
    """True if every endpoint of the connection string is on loopback."""
    if connection == "UseDevelopmentStorage=true":
        return True
    parts = dict(p.split("=", 1) for p in connection.split(";") if "=" in p)
    ends = [v for k, v in parts.items() if k.lower().endswith("endpoint")]
    return bool(ends) and all(is_loopback(e) for e in ends)


def _arm_endpoint(r: _Reader) -> str:
    url = r.text("AZURE_RESOURCE_MANAGER", AZURE_CLOUDS["management.azure.com"]).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.username or parts.path or parts.query:
        r.mistakes.append("AZURE_RESOURCE_MANAGER: must be https://host[:port]")
    elif parts.hostname not in AZURE_CLOUDS and not is_loopback(url):
        r.mistakes.append(
            f"AZURE_RESOURCE_MANAGER: {parts.hostname} is not one of Azure's "
            f"({', '.join(AZURE_CLOUDS)}); another address is accepted on loopback only, so that "
            "no token leaves"
        )
    return url
