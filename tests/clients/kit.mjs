// What the tests with real clients share: a server of their own, a web server with small apps on another
// origin, a browser, and a person at it.
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** The one password of the sandbox. */
export const PASSWORD = "hearth";

/** The options of a test that needs a browser. */
export const inBrowser = {
  timeout: 120_000,
  skip: process.env.CHROMIUM ? false : "there is no chromium here, and it could not be installed",
};

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** A server with a private database, ended after the tests of the file. */
export async function startServer() {
  const flags = ["serve", "--listen", "127.0.0.1:0", "--database", ":memory:", "--ready-json"];
  const child = spawn(process.env.HEARTHGATE_BIN, flags, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, RUST_LOG: "error" },
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  after(() => {
    child.kill();
    return ended;
  });
  const { value: line } = await createInterface(child.stdout)[Symbol.asyncIterator]().next();
  if (!line) throw new Error("the server did not start");
  const { issuer, fhir } = JSON.parse(line);
  return { issuer, fhir, register: (metadata) => register(issuer, metadata) };
}

/** Registers an app that may refresh; `metadata` is laid over that. */
async function register(issuer, metadata) {
  const answer = await fetch(`${issuer}/oauth/register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      client_name: "Growth chart",
      grant_types: ["authorization_code", "refresh_token"],
      ...metadata,
    }),
  });
  const registered = await answer.json();
  if (answer.status !== 201) throw new Error(`not registered: ${JSON.stringify(registered)}`);
  return registered;
}

/** Has an app launched as an EHR does; answers `iss`, `launch` and `launch_url`. */
export async function ehrLaunch(server, wanted) {
  const answer = await fetch(`${server.issuer}/sandbox/launches`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(wanted),
  });
  const made = await answer.json();
  if (answer.status !== 201) throw new Error(`not launched: ${JSON.stringify(made)}`);
  return made;
}

const FILES = {
  "/ehr.html": ["app/ehr.html", "text/html"],
  "/fhirclient.html": ["app/fhirclient.html", "text/html"],
  "/oidc.html": ["app/oidc.html", "text/html"],
  "/callback.html": ["app/callback.html", "text/html"],
  "/fhirclient.js": ["node_modules/fhirclient/build/fhir-client.js", "text/javascript"],
  "/oidc.js": ["node_modules/oidc-client-ts/dist/browser/oidc-client-ts.js", "text/javascript"],
};

/** The apps' own web server; answers its origin. */
export async function startApps() {
  const server = createServer(async (request, answer) => {
    const [file, type] = FILES[new URL(request.url, "http://app").pathname] ?? [];
    const body = file && (await readFile(here(file)));
    answer.writeHead(body ? 200 : 404, { "content-type": type ?? "text/plain" }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => server.close());
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

/** A browser; `newPage(t, options)` opens a page in a context of its own, closed after the test. */
export async function startBrowser() {
  if (inBrowser.skip) return null;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, headless: true, args: FLAGS });
  after(() => browser.close());
  const newPage = async (t, options) => {
    const context = await browser.newContext(options);
    context.setDefaultTimeout(15_000);
    t.after(() => context.close());
    return context.newPage();
  };
  return { newPage };
}

/** Presses what leads to another page, and is there when this returns. */
export const press = (page, control) => Promise.all([page.waitForEvent("domcontentloaded"), control.click()]);

/** What a person does at the pages of a launch. */
export const person = {
  async signsIn(page, username, password = PASSWORD) {
    await page.getByLabel("Username").fill(username);
    await page.getByLabel("Password").fill(password);
    await press(page, page.getByRole("button", { name: "Sign in", exact: true }));
  },
  async chooses(page, patient) {
    await page.locator(`input[name=patient][value="${patient}"]`).check();
    await press(page, page.getByRole("button", { name: "Continue" }));
  },
  allows: (page) => press(page, page.locator("button[name=decision][value=allow]")),
  denies: (page) => press(page, page.locator("button[name=decision][value=deny]")),
};

/** A launch as an app begins it, without any library: the address, and how to redeem its code. */
export function plainLaunch(server, client, params = {}) {
  const verifier = randomBytes(32).toString("base64url");
  const asked = {
    response_type: "code",
    client_id: client.client_id,
    redirect_uri: client.redirect_uris[0],
    scope: "openid fhirUser launch/patient patient/*.rs offline_access",
    state: randomBytes(16).toString("base64url"),
    aud: server.fhir,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    ...params,
  };
  const redeem = async (code) => {
    const form = { grant_type: "authorization_code", code, redirect_uri: asked.redirect_uri };
    const body = new URLSearchParams({ ...form, code_verifier: verifier, client_id: asked.client_id });
    return (await fetch(`${server.issuer}/oauth/token`, { method: "POST", body })).json();
  };
  return { url: `${server.issuer}/oauth/authorize?${new URLSearchParams(asked)}`, state: asked.state, redeem };
}

/** The person's part with plain HTTP, no browser: follows the forms, answers where the app is sent back to.
 *  With the same `cookies` again it is the same browser. */
export async function decideByForms(url, username, decision = "allow", cookies = new Map()) {
  const go = async (address, form) => {
    const answer = await fetch(address, {
      method: form ? "POST" : "GET",
      body: form,
      redirect: "manual",
      headers: { cookie: [...cookies].map((pair) => pair.join("=")).join("; ") },
    });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      cookies.set(name, value);
    }
    return answer;
  };
  let answer = await go(url);
  let at = url;
  for (let steps = 0; steps < 8; steps += 1) {
    const location = answer.headers.get("location");
    if (location) {
      at = new URL(location, at).href;
      if (new URL(at).origin !== new URL(url).origin) return at;
      answer = await go(at);
      continue;
    }
    const html = await answer.text();
    const form = new URLSearchParams({ csrf: html.match(/name="csrf" value="([^"]+)"/)?.[1] ?? "" });
    if (html.includes('name="password"')) {
      form.set("username", username);
      form.set("password", PASSWORD);
    } else if (html.includes('name="decision"')) {
      form.set("decision", decision);
      for (const [, scope] of html.matchAll(/name="scope" value="([^"]+)" checked/g)) form.append("scope", scope);
    } else {
      throw new Error(`no form to go on with (${answer.status}): ${html}`);
    }
    answer = await go(at, form);
  }
  throw new Error("the launch does not end");
}
