"""The SDKs' clients, made when first used and kept. One credential for all.

`Clients` is the only place that knows endpoints, scopes and pipelines. ARM is reached through
azure-mgmt-network's pipeline also for the few resources that it has no operation for.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from remediation.clock import Deadline
from remediation.cloud.failures import translated
from remediation.cloud.retry import retrying
from remediation.errors import Invalid
from remediation.settings import AZURE_LOGS, Settings, is_loopback

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.credentials import TokenCredential
    from azure.core.pipeline.policies import AzureSasCredentialPolicy
    from azure.core.pipeline.transport import RequestsTransport
    from azure.data.tables import TableServiceClient
    from azure.mgmt.network import NetworkManagementClient
    from azure.mgmt.resourcegraph import ResourceGraphClient
    from azure.monitor.query import LogsQueryClient
    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueClient

_log = logging.getLogger(__name__)

USER_AGENT = "defender-responder/1.0"
CONNECTIONS = 64
CA_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where requests looks for a CA file of one's own."""
CONNECT_SECONDS, READ_SECONDS = 3.0, 10.0
LEAST_SECONDS = 0.5
"""One request to ARM may take so long; what takes longer in Azure is an operation that is polled."""
STORAGE_SCOPE = "https://storage.azure.com/.default"
EMULATOR = ("devstoreaccount1",
            "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
"""The storage emulator's name and key, known to all, which `UseDevelopmentStorage=true` stands for."""
LOGS_SECONDS = 30.0
"""A query over days of flow records takes its time."""
BLOB_SECONDS = (2.0, 10.0)
EVENTS_SCOPE, EVENTS_API = "https://eventgrid.azure.net/.default", "2018-01-01"
STORAGE_SECONDS = (2.0, 4.0)
"""To connect and to answer: three tries of a table call stay within what a trigger may take."""


def _transport(connect: float, read: float) -> RequestsTransport:
    """One connection pool for all threads: requests' own holds 10 and throws the others away, each
    with its TLS handshake. The environment is read once: requests would look for proxies, .netrc
    and a CA file at every request."""
    import requests
    from azure.core.pipeline.transport import RequestsTransport
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = bool(getproxies())
    session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))
    session.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS))
    return RequestsTransport(
        session=session, connection_timeout=connect, read_timeout=read,
        connection_verify=next(filter(None, map(os.environ.get, CA_FILES)), True),
    )


def _with_local_key(connection: str) -> AzureSasCredentialPolicy[Any, Any]:
    """Sign in to a storage emulator: a connection string is taken for local storage only, whose key is no
    secret."""
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.core.pipeline.policies import AzureSasCredentialPolicy
    from azure.data.tables import AccountSasPermissions, ResourceTypes, generate_account_sas

    parts = dict(part.split("=", 1) for part in connection.split(";") if "=" in part)
    named = EMULATOR if "UseDevelopmentStorage" in parts else (parts["AccountName"], parts["AccountKey"])
    sas = generate_account_sas(
        AzureNamedKeyCredential(*named),
        resource_types=ResourceTypes(object=True), expiry=datetime(9999, 1, 1, tzinfo=UTC),
        permission=AccountSasPermissions(read=True, add=True, update=True, delete=True, write=True))
    return AzureSasCredentialPolicy(AzureSasCredential(sas))


def timeouts(deadline: Deadline) -> dict[str, Any]:
    """How long one request may take so that the budget holds; for any call of an SDK."""
    left = max(LEAST_SECONDS, deadline.left())
    return {"connection_timeout": min(CONNECT_SECONDS, left), "read_timeout": min(READ_SECONDS, left)}


