// The npm package `openid-client`: relying parties on a server, by every way of proving who they are.
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";
import * as oidc from "openid-client";
import { decideByForms, startServer } from "./kit.mjs";

const server = await startServer();
const CALLBACK = "http://127.0.0.1:9/callback";
const RECORDS = "openid fhirUser launch/patient patient/*.rs offline_access";
const MARIA = `${server.fhir}/Patient/patient-maria`;

/** Registers an app and discovers the server; `auth` is how the library proves itself, made of the registration. */
async function relyingParty(metadata, auth) {
  const registered = await server.register({ redirect_uris: [CALLBACK], ...metadata });
  const insecure = { execute: [oidc.allowInsecureRequests] }; // it is plain HTTP on loopback
  const known = { client_secret: registered.client_secret };
  return oidc.discovery(new URL(server.issuer), registered.client_id, known, auth(registered), insecure);
}

/** Signs maria in; answers the tokens, after the library's own checks of state, iss, nonce and the id_token. */
async function signIn(config, { scope, pkce = true, cookies, ...params }) {
  const [state, nonce, verifier] = [oidc.randomState(), oidc.randomNonce(), oidc.randomPKCECodeVerifier()];
  const asked = { redirect_uri: CALLBACK, scope, state, nonce, ...params };
  if (pkce) {
    asked.code_challenge = await oidc.calculatePKCECodeChallenge(verifier);
    asked.code_challenge_method = "S256";
  }
  const back = await decideByForms(oidc.buildAuthorizationUrl(config, asked).href, "maria", "allow", cookies);
  const checks = { expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  if (pkce) checks.pkceCodeVerifier = verifier;
  return oidc.authorizationCodeGrant(config, new URL(back), checks);
}

/** The whole life of what an app holds: userinfo, refresh, introspection, revocation. */
async function lives(config, introspects) {
  const tokens = await signIn(config, { scope: RECORDS, aud: server.fhir });
  assert.equal(tokens.claims().fhirUser, MARIA);
  assert.equal(tokens.patient, "patient-maria");
  const { sub } = tokens.claims();
  const told = await oidc.fetchUserInfo(config, tokens.access_token, sub);
  assert.deepEqual(told, { sub, fhirUser: MARIA });
  const read = (token) => oidc.fetchProtectedResource(config, token, new URL(MARIA), "GET");
  assert.equal((await read(tokens.access_token)).status, 200);

  const next = await oidc.refreshTokenGrant(config, tokens.refresh_token);
  assert.notEqual(next.access_token, tokens.access_token);
  assert.equal(next.claims().sub, sub);
  assert.equal(next.claims().auth_time, tokens.claims().auth_time);
  if (introspects) {
    const known = await oidc.tokenIntrospection(config, next.access_token);
    assert.deepEqual([known.active, known.sub, known.patient], [true, sub, "patient-maria"]);
  }
  await oidc.tokenRevocation(config, next.refresh_token);
  if (introspects) assert.equal((await oidc.tokenIntrospection(config, next.access_token)).active, false);
  await assert.rejects(read(next.access_token), { status: 401 });
  await assert.rejects(oidc.refreshTokenGrant(config, next.refresh_token), { error: "invalid_grant" });
}

test("a public app lives through sign-in, refresh and revocation with PKCE", async () => {
  await lives(await relyingParty({}, () => oidc.None()), false);
});

test("an app with a secret in the header does, and introspects", async () => {
  const metadata = { token_endpoint_auth_method: "client_secret_basic" };
  await lives(await relyingParty(metadata, (app) => oidc.ClientSecretBasic(app.client_secret)), true);
});

test("an app with a secret in the body does, and introspects", async () => {
  const metadata = { token_endpoint_auth_method: "client_secret_post" };
  await lives(await relyingParty(metadata, (app) => oidc.ClientSecretPost(app.client_secret)), true);
});

for (const [alg, params] of [
  ["ES384", { name: "ECDSA", namedCurve: "P-384" }],
  ["RS256", { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) }],
]) {
  test(`an app with a key of its own does, by ${alg}`, async () => {
    const { publicKey, privateKey } = await webcrypto.subtle.generateKey(params, true, ["sign", "verify"]);
    const jwk = { ...(await webcrypto.subtle.exportKey("jwk", publicKey)), kid: "one", alg, use: "sig" };
    delete jwk.key_ops;
    const metadata = { token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [jwk] } };
    await lives(await relyingParty(metadata, () => oidc.PrivateKeyJwt({ key: privateKey, kid: "one" })), true);
  });
}

test("an app that only signs people in does so without PKCE, and is not asked for again", async () => {
  const metadata = { token_endpoint_auth_method: "client_secret_post", sign_in_only: true };
  const config = await relyingParty(metadata, (app) => oidc.ClientSecretPost(app.client_secret));
  const cookies = new Map();
  const tokens = await signIn(config, { scope: "openid profile email", pkce: false, cookies });
  const { sub, name, email, email_verified, acr } = tokens.claims();
  assert.deepEqual([name, email_verified, acr], ["Maria Elena Alvarez", false, "0"]);
  const told = await oidc.fetchUserInfo(config, tokens.access_token, sub);
  assert.deepEqual([told.email, told.name, told.email_verified], [email, name, false]);
  await assert.rejects(oidc.fetchProtectedResource(config, tokens.access_token, new URL(MARIA), "GET"), { status: 401 });

  const again = await signIn(config, { scope: "openid email", pkce: false, cookies, prompt: "none" });
  assert.equal(again.claims().sub, sub);
  await assert.rejects(signIn(config, { scope: "openid phone", pkce: false, cookies, prompt: "none" }), {
    error: "consent_required",
  });
  const asks = { scope: "openid patient/*.rs", aud: server.fhir, pkce: false };
  await assert.rejects(signIn(config, asks), { error: "invalid_request" });
});

test("an app that is not registered for that is told to send PKCE", async () => {
  const metadata = { token_endpoint_auth_method: "client_secret_post" };
  const config = await relyingParty(metadata, (app) => oidc.ClientSecretPost(app.client_secret));
  await assert.rejects(signIn(config, { scope: "openid", pkce: false }), {
    error: "invalid_request",
    error_description: /`code_challenge` is missing.*`sign_in_only`/,
  });
});
