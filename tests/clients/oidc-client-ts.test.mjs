// The npm package `oidc-client-ts` in Chromium: signing in with OpenID Connect, without anything of SMART.
import assert from "node:assert/strict";
import { createPublicKey, verify } from "node:crypto";
import { test } from "node:test";
import { inBrowser, person, startApps, startBrowser, startServer } from "./kit.mjs";

const server = await startServer();
const apps = await startApps();
const browser = await startBrowser();
const discovery = await (await fetch(`${server.issuer}/.well-known/openid-configuration`)).json();

/** Signs `username` in; answers the page of the app, which keeps its `manager`, and the app's client id. */
async function signIn(t, username, { access_token_life, ...settings }) {
  const { client_id } = await server.register({
    redirect_uris: [`${apps}/oidc.html`],
    post_logout_redirect_uris: [`${apps}/oidc.html?signed-out=yes`],
    access_token_life,
  });
  const page = await browser.newPage(t);
  const params = new URLSearchParams({ authority: server.issuer, client_id, ...settings });
  await page.goto(`${apps}/oidc.html?${params}`);
  await person.signsIn(page, username);
  await person.allows(page);
  await page.waitForURL(`${apps}/**`);
  await page.waitForFunction(() => document.getElementById("status").textContent !== "waiting");
  assert.equal(await page.textContent("#status"), "ready");
  return { page, client_id };
}

const user = (page) => page.evaluate(() => manager.getUser().then((user) => ({ ...user, expired: user.expired })));

/** The claims of an id_token whose signature holds by the published keys. */
async function verified(idToken) {
  const [head, body, signature] = idToken.split(".");
  const decoded = (part) => JSON.parse(Buffer.from(part, "base64url"));
  const { alg, kid } = decoded(head);
  assert.equal(alg, "RS256");
  const { keys } = await (await fetch(discovery.jwks_uri)).json();
  const key = createPublicKey({ key: keys.find((k) => k.kid === kid), format: "jwk" });
  assert.ok(verify("RSA-SHA256", Buffer.from(`${head}.${body}`), key, Buffer.from(signature, "base64url")));
  return decoded(body);
}

test("a person signs in with PKCE, and the app knows who it is", inBrowser, async (t) => {
  const { page, client_id } = await signIn(t, "maria", { scope: "openid fhirUser" });
  const { profile, id_token, token_type } = await user(page);
  assert.equal(token_type, "Bearer");
  assert.equal(profile.fhirUser, `${server.fhir}/Patient/patient-maria`);
  const claims = await verified(id_token);
  assert.equal(claims.sub, profile.sub);
  assert.equal(claims.iss, server.issuer);
  assert.deepEqual([claims.aud].flat(), [client_id]);
  assert.ok(claims.exp > claims.iat);
});

test("the same person is the same to the app at every sign-in, and another is another", inBrowser, async (t) => {
  const subject = async (username) => {
    const { page } = await signIn(t, username, { scope: "openid" });
    return (await user(page)).profile.sub;
  };
  const maria = await subject("maria");
  assert.equal(await subject("maria"), maria);
  assert.notEqual(await subject("ruth"), maria);
});

test("the app refreshes silently, and reads the record before and after", inBrowser, async (t) => {
  const scope = "openid fhirUser launch/patient patient/*.rs offline_access";
  const { page } = await signIn(t, "maria", { scope, aud: server.fhir, access_token_life: 2 });
  const read = async () => {
    const { access_token } = await user(page);
    const headers = { authorization: `Bearer ${access_token}` };
    return page.evaluate(async ([url, headers]) => (await fetch(url, { headers })).status, [
      `${server.fhir}/Patient/patient-maria`,
      headers,
    ]);
  };
  const first = await user(page);
  assert.equal(await read(), 200);
  await page.waitForTimeout(2_200);
  assert.equal(await read(), 401);
  await page.evaluate(() => manager.signinSilent());
  const second = await user(page);
  assert.equal(await read(), 200);
  assert.notEqual(second.access_token, first.access_token);
  assert.notEqual(second.refresh_token, first.refresh_token);
  const [before, after] = [await verified(first.id_token), await verified(second.id_token)];
  assert.equal(after.sub, before.sub);
  assert.equal(after.auth_time, before.auth_time);
});

test("the app is told that the person said no", inBrowser, async (t) => {
  const { client_id } = await server.register({ redirect_uris: [`${apps}/oidc.html`] });
  const page = await browser.newPage(t);
  const params = new URLSearchParams({ authority: server.issuer, client_id, scope: "openid" });
  await page.goto(`${apps}/oidc.html?${params}`);
  await person.signsIn(page, "maria");
  await person.denies(page);
  await page.waitForURL(`${apps}/**`);
  await page.waitForFunction(() => document.getElementById("status").textContent !== "waiting");
  assert.notEqual(await page.textContent("#status"), "ready");
  assert.equal(new URL(page.url()).searchParams.get("error"), "access_denied");
});

test("the app asks the userinfo endpoint who it is", inBrowser, async (t) => {
  if (!discovery.userinfo_endpoint) return t.skip("this server has no userinfo endpoint");
  const { page } = await signIn(t, "maria", { scope: "openid fhirUser", userinfo: "yes" });
  assert.equal((await user(page)).profile.fhirUser, `${server.fhir}/Patient/patient-maria`);
});

test("the app signs the person out here too, and is sent back", inBrowser, async (t) => {
  const { page } = await signIn(t, "maria", { scope: "openid fhirUser" });
  // Whoever else's page leads there, without an id_token, only asks.
  await page.evaluate((url) => location.assign(url), discovery.end_session_endpoint);
  await page.getByRole("heading", { name: "Sign out?" }).waitFor();
  await page.goBack();
  await page.goto(`${apps}/oidc.html?state=none`);
  await page.evaluate(() => void manager.signoutRedirect({ state: "what the app wants to remember" }));
  await page.waitForURL(`${apps}/oidc.html?signed-out=yes&state=*`);
  await page.waitForFunction(() => document.getElementById("status").textContent === "signed out");
  assert.equal(await page.evaluate(() => manager.getUser()), null);
  await page.goto(`${server.issuer}/account`);
  assert.equal(await page.getByLabel("Password").count(), 1, "nobody is signed in");
});
