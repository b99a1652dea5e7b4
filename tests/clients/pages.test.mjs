// The pages of a launch as people meet them: without scripts, by keyboard, with reloads, tabs and the back
// button, in both colour schemes, on narrow screens.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { ehrLaunch, inBrowser, PASSWORD, person, plainLaunch, press, startApps, startBrowser, startServer } from "./kit.mjs";

const server = await startServer();
const apps = await startApps();
const browser = await startBrowser();
const client = await server.register({ redirect_uris: [`${apps}/callback.html`] });
const axe = await readFile(new URL("node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

const NO_SCRIPTS = { javaScriptEnabled: false };

/** Opens the launch's first page. */
async function open(t, { launch = plainLaunch(server, client), ...options } = NO_SCRIPTS) {
  const page = await browser.newPage(t, options);
  await page.goto(launch.url);
  return { page, launch };
}

/** Redeems what the app was sent back with; answers the token endpoint's answer. */
async function redeem(page, launch) {
  await page.waitForURL(`${apps}/**`);
  const sent = new URL(page.url()).searchParams;
  assert.equal(sent.get("state"), launch.state);
  return launch.redeem(sent.get("code"));
}

const heading = (page, name) => page.getByRole("heading", { level: 1, name }).waitFor();
const at = {
  signIn: (page) => heading(page, "Sign in"),
  choice: (page) => heading(page, "Whose record?"),
  consent: (page) => heading(page, /^Allow Growth chart/),
  over: (page) => heading(page, "This is done"),
  app: (page) => heading(page, "Back in the app"),
};

/** Goes to a control by the Tab key alone; every stop on the way shows where the focus is. */
async function tabTo(page, selector) {
  for (let stops = 0; stops < 60; stops += 1) {
    await page.keyboard.press("Tab");
    const [found, seen, what] = await page.evaluate((selector) => {
      const now = document.activeElement;
      const marked = (part) => part && getComputedStyle(part).outlineStyle !== "none";
      const seen = now === document.body || marked(now) || marked(now.closest("label"));
      return [now.matches(selector), seen, now.outerHTML.slice(0, 120)];
    }, selector);
    assert.ok(seen, `the focus is not shown at ${what}`);
    if (found) return;
  }
  assert.fail(`${selector} is not reached`);
}

test("a launch goes from end to end by keyboard alone, without scripts", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await at.signIn(page);
  await tabTo(page, "#username");
  await page.keyboard.type("amara");
  await tabTo(page, "#password");
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press("Enter");
  await at.choice(page);
  await tabTo(page, "input[name=patient]");
  for (let moves = 0; moves < 3; moves += 1) {
    if (await page.locator("input[value=patient-esi]").isChecked()) break;
    await page.keyboard.press("ArrowDown");
  }
  await page.keyboard.press("Enter");
  await at.consent(page);
  await tabTo(page, "button[value=allow]");
  await page.keyboard.press("Enter");
  const token = await redeem(page, launch);
  assert.equal(token.patient, "patient-esi");
  assert.ok(token.refresh_token);
});

test("Enter in a box of the consent page is no consent", inBrowser, async (t) => {
  const { page } = await open(t);
  await person.signsIn(page, "maria");
  await at.consent(page);
  await tabTo(page, "input[name=scope]");
  await page.keyboard.press("Enter");
  await at.app(page);
  assert.equal(new URL(page.url()).searchParams.get("error"), "access_denied");
});

test("a wrong password is said in words, the name is kept, and the right one goes on", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await person.signsIn(page, "maria", "wrong");
  assert.match(await page.getByRole("alert").textContent(), /do not go together/);
  assert.equal(await page.getByLabel("Username").inputValue(), "maria");
  await person.signsIn(page, "maria");
  await person.allows(page);
  assert.equal((await redeem(page, launch)).patient, "patient-maria");
});

test("a reload at any step shows that step again", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  const again = async (step) => {
    await step(page);
    await page.reload();
    await step(page);
  };
  await again(at.signIn);
  await person.signsIn(page, "amara");
  await again(at.choice);
  await person.chooses(page, "patient-amara");
  await again(at.consent);
  await person.allows(page);
  assert.equal((await redeem(page, launch)).patient, "patient-amara");
});

