// The PyPI package `Authlib` as a relying party on a server, which verifies the id_token by the published keys.
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
const SCRIPT = fileURLToPath(new URL("py_authlib.py", import.meta.url));

for (const [method, alg] of [
  ["client_secret_basic", "RS256"],
  ["client_secret_post", "ES384"],
]) {
  test(`Authlib signs a person in by ${method} and verifies the id_token, signed by ${alg}`, withPython, async () => {
    const app = await server.register({
      redirect_uris: ["http://127.0.0.1:9/callback"],
      token_endpoint_auth_method: method,
      id_token_signed_response_alg: alg,
    });
    const settings = {
      issuer: server.issuer,
      client_id: app.client_id,
      client_secret: app.client_secret,
      redirect_uri: app.redirect_uris[0],
      scope: "openid fhirUser email offline_access",
      method,
    };
    const child = spawn(python, [SCRIPT, JSON.stringify(settings)], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    child.stdin.end(`${await decideByForms((await lines.next()).value, "ruth")}\n`);
    const { userinfo, sub, ...found } = JSON.parse((await lines.next()).value);
    const ruth = `${server.fhir}/Practitioner/practitioner-ruth`;
    assert.deepEqual(found, { fhirUser: ruth, alg, refreshed: true, revoked: [200, 401] });
    assert.deepEqual([userinfo.sub, userinfo.fhirUser], [sub, ruth]);
  });
}
