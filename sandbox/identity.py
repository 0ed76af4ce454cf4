"""The managed identity endpoint that azure-identity asks, and the metadata and sign-in endpoints
that `az cloud register` and `az login` need. Tokens are made here and known to ARM alone.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.arm.call import Caller

LIFETIME = 24 * 3600


class Tokens:
    """All tokens handed out."""

    def __init__(self, tenant: str = "00000000-0000-0000-0000-00000000feed") -> None:
        self.tenant = tenant
        self._callers: dict[str, Caller] = {}

    def issue(self, name: str, upn: str = "") -> str:
        """A token in the form of a JWT, unsigned: nothing here checks signatures."""
        claims = {"aud": "https://management.azure.com", "iss": "sandbox", "oid": name,
                  "appid": name, "tid": self.tenant, "exp": int(time.time()) + LIFETIME,
                  "jti": secrets.token_hex(8), **({"upn": upn} if upn else {})}

        def part(value: Any) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

        token = f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}.{secrets.token_hex(8)}"
        self._callers[token] = Caller(name, upn)
        return token

    def caller(self, token: str) -> Caller | None:
        """Whose token it is."""
        return self._callers.get(token)


class Identity:
    """`IDENTITY_ENDPOINT` of App Service, 2019-08-01."""

    def __init__(self, tokens: Tokens, secret: str) -> None:
        self._tokens = tokens
        self._secret = secret

    async def token(self, request: Request) -> Response:
        """GET /msi/token?resource=…&api-version=2019-08-01"""
        if request.headers.get("x-identity-header") != self._secret:
            return JSONResponse({"statusCode": 401, "message": "wrong X-IDENTITY-HEADER"}, 401)
        resource = request.query_params.get("resource", "")
        if not resource:
            return JSONResponse({"statusCode": 400, "message": "resource is missing"}, 400)
        client = request.query_params.get("client_id") or "responder-identity"
        return JSONResponse({
            "access_token": self._tokens.issue(client), "resource": resource,
            "expires_on": str(int(time.time()) + LIFETIME), "token_type": "Bearer",
            "client_id": client,
        })

    async def oauth(self, request: Request) -> Response:
        """POST /{tenant}/oauth2/[v2.0/]token: any secret signs in, as whoever says so."""
        form = dict(parse_qsl((await request.body()).decode()))
        upn = form.get("username", "")
        name = form.get("client_id") or upn or "someone"
        return JSONResponse({"token_type": "Bearer", "expires_in": LIFETIME,
                             "ext_expires_in": LIFETIME,
                             "access_token": self._tokens.issue(name, upn)})

    def metadata(self, arm: str, login: str) -> Any:
        """GET /metadata/endpoints: what `az cloud register --endpoint-resource-manager` reads."""

        async def answer(request: Request) -> Response:
            body = {
                "name": "Sandbox", "portal": arm, "galleryEndpoint": arm,
                "graphEndpoint": arm, "graph": arm, "resourceManager": arm,
                "authentication": {"loginEndpoint": login, "audiences": [arm, "https://management.azure.com"],
                                   "tenant": self._tokens.tenant, "identityProvider": "AAD"},
                "suffixes": {"storage": "localhost", "keyVaultDns": "localhost"},
                "media": arm, "batch": arm,
            }
            version = request.query_params.get("api-version", "")
            return JSONResponse([body] if "2019-05-01" <= version < "2022-09-01" else body)

        return answer

    def openid(self, login: str) -> Any:
        """GET /{tenant}/v2.0/.well-known/openid-configuration"""

        async def answer(request: Request) -> Response:
            base = f"{login}/{request.path_params['tenant']}"
            return JSONResponse({
                "issuer": f"{base}/v2.0", "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "tenant_region_scope": "EU",
            })

        return answer