test("going back after the decision shows that it is done, and a reload too", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await person.signsIn(page, "maria");
  await person.allows(page);
  await at.app(page);
  await page.goBack();
  await at.over(page);
  await page.reload();
  await at.over(page);
  await page.goForward();
  assert.equal((await redeem(page, launch)).patient, "patient-maria");
});

test("in two tabs with one launch the first decision counts, and the other tab says so", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await person.signsIn(page, "maria");
  await at.consent(page);
  const other = await page.context().newPage();
  await other.goto(page.url());
  await at.consent(other);
  await person.allows(page);
  assert.equal((await redeem(page, launch)).patient, "patient-maria");
  await person.denies(other);
  await at.over(other);
});

test("two launches in two tabs do not get in each other's way", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await person.signsIn(page, "amara");
  const other = await page.context().newPage();
  const second = plainLaunch(server, client);
  await other.goto(second.url);
  await person.chooses(other, "patient-kofi");
  await person.chooses(page, "patient-esi");
  await person.allows(other);
  await person.allows(page);
  assert.equal((await redeem(page, launch)).patient, "patient-esi");
  assert.equal((await redeem(other, second)).patient, "patient-kofi");
});

test("a page from before somebody else signed in does nothing, and leads on", inBrowser, async (t) => {
  const { page } = await open(t);
  await person.signsIn(page, "maria");
  await at.consent(page);
  const other = await page.context().newPage();
  await other.goto(page.url());
  await press(other, other.getByRole("link", { name: "Not you?" }));
  await person.signsIn(other, "amara");
  await at.choice(other);
  await person.allows(page);
  await heading(page, "This page is out of date");
  await press(page, page.getByRole("link", { name: /Go on/ }));
  await at.choice(page);
});

test("an address of a launch taken to another browser is refused there, and works on here", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await person.signsIn(page, "maria");
  await at.consent(page);
  const stranger = await browser.newPage(t, NO_SCRIPTS);
  assert.equal((await stranger.goto(page.url())).status(), 403);
  assert.equal(await stranger.locator("form").count(), 0);
  await person.allows(page);
  assert.equal((await redeem(page, launch)).patient, "patient-maria");
});

test("the person can cancel before signing in, and the app is told", inBrowser, async (t) => {
  const { page, launch } = await open(t);
  await press(page, page.getByRole("button", { name: /^Cancel and go back/ }));
  await at.app(page);
  const sent = new URL(page.url()).searchParams;
  assert.equal(sent.get("error"), "access_denied");
  assert.equal(sent.get("state"), launch.state);
});

test("an app that nobody registered gets no redirect, and the page says what is wrong", inBrowser, async (t) => {
  const launch = plainLaunch(server, { ...client, client_id: "nobody" });
  const { page } = await open(t, { launch, ...NO_SCRIPTS });
  assert.equal(new URL(page.url()).origin, server.issuer);
  await page.getByText("client_id").first().waitFor();
});

/** Walks through every page of a launch, and the ones beside it; `look` is called at each with its name. */
async function visitAll(page, look) {
  const launch = (params) => page.goto(plainLaunch(server, client, params).url);
  await launch();
  await look("sign in");
  await person.signsIn(page, "amara", "wrong");
  await look("sign in, after a mistake");
  await person.signsIn(page, "amara");
  await look("the choice of a child");
  await person.chooses(page, "patient-kofi");
  await look("consent to a child's record");
  await press(page, page.getByRole("link", { name: "Not you?" }));
  await look("sign in as somebody else");
  await person.signsIn(page, "ruth");
  await look("the choice of a patient");
  await page.goto(`${page.url().split("?")[0]}?q=nobody-has-this-name`);
  await look("nobody found");
  await page.goto(page.url().split("?")[0]);
  await person.chooses(page, "patient-margaret");
  await person.allows(page);
  await at.app(page);
  await page.goBack();
  await look("this is done");
  await launch({ scope: "launch/patient patient/Observation.rs patient/*.cruds user/*.rs oidc patient/Nothing.rs" });
  await person.chooses(page, "patient-maria");
  for (const summary of await page.locator("summary").all()) await summary.click();
  await look("consent with every part open, and scopes left out");
  const wanted = { client_id: client.client_id, patient: "patient-margaret", intent: "review-results" };
  const open = { ...wanted, fhirContext: [{ reference: "DiagnosticReport/margaret-echo-2026-02" }] };
  const ruths = await ehrLaunch(server, { ...open, person: "ruth" });
  await launch({ scope: "launch patient/*.rs", launch: ruths.launch });
  await look("consent to what an EHR has open");
  const declans = await ehrLaunch(server, { ...open, person: "declan" });
  await launch({ scope: "launch patient/*.rs", launch: declans.launch });
  await look("somebody else's launch");
  await page.goto(plainLaunch(server, { ...client, client_id: "nobody" }).url);
  await look("an unknown app");
  for (const path of ["/", "/account", "/apps", "/apps/new", "/nothing-here"]) {
    await page.goto(server.issuer + path);
    await look(path);
  }
  await visitDeveloper(page, look);
}

