"""One sign-in with the PyPI package `Authlib`, driven by py-authlib.test.mjs.

The argument is the settings as JSON. Prints the address to send the person to, reads the address they come back
to, and prints as JSON what the verified id_token and userinfo say.
"""
import json
import os
import sys

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # it is plain HTTP on loopback

import requests  # noqa: E402
from authlib.integrations.requests_client import OAuth2Session  # noqa: E402
from authlib.oidc.core import CodeIDToken  # noqa: E402
from joserfc import jwt  # noqa: E402
from joserfc.jwk import KeySet  # noqa: E402

settings = json.loads(sys.argv[1])
server = requests.get(settings["issuer"] + "/.well-known/openid-configuration", timeout=10).json()
session = OAuth2Session(
    settings["client_id"],
    settings["client_secret"],
    token_endpoint_auth_method=settings["method"],
    revocation_endpoint_auth_method=settings["method"],
    scope=settings["scope"],
    redirect_uri=settings["redirect_uri"],
    code_challenge_method="S256",
)
verifier = "v" * 43
url, state = session.create_authorization_url(
    server["authorization_endpoint"], nonce="the-nonce", code_verifier=verifier
)
print(url, flush=True)
token = session.fetch_token(
    server["token_endpoint"],
    authorization_response=sys.stdin.readline().strip(),
    state=state,
    code_verifier=verifier,
)
keys = KeySet.import_key_set(requests.get(server["jwks_uri"], timeout=10).json())
algorithms = server["id_token_signing_alg_values_supported"]
decoded = jwt.decode(token["id_token"], keys, algorithms=algorithms)
claims = CodeIDToken(
    decoded.claims,
    decoded.header,
    options={"iss": {"value": server["issuer"]}, "aud": {"value": settings["client_id"]}},
    params={"nonce": "the-nonce", "client_id": settings["client_id"], "access_token": token["access_token"]},
)
claims.validate()  # iss, aud, exp, iat, auth_time, nonce, at_hash, azp
userinfo = session.get(server["userinfo_endpoint"]).json()
old = token["access_token"]
token = session.refresh_token(server["token_endpoint"], refresh_token=token["refresh_token"])
revoked = session.revoke_token(server["revocation_endpoint"], token=token["refresh_token"])
gone = requests.get(server["userinfo_endpoint"], headers={"Authorization": f"Bearer {token['access_token']}"}, timeout=10)
print(
    json.dumps(
        {
            "sub": claims["sub"],
            "fhirUser": claims["fhirUser"],
            "alg": decoded.header["alg"],
            "userinfo": userinfo,
            "refreshed": token["access_token"] != old,
            "revoked": [revoked.status_code, gone.status_code],
        }
    )
)