class Clients:
    """Lazily made clients; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self.reads_left = 1_000
        """What ARM said last of how many reads it still allows our principal at once: all processes
        draw on it. Before its first word, plenty."""

    def _once(self, key: str, make: Any) -> Any:
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]

    def credential(self) -> TokenCredential:
        """The managed identity in Azure; what a developer is signed in with elsewhere."""
        return self._once("credential", self._make_credential)  # type: ignore[no-any-return]  # kept as Any

    def _make_credential(self) -> TokenCredential:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

        client_id = self._settings.client_id or None
        if self._settings.managed_identity:
            return ManagedIdentityCredential(client_id=client_id)
        return DefaultAzureCredential(exclude_interactive_browser_credential=True)

    def principal(self) -> frozenset[str]:
        """Who we are to Azure, lower-cased: the token's object id and application id. None of it is
        trusted; it only tells our own writes in the activity log from other people's."""

        def read() -> frozenset[str]:
            with translated("get a token"):
                token = self.credential().get_token(self._settings.token_scope).token
            try:
                part = token.split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            except (IndexError, ValueError):
                return frozenset()
            names = (claims.get(name) for name in ("oid", "appid", "azp"))
            return frozenset(str(n).lower() for n in names if n)

        return self._once("principal", read)  # type: ignore[no-any-return]  # kept as Any

    def _arm_options(self) -> dict[str, Any]:
        from azure.core.pipeline.policies import RetryPolicy

        return {
            "base_url": self._settings.arm_endpoint,
            "credential_scopes": [self._settings.token_scope],
            "retry_policy": RetryPolicy.no_retries(),
            "user_agent": USER_AGENT,
            "transport": self._once(
                "transport/arm", lambda: _transport(CONNECT_SECONDS, READ_SECONDS)),
        }

    def network(self, subscription: str) -> NetworkManagementClient:
        """azure-mgmt-network for one subscription."""

        def make() -> NetworkManagementClient:
            from azure.mgmt.network import NetworkManagementClient

            return NetworkManagementClient(self.credential(), subscription, **self._arm_options())

        return self._once(f"network/{subscription}", make)  # type: ignore[no-any-return]  # kept as Any

    def graph(self) -> ResourceGraphClient:
        """azure-mgmt-resourcegraph."""

        def make() -> ResourceGraphClient:
            from azure.mgmt.resourcegraph import ResourceGraphClient

            return ResourceGraphClient(self.credential(), **self._arm_options())

        return self._once("graph", make)  # type: ignore[no-any-return]  # kept as Any

    def tables(self) -> TableServiceClient:
        """azure-data-tables for the ledger's account."""

        def make() -> TableServiceClient:
            from azure.data.tables import TableServiceClient

            options: dict[str, Any] = {"retry_total": 0, "transport": self._to_tables()}
            s = self._settings
            if s.storage_connection:
                return TableServiceClient.from_connection_string(s.storage_connection, **options)
            return TableServiceClient(
                endpoint=s.table_endpoint, credential=self.credential(), **options
            )

        return self._once("tables", make)  # type: ignore[no-any-return]  # kept as Any

    def _to_tables(self) -> RequestsTransport:
        made: RequestsTransport = self._once("transport/tables", lambda: _transport(*STORAGE_SECONDS))
        return made

    def table_requests(self) -> tuple[PipelineClient[Any, Any], str]:
        """For requests to the tables that azure-data-tables has no lean way for (`table_batch`): azure-core's
        own client, signed in as the SDK's is; and the endpoint."""

        def make() -> tuple[PipelineClient[Any, Any], str]:
            from azure.core import PipelineClient
            from azure.core.pipeline.policies import BearerTokenCredentialPolicy, UserAgentPolicy

            endpoint = self.tables().url.partition("?")[0].rstrip("/")
            if self._settings.storage_connection:
                signed: Any = _with_local_key(self._settings.storage_connection)
            else:
                signed = BearerTokenCredentialPolicy(self.credential(), STORAGE_SCOPE)
            policies = [UserAgentPolicy(USER_AGENT), signed]
            return PipelineClient(endpoint, policies=policies, transport=self._to_tables()), endpoint

        return self._once("table_requests", make)  # type: ignore[no-any-return]  # kept as Any

    def queue(self, name: str) -> QueueClient:
        """azure-storage-queue, in the encoding that the Functions host expects."""

        def make() -> QueueClient:
            from azure.storage.queue import QueueClient, TextBase64EncodePolicy

            s = self._settings
            options: dict[str, Any] = {
                "message_encode_policy": TextBase64EncodePolicy(), "retry_total": 0,
                "transport": _transport(*STORAGE_SECONDS),
            }
            if s.storage_connection:
                return QueueClient.from_connection_string(s.storage_connection, name, **options)
            return QueueClient(s.queue_endpoint, name, credential=self.credential(), **options)

        return self._once(f"queue/{name}", make)  # type: ignore[no-any-return]  # kept as Any

    def arm_get(
        self, subscription: str, path: str, api_version: str, deadline: Deadline, **query: str
    ) -> dict[str, Any]:
        """GET a resource that azure-mgmt-network has no operation for. `path` starts with `/`."""
        return self.arm_answer(subscription, path, api_version, deadline, **query)[0]

    def arm_answer(
        self, subscription: str, path: str, api_version: str, deadline: Deadline, **query: str
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """As `arm_get`, with the answer's headers."""
        from azure.core.rest import HttpRequest

        url = self._settings.arm_endpoint + path

        def call() -> tuple[dict[str, Any], Mapping[str, str]]:
            with translated(f"GET {path}"):
                request = HttpRequest("GET", url, params={"api-version": api_version, **query})
                response = self.network(subscription).send_request(request, **timeouts(deadline))
                response.raise_for_status()
                self._note_reads(response.headers)
                body = response.json()
            return body if isinstance(body, dict) else {"value": body}, response.headers

        return retrying(call, deadline, what=f"GET {path}")

    def arm_put(
        self, subscription: str, path: str, api_version: str, body: Mapping[str, Any], etag: str,
        deadline: Deadline,
    ) -> Mapping[str, str]:
        """PUT a whole resource if it still has that etag → the answer's headers. One request; errors
        as the SDK raises them, and Invalid without an etag."""
        from azure.core.rest import HttpRequest

        if not etag:
            raise Invalid(f"PUT {path}: without an etag someone else's change could be lost")
        request = HttpRequest("PUT", self._settings.arm_endpoint + path, params={"api-version": api_version},
                              headers={"If-Match": etag}, json=body)
        response = self.network(subscription).send_request(request, **timeouts(deadline))
        response.raise_for_status()
        return response.headers

    def arm_send(
        self, method: str, path: str, api_version: str, deadline: Deadline,
        body: Mapping[str, Any] | None = None, **query: str
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """PUT, POST or DELETE what may be done twice without harm → the answer and its headers. The caller
        looks at the operation, if the answer names one."""
        from azure.core.rest import HttpRequest

        def call() -> tuple[dict[str, Any], Mapping[str, str]]:
            with translated(f"{method} {path}"):
                request = HttpRequest(method, self._settings.arm_endpoint + path, json=body,
                                      params={"api-version": api_version, **query})
                response = self.network(path.split("/")[2]).send_request(request, **timeouts(deadline))
                response.raise_for_status()
                held = response.json() if response.text() else {}
            return held if isinstance(held, dict) else {"value": held}, response.headers

        return retrying(call, deadline, what=f"{method} {path}")

    def arm_operation(self, url: str, deadline: Deadline) -> dict[str, Any]:
        """The status of an operation by the address that Azure gave for it. Raises Invalid if that is not
        ARM's: our token goes nowhere else."""
        if not url.startswith(self._settings.arm_endpoint + "/subscriptions/"):
            raise Invalid("an operation's address that is not ARM's")
        from azure.core.rest import HttpRequest

        subscription = urlsplit(url).path.split("/")[2]

        def call() -> dict[str, Any]:
            with translated("GET operation"):
                response = self.network(subscription).send_request(
                    HttpRequest("GET", url), **timeouts(deadline))
                response.raise_for_status()
                held = response.json() if response.text() else {}
            return held if isinstance(held, dict) else {}

        return retrying(call, deadline, what="GET operation")

    def logs(self) -> LogsQueryClient:
        """azure-monitor-query, for Log Analytics workspaces."""

        def make() -> LogsQueryClient:
            from azure.core.pipeline.policies import RetryPolicy
            from azure.monitor.query import LogsQueryClient

            endpoint = self._settings.logs_endpoint
            return LogsQueryClient(
                self.credential(), endpoint=endpoint, audience=AZURE_LOGS.get(endpoint, endpoint),
                retry_policy=RetryPolicy.no_retries(), transport=_transport(CONNECT_SECONDS, LOGS_SECONDS))

        return self._once("logs", make)  # type: ignore[no-any-return]  # kept as Any

    def blobs(self, *, incoming: bool = False) -> BlobServiceClient:
        """azure-storage-blob, for the evidence's account, or for the one that machines write to."""

        def make() -> BlobServiceClient:
            from azure.storage.blob import BlobServiceClient

            s = self._settings
            options: dict[str, Any] = {"retry_total": 0, "transport": _transport(*BLOB_SECONDS)}
            if s.evidence_connection:
                return BlobServiceClient.from_connection_string(s.evidence_connection, **options)
            url = s.incoming_endpoint if incoming else s.blob_endpoint
            return BlobServiceClient(url, credential=self.credential(), **options)

        return self._once("incoming" if incoming else "blobs", make)  # type: ignore[no-any-return]  # kept as Any

    def events(self, endpoint: str, body: Any) -> None:
        """Publish CloudEvents to a topic of Event Grid, signed in as the app. One request; errors are
        ours."""
        from azure.core.rest import HttpRequest

        client: PipelineClient[Any, Any] = self._once("events", self._make_events)
        with translated("publish an event"):
            request = HttpRequest("POST", endpoint, json=body, params={"api-version": EVENTS_API}, headers={
                "content-type": "application/cloudevents-batch+json; charset=utf-8"})
            # a token goes over TLS, but for a topic on this very machine
            client.send_request(request, enforce_https=not is_loopback(endpoint)).raise_for_status()

    def post(
        self, url: str, body: Mapping[str, Any], deadline: Deadline
    ) -> tuple[int, Mapping[str, str]]:
        """POST JSON to an address that holds its own credential → the status, and the answer's headers with
        names in lower case. One request without a token of ours; errors as azure-core raises them."""
        from azure.core.rest import HttpRequest

        client: PipelineClient[Any, Any] = self._once("plain", self._make_plain)
        response = client.send_request(HttpRequest("POST", url, json=dict(body)), **timeouts(deadline))
        response.raise_for_status()
        return response.status_code, {k.lower(): v for k, v in response.headers.items()}

    def _make_plain(self) -> PipelineClient[Any, Any]:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import UserAgentPolicy

        return PipelineClient("", policies=[UserAgentPolicy(USER_AGENT)],
                              transport=_transport(CONNECT_SECONDS, READ_SECONDS))

    def _make_events(self) -> PipelineClient[Any, Any]:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, UserAgentPolicy

        signed = BearerTokenCredentialPolicy(self.credential(), EVENTS_SCOPE)
        return PipelineClient("", policies=[UserAgentPolicy(USER_AGENT), signed],
                              transport=_transport(CONNECT_SECONDS, READ_SECONDS))

    def _note_reads(self, headers: Mapping[str, str]) -> None:
        left = headers.get("x-ms-ratelimit-remaining-subscription-reads", "")
        if left.isdigit():
            self.reads_left = int(left)

    def arm_pages(
        self, subscription: str, path: str, api_version: str, query: Mapping[str, str], deadline: Deadline,
        *, most: int = 200,
    ) -> list[dict[str, Any]]:
        """All pages of a list; `nextLink` is followed on the same host only. Raises Invalid if there are
        more than `most`: half a list may mislead."""
        from urllib.parse import parse_qsl, urlsplit

        found: list[dict[str, Any]] = []
        params = {"api-version": api_version, **query}
        for _ in range(most):
            version = params.pop("api-version", api_version)
            page = self.arm_get(subscription, path, version, deadline, **params)
            found += [v for v in page.get("value") or () if isinstance(v, dict)]
            link = page.get("nextLink")
            if not link:
                return found
            parts = urlsplit(str(link))
            path, params = parts.path, dict(parse_qsl(parts.query))
        raise Invalid(f"GET {path}: more than {most} pages")