/** The pages of a developer: every part of the form open, mistakes in it, an app, its secrets, a backend service. */
async function visitDeveloper(page, look) {
  const unfold = async () => {
    const folded = page.locator("details:not([open]) > summary");
    while (await folded.count()) await folded.first().click();
  };
  const register = () => press(page, page.getByRole("button", { name: "Register" }));
  await page.goto(`${server.issuer}/apps/new`);
  await unfold();
  await look("the registration form with every part open");
  await page.locator("#client_name").fill("Growth chart");
  await page.locator("#jwks").fill("{");
  await page.locator("input[name=sign_in_only]").check();
  await register();
  await look("mistakes in the registration form");
  await page.locator("#jwks").fill("");
  await page.locator("#redirect_uris").fill(`${apps}/callback.html`);
  await page.locator("input[value=client_secret_basic]").check();
  await page.locator("input[name=no_pkce]").check();
  await register();
  await look("an app with a secret, and without PKCE");
  await press(page, page.getByRole("link", { name: "Make a new secret" }));
  await look("a new secret?");
  await press(page, page.getByRole("button", { name: "Make a new secret" }));
  await look("an app with two secrets");
  await press(page, page.getByRole("link", { name: "End the former secret" }));
  await look("the end of a secret?");
  await page.goto(`${server.issuer}/apps/new`);
  await page.locator("#client_name").fill("Nightly export");
  await page.locator("input[value=private_key_jwt]").check();
  await page.locator("input[value=authorization_code]").uncheck();
  await page.locator("input[value=client_credentials]").check();
  await unfold();
  await page.locator("#jwks_uri").fill("https://export.example/jwks.json");
  await page.locator("textarea[name=scope]").fill("system/*.rs");
  await register();
  await look("a backend service");
  await page.goto(`${server.issuer}/apps`);
  await look("a developer's apps");
}

/** A test that axe passes every page in that colour scheme. */
const axeFindsNothing = (colorScheme) => async (t) => {
  const page = await browser.newPage(t, { colorScheme });
  const found = [];
  await visitAll(page, async (name) => {
    await page.evaluate(axe);
    const { passes, violations } = await page.evaluate(() => axe.run());
    assert.ok(passes.length > 10, `${name}: axe looked at something`);
    for (const { id, nodes } of violations) {
      found.push(`${name}: ${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join("; ")}`);
    }
  });
  assert.deepEqual(found, []);
};

test("axe finds nothing wrong on any page in light colours", inBrowser, axeFindsNothing("light"));

test("axe finds nothing wrong on any page in dark colours", inBrowser, axeFindsNothing("dark"));

test("no page needs scrolling sideways on a screen of 320 pixels", inBrowser, async (t) => {
  const page = await browser.newPage(t, { viewport: { width: 320, height: 640 } });
  const wide = [];
  await visitAll(page, async (name) => {
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    if (width > 320) wide.push(`${name}: ${width}`);
  });
  assert.deepEqual(wide, []);
});

test("no page breaks its own content security policy or fails to load a part", inBrowser, async (t) => {
  const page = await browser.newPage(t);
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(`${page.url()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error.message}`));
  await visitAll(page, async () => {});
  // What the browser itself says about pages that are answers to mistakes.
  const unexpected = complaints.filter((line) => !/the server responded with a status of 4\d\d/.test(line));
  assert.deepEqual(unexpected, []);
});
