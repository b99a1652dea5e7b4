// The npm package `fhirclient` in Chromium, unchanged: the library most SMART apps in browsers are made with.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ehrLaunch, inBrowser, person, press, startApps, startBrowser, startServer } from "./kit.mjs";

const server = await startServer();
const apps = await startApps();
const browser = await startBrowser();

const SCOPE = "openid fhirUser launch/patient patient/*.rs";

/** Begins a launch with `metadata` for the app; answers a page that shows the sign-in. */
async function launch(t, { scope = SCOPE, ...metadata } = {}) {
  const client = await server.register({ redirect_uris: [`${apps}/fhirclient.html`], ...metadata });
  const page = await browser.newPage(t);
  const params = new URLSearchParams({ iss: server.fhir, client_id: client.client_id, scope });
  await page.goto(`${apps}/fhirclient.html?${params}`);
  return page;
}

/** What the app shows in the end. */
async function status(page) {
  await page.waitForURL(`${apps}/**`);
  await page.waitForFunction(() => document.getElementById("status").textContent !== "waiting");
  return page.textContent("#status");
}

const request = (page, url, options) =>
  page.evaluate(([url, options]) => client.request(url, options).catch((e) => `refused: ${e.status}`), [url, options]);

async function isKnownAs(page, type, id) {
  const known = await page.evaluate(() => [client.getIdToken().fhirUser, client.user.fhirUser, client.getUserType()]);
  assert.deepEqual(known, [`${server.fhir}/${type}/${id}`, `${type}/${id}`, type]);
}

test("a patient launches with nobody to choose, and the app reads the record page by page", inBrowser, async (t) => {
  const page = await launch(t);
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal(await status(page), "ready");

  const patient = await page.evaluate(() => client.patient.read());
  assert.equal(patient.id, "patient-maria");
  const whole = await request(page, "Observation?patient=patient-maria&_count=1000", { flat: true });
  const pages = await request(page, "Observation?patient=patient-maria&_count=10", { pageLimit: 0 });
  assert.ok(pages.length >= 4, `${pages.length} pages`);
  const ids = pages.flatMap((bundle) => bundle.entry.map((entry) => entry.resource.id));
  assert.equal(new Set(ids).size, ids.length, "nothing comes twice");
  assert.deepEqual(ids.toSorted(), whole.map((o) => o.id).toSorted());
});

test("the app learns who signed in: fhirUser, the type, and the person's own resource", inBrowser, async (t) => {
  const page = await launch(t);
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  await isKnownAs(page, "Patient", "patient-maria");
  assert.equal((await page.evaluate(() => client.user.read())).id, "patient-maria");
});

test("a mother chooses a child, and the app gets the child's record and not her own", inBrowser, async (t) => {
  const page = await launch(t);
  await person.signsIn(page, "amara");
  await person.chooses(page, "patient-kofi");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  assert.equal((await page.evaluate(() => client.patient.read())).id, "patient-kofi");
  assert.equal(await page.evaluate(() => client.getUserId()), "patient-amara");
  const found = await request(page, "Observation?_count=1000", { flat: true });
  assert.ok(found.length > 0);
  for (const { subject } of found) assert.match(subject.reference, /\bPatient\/patient-kofi$/);
  const hers = await request(page, "Condition?patient=patient-amara", { flat: true });
  assert.match(String(hers), /^$|refused: 40[34]/);
});

test("a practitioner searches by name, chooses a patient, and is known as a practitioner", inBrowser, async (t) => {
  const page = await launch(t);
  await person.signsIn(page, "ruth");
  await page.getByLabel("Name or identifier").fill("margaret");
  await press(page, page.getByRole("button", { name: "Search" }));
  await person.chooses(page, "patient-margaret");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  assert.equal((await page.evaluate(() => client.patient.read())).id, "patient-margaret");
  await isKnownAs(page, "Practitioner", "practitioner-ruth");
});

test("the app refreshes by itself when its token is over, again and again", inBrowser, async (t) => {
  const page = await launch(t, { scope: `${SCOPE} offline_access`, access_token_life: 2 });
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  const token = () => page.evaluate(() => client.getState("tokenResponse.access_token"));
  const seen = new Set([await token()]);
  for (let round = 0; round < 2; round += 1) {
    await page.waitForTimeout(2_200);
    assert.equal((await page.evaluate(() => client.patient.read())).id, "patient-maria");
    seen.add(await token());
  }
  assert.equal(seen.size, 3, "a new token each time");
  await page.evaluate(() => client.refreshIfNeeded());
  const pages = await request(page, "Observation?_count=10", { pageLimit: 0 });
  assert.ok(pages.length >= 4, "the next links of a search go on with new tokens");
});

test("the app goes on after a reload, from what it kept", inBrowser, async (t) => {
  const page = await launch(t, { scope: `${SCOPE} offline_access`, access_token_life: 2 });
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  await page.waitForTimeout(2_200);
  await page.reload();
  assert.equal(await status(page), "ready");
  assert.equal((await page.evaluate(() => client.patient.read())).id, "patient-maria");
});

test("without a refresh token the app is told 401 when its token is over", inBrowser, async (t) => {
  const page = await launch(t, { access_token_life: 1 });
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  await page.waitForTimeout(1_500);
  assert.equal(await request(page, "Patient/patient-maria"), "refused: 401");
});

