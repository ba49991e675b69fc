"""The pieces of configuration that the tests of this folder share.

The rule: the endpoints of an issuer on loopback are allowed in the file by name, as an administrator would have to.
"""

from typing import Any

from tests.auth.house import AUDIENCE, Json
from tests.auth.recorder import Recorder
from tests.real.issuer import Issuer


def oidc(issuer: Issuer, **more: Any) -> Json:
    """``incomingAuth`` for tokens of one issuer."""
    told = {"issuer": issuer.url, "audience": AUDIENCE, "insecureAllowHttp": True, "jwksAllowPrivateIp": True}
    return {"type": "oidc", "oidc": told | more}


def exchange(issuer: Issuer, audience: str, **more: Any) -> Json:
    """A strategy that exchanges the caller's token; the secret comes from the environment."""
    told = {"tokenUrl": f"{issuer.url}/token", "clientId": "gateway", "clientSecretEnv": "STS_SECRET"}
    return {"type": "token_exchange", "tokenExchange": told | {"audience": audience, "scopes": ["tools"], **more}}


def crossing(issuer: Issuer, audience: str) -> Json:
    """A strategy that has the identity provider vouch for the caller at the target's authorization server: here the same one."""
    told = {"idpTokenUrl": f"{issuer.url}/token", "targetTokenUrl": f"{issuer.url}/token", "targetAudience": audience}
    told |= {"idpClientId": "gateway", "idpClientSecretEnv": "STS_SECRET", "subjectTokenType": "id_token"}
    told |= {"targetClientId": "gateway", "targetClientSecretEnv": "STS_SECRET", "scopes": ["tools"]}
    return {"type": "xaa", "xaa": told}


def machine(issuer: Issuer, audience: str) -> Json:
    """A strategy by which vmcp acts as itself."""
    told = {
        "tokenUrl": f"{issuer.url}/token",
        "clientId": "robot",
        "clientSecretEnv": "ROBOT_SECRET",
        "audience": audience,
    }
    return {"type": "service_account", "serviceAccount": told | {"scopes": ["tools"]}}


def house(incoming: Json, recorder: Recorder, *names: str, **more: Any) -> Json:
    """One group with a backend for each name, all of them the recorder."""
    backends = {name: {"url": recorder.url(name)} for name in names or ("notes",)}
    server = {"publicUrl": "https://gateway.example"}
    return {"incomingAuth": incoming, "groups": {"all": {"backends": backends}}, "server": server, **more}
