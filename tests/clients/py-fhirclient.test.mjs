// The PyPI package `fhirclient`: an app on a server, which finds the endpoints in the CapabilityStatement only.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { decideByForms, startServer } from "./kit.mjs";

const python = process.env.CLIENTS_PYTHON;
const withPython = {
  timeout: 120_000,
  skip: python ? false : "there is no Python here with the packages of requirements.txt",
};
const server = await startServer();
const SCRIPT = fileURLToPath(new URL("py_fhirclient.py", import.meta.url));

/** Launches the Python app; `answer` does the person's part. What the app found is returned. */
async function launch(metadata, settings, answer = (url) => decideByForms(url, "maria")) {
  const client = await server.register({ redirect_uris: ["http://127.0.0.1:9/callback"], ...metadata });
  const argument = {
    app_id: client.client_id,
    app_secret: client.client_secret,
    api_base: server.fhir,
    redirect_uri: client.redirect_uris[0],
    scope: "openid fhirUser patient/*.rs offline_access",
    other_patient: "patient-kofi",
    ...settings,
  };
  const child = spawn(python, [SCRIPT, JSON.stringify(argument)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  child.stdin.end(`${await answer((await lines.next()).value)}\n`);
  return JSON.parse((await lines.next()).value);
}

const MARIA = { ready: true, patient: "patient-maria", name: "Maria Elena Alvarez" };

function isMaria({ observations, other, ...found }, expected = MARIA) {
  assert.ok(observations >= 10, `${observations} observations`);
  assert.ok([403, 404].includes(other), `another patient's record: ${other}`);
  assert.deepEqual(found, expected);
}

test("a public app in Python launches, reads the patient and searches observations", withPython, async () => {
  isMaria(await launch({}, {}));
});

test("a confidential app in Python launches with its secret", withPython, async () => {
  isMaria(await launch({ token_endpoint_auth_method: "client_secret_basic" }, {}));
});

test("the app in Python refreshes when its token is over, and goes on", withPython, async () => {
  const found = await launch({ access_token_life: 1 }, { life: 1 });
  isMaria(found, { ...MARIA, over: true, refreshed: true, again: "patient-maria" });
});

test("the app in Python launches with the SMART 1.0 scopes that it asks for by default", withPython, async () => {
  isMaria(await launch({}, { scope: "user/*.* patient/*.read openid profile" }));
});

test("the app in Python is told that the person said no", withPython, async () => {
  const denied = (url) => decideByForms(url, "maria", "deny");
  assert.match((await launch({}, {}, denied)).error, /did not allow/);
});