test("the app is refused another patient's record, and what it did not ask for", inBrowser, async (t) => {
  const page = await launch(t, { scope: "launch/patient patient/Patient.rs" });
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal(await status(page), "ready");
  assert.match(await request(page, "Patient/patient-kofi"), /refused: 40[34]/);
  assert.match(await request(page, "Observation"), /refused: 40[13]/);
  assert.equal((await request(page, "Patient/patient-maria")).id, "patient-maria");
});

test("the app shows that the person said no", inBrowser, async (t) => {
  const page = await launch(t);
  await person.signsIn(page, "maria");
  await person.denies(page);
  assert.match(await status(page), /^access_denied/);
});

test("the app works with less when the person unticks a box", inBrowser, async (t) => {
  const page = await launch(t, { scope: "launch/patient patient/Patient.rs patient/Observation.rs" });
  await person.signsIn(page, "maria");
  await page.locator('input[name=scope][value="patient/Observation.rs"]').uncheck();
  await person.allows(page);
  assert.equal(await status(page), "ready");
  assert.equal(await page.evaluate(() => client.getState("tokenResponse.scope")), "launch/patient patient/Patient.rs");
  assert.match(await request(page, "Observation"), /refused: 40[13]/);
});

/** Registers an app with a launch URL, and opens it as an EHR does. */
async function openedByEhr(t, wanted) {
  const metadata = { redirect_uris: [`${apps}/fhirclient.html`], initiate_login_uri: `${apps}/ehr.html?theme=dark` };
  const client = await server.register(metadata);
  const made = await ehrLaunch(server, { client_id: client.client_id, ...wanted });
  const page = await browser.newPage(t);
  await page.addInitScript((id) => { window.ownClientId = id; }, client.client_id);
  await page.goto(made.launch_url);
  return { page, made };
}

test("an EHR opens the app with a record, and the library gets it and what else was open", inBrowser, async (t) => {
  const { page } = await openedByEhr(t, {
    person: "ruth",
    patient: "patient-margaret",
    encounter: "margaret-cardiology-2026-02",
    fhirContext: [{ reference: "DiagnosticReport/margaret-echo-2026-02" }],
    intent: "review-results",
    need_patient_banner: false,
    smart_style_url: `${apps}/style.json`,
    tenant: "alder-creek",
  });
  await page.waitForURL(`${server.issuer}/**`);
  assert.equal(await page.getByLabel("Username").inputValue(), "ruth");
  await person.signsIn(page, "ruth");
  await page.getByText("review-results").waitFor();
  await person.allows(page);
  assert.equal(await status(page), "ready");
  assert.equal((await page.evaluate(() => client.patient.read())).id, "patient-margaret");
  assert.equal((await page.evaluate(() => client.encounter.read())).id, "margaret-cardiology-2026-02");
  await isKnownAs(page, "Practitioner", "practitioner-ruth");
  const told = () => page.evaluate(() => client.getState("tokenResponse"));
  const first = await told();
  assert.match(first.scope, /\blaunch\b/);
  assert.deepEqual(first.fhirContext, [{ reference: "DiagnosticReport/margaret-echo-2026-02" }]);
  assert.equal(first.intent, "review-results");
  assert.equal(first.need_patient_banner, false);
  assert.equal(first.smart_style_url, `${apps}/style.json`);
  assert.equal(first.tenant, "alder-creek");
  await page.evaluate(() => client.refresh());
  const next = await told();
  assert.notEqual(next.access_token, first.access_token);
  assert.equal(next.patient, "patient-margaret");
  assert.equal(next.intent, "review-results");
});

test("whoever did not open the app is asked to make way, and the right person goes on", inBrowser, async (t) => {
  const { page, made } = await openedByEhr(t, { person: "ruth", patient: "patient-maria" });
  await page.waitForURL(`${server.issuer}/**`);
  await person.signsIn(page, "amara");
  await page.getByRole("heading", { level: 1, name: /^Somebody else opened/ }).waitFor();
  await page.getByLabel("Password").fill("hearth");
  await press(page, page.getByRole("button", { name: "Sign in as ruth" }));
  await person.allows(page);
  assert.equal(await status(page), "ready");
  assert.equal((await page.evaluate(() => client.patient.read())).id, "patient-maria");
  await page.goto(made.launch_url);
  await page.waitForURL(`${apps}/fhirclient.html?**`);
  assert.match(await status(page), /already used/, "the same launch a second time");
});

test("a page of an origin that no app registered cannot read the token endpoint's answer", inBrowser, async (t) => {
  await launch(t);
  const stranger = await browser.newPage(t);
  await stranger.goto(`${await startApps()}/callback.html`);
  const read = (path, method) =>
    stranger.evaluate(([url, method]) => fetch(url, { method }).then(() => "read", () => "kept"), [
      server.issuer + path,
      method,
    ]);
  assert.equal(await read("/oauth/token", "POST"), "kept");
  assert.equal(await read("/fhir/Patient/patient-maria", "GET"), "kept");
  assert.equal(await read("/oauth/authorize", "GET"), "kept");
  assert.equal(await read("/fhir/.well-known/smart-configuration", "GET"), "read");
  assert.equal(await read("/fhir/metadata", "GET"), "read");
});
