// The npm package `openid-client`: an app on a server pushes its request (RFC 9126) and binds its tokens to a key
// (RFC 9449), both by the library's own means.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as client from "openid-client";
import { decideByForms, startServer } from "./kit.mjs";

const server = await startServer();
const CALLBACK = "https://app.example/callback";
const SCOPE = "openid fhirUser launch/patient patient/*.rs offline_access";
const patient = new URL(`${server.fhir}/Patient/patient-maria`);

/** An app of this kind, as the library knows it after discovery. */
async function app(metadata, authentication) {
  const registered = await server.register({ redirect_uris: [CALLBACK], ...metadata });
  const { client_id, client_secret } = registered;
  const proves = authentication ? authentication(client_secret) : client.None();
  const options = { execute: [client.allowInsecureRequests] };
  return client.discovery(new URL(server.issuer), client_id, undefined, proves, options);
}

/** A whole launch of Maria's with a pushed request; answers the library's token response. */
async function launch(config, options) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier();
  const expectedState = client.randomState();
  const url = await client.buildAuthorizationUrlWithPAR(
    config,
    {
      redirect_uri: CALLBACK,
      scope: SCOPE,
      aud: server.fhir,
      state: expectedState,
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: "S256",
    },
    options,
  );
  assert.deepEqual([...url.searchParams.keys()].sort(), ["client_id", "request_uri"]);
  const back = new URL(await decideByForms(url.href, "maria"));
  const checks = { pkceCodeVerifier, expectedState };
  return client.authorizationCodeGrant(config, back, checks, undefined, options);
}

test("a public app pushes its request and gets a plain token", async () => {
  const config = await app({ require_pushed_authorization_requests: true });
  const tokens = await launch(config);
  assert.equal(tokens.token_type, "bearer");
  const answer = await client.fetchProtectedResource(config, tokens.access_token, patient, "GET");
  assert.equal(answer.status, 200);
});

test("an app with a secret authenticates where it pushes", async () => {
  const config = await app({ token_endpoint_auth_method: "client_secret_basic" }, client.ClientSecretBasic);
  assert.equal((await launch(config)).claims().fhirUser, patient.href);
});

test("a public app's tokens work with its key, through a refresh, and with nothing else", async () => {
  const config = await app({ dpop_bound_access_tokens: true });
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair());
  const tokens = await launch(config, { DPoP });
  assert.equal(tokens.token_type, "dpop");
  const read = async ({ access_token }, options) =>
    (await client.fetchProtectedResource(config, access_token, patient, "GET", null, undefined, options)).status;
  assert.equal(await read(tokens, { DPoP }), 200);
  assert.equal(await read(tokens, { DPoP }), 200, "each call has a proof of its own");
  const who = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP });
  assert.equal(who.fhirUser, patient.href);

  const headers = { authorization: `Bearer ${tokens.access_token}` };
  const stolen = await fetch(patient, { headers });
  assert.equal(stolen.status, 401);
  assert.match(stolen.headers.get("www-authenticate"), /^DPoP .*error="invalid_token".*algs="/);

  const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair());
  await assert.rejects(
    client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP: other }),
    ({ error }) => error === "invalid_grant",
  );
  const next = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP });
  assert.equal(next.token_type, "dpop");
  assert.equal(await read(next, { DPoP }), 200);
  await assert.rejects(read(next, { DPoP: other }), ({ cause }) => cause[0].parameters.error === "invalid_dpop_proof");
});

test("an app that must send proofs and does not is told so", async () => {
  const config = await app({ dpop_bound_access_tokens: true });
  await assert.rejects(launch(config), ({ error }) => error === "invalid_dpop_proof");
});
