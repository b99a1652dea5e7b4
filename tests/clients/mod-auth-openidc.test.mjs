// Debian's `libapache2-mod-auth-openidc`: Apache guards a page, by a secret in the body and without PKCE. It stands in
// for relying parties of that kind that cannot be run here.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chown, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, test } from "node:test";
import { decideByForms, startServer } from "./kit.mjs";

const modules = process.env.APACHE_MODULES;
const withApache = {
  timeout: 60_000,
  skip: modules ? false : "Apache with mod_auth_openidc is not here, and could not be installed",
};
const server = await startServer();
const NOBODY = 65534;

/** A port that is free now. */
async function freePort() {
  const holder = createServer();
  await new Promise((resolve) => holder.listen(0, "127.0.0.1", resolve));
  const { port } = holder.address();
  await new Promise((resolve) => holder.close(resolve));
  return port;
}

/** Apache in the foreground, with files of its own in a temporary folder; answers its origin. */
async function startApache() {
  const [dir, port] = [await mkdtemp(join(tmpdir(), "hearthgate-apache-")), await freePort()];
  const origin = `http://127.0.0.1:${port}`;
  const app = await server.register({
    client_name: "Apache",
    redirect_uris: [`${origin}/guarded/back`],
    token_endpoint_auth_method: "client_secret_post",
    sign_in_only: true,
    post_logout_redirect_uris: [`${origin}/out.html`],
  });
  const load = (name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`;
  const shown = ["OIDC_CLAIM_sub", "OIDC_CLAIM_fhirUser", "OIDC_CLAIM_email", "OIDC_CLAIM_iss", "OIDC_CLAIM_nonce"];
  const files = {
    "guarded.shtml": shown.map((name) => `${name}=<!--#echo var="${name}" -->`).join("\n"),
    "out.html": "signed out",
    "apache.conf": `
ServerName 127.0.0.1
ServerRoot ${dir}
DefaultRuntimeDir ${dir}
PidFile ${dir}/pid
ErrorLog ${dir}/error.log
Mutex file:${dir} default
Listen 127.0.0.1:${port}
${["mpm_event", "authn_core", "authz_core", "authz_user", "dir", "mime", "filter", "include", "auth_openidc"].map(load).join("\n")}
TypesConfig /dev/null
AddType text/html .html .shtml
DocumentRoot ${dir}
OIDCProviderMetadataURL ${server.issuer}/.well-known/openid-configuration
OIDCClientID ${app.client_id}
OIDCClientSecret ${app.client_secret}
OIDCProviderTokenEndpointAuth client_secret_post
OIDCScope "openid profile email fhirUser"
OIDCRedirectURI ${origin}/guarded/back
OIDCCryptoPassphrase ${randomBytes(24).toString("hex")}
OIDCCacheType file
OIDCCacheDir ${dir}
<Directory ${dir}>
  Options +Includes
  AddOutputFilter INCLUDES .shtml
  Require all granted
</Directory>
<LocationMatch "^/guarded">
  AuthType openid-connect
  Require valid-user
</LocationMatch>
`,
  };
  for (const [name, body] of Object.entries(files)) await writeFile(join(dir, name), body);
  // As root Apache would change to a user of the system's; it is started as nobody instead.
  const root = process.getuid() === 0;
  if (root) await chown(dir, NOBODY, NOBODY);
  const who = root ? { uid: NOBODY, gid: NOBODY } : {};
  const child = spawn("/usr/sbin/apache2", ["-f", join(dir, "apache.conf"), "-DFOREGROUND"], { stdio: "inherit", ...who });
  const ended = new Promise((resolve) => child.once("close", resolve));
  after(async () => {
    child.kill();
    await ended;
    await rm(dir, { recursive: true });
  });
  for (let tries = 0; tries < 100; tries += 1) {
    if (await fetch(`${origin}/out.html`).then((answer) => answer.ok, () => false)) return origin;
    if (child.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`Apache did not start: ${await readFile(join(dir, "error.log"), "utf8").catch(() => "no log")}`);
}

/** A browser at Apache: cookies of its own, redirects shown. */
function browser() {
  const cookies = new Map();
  return async (address) => {
    const cookie = [...cookies].map((pair) => pair.join("=")).join("; ");
    // Not `fetch`, which says that it is a script; Apache sends only those to sign in that look like a person.
    const [answer] = await once(get(address, { headers: { cookie, accept: "text/html" } }), "response");
    for (const line of answer.headers["set-cookie"] ?? []) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
    return { status: answer.statusCode, location: answer.headers.location, text: await text(answer) };
  };
}

test("Apache signs a person in without PKCE, shows who it is, and signs them out", withApache, async () => {
  const origin = await startApache();
  const atServer = new Map();
  let go = browser();
  const begin = async () => {
    const sent = await go(`${origin}/guarded.shtml`);
    assert.equal(sent.status, 302, sent.text);
    const asked = new URL(sent.location);
    assert.equal(asked.origin + asked.pathname, `${server.issuer}/oauth/authorize`);
    assert.deepEqual([asked.searchParams.has("code_challenge"), asked.searchParams.has("aud")], [false, false]);
    return asked.href;
  };
  const finish = async (back) => {
    assert.ok(back.startsWith(`${origin}/guarded/back?`) && back.includes("code="), back);
    const answer = await go(back);
    assert.deepEqual([answer.status, answer.location], [302, `${origin}/guarded.shtml`], answer.text);
    const page = await go(answer.location);
    return Object.fromEntries(page.text.split("\n").map((line) => line.split(/=(.*)/s).slice(0, 2)));
  };

  const claims = await finish(await decideByForms(await begin(), "maria", "allow", atServer));
  assert.equal(claims.OIDC_CLAIM_fhirUser, `${server.fhir}/Patient/patient-maria`);
  assert.equal(claims.OIDC_CLAIM_iss, server.issuer);
  assert.match(claims.OIDC_CLAIM_email, /@/);
  assert.ok(claims.OIDC_CLAIM_sub.length >= 20 && claims.OIDC_CLAIM_sub !== "(none)", claims.OIDC_CLAIM_sub);

  const out = await go(`${origin}/guarded/back?logout=${encodeURIComponent(`${origin}/out.html`)}`);
  assert.ok(out.location.startsWith(`${server.issuer}/oauth/logout?`), out.location);
  assert.equal(await decideByForms(out.location, "", "", atServer), `${origin}/out.html`);
  assert.equal((await go(`${origin}/guarded.shtml`)).status, 302, "signed out at Apache");

  // She signs in again and is not asked again; another time she need not even sign in.
  const again = await finish(await decideByForms(await begin(), "maria", "not asked", atServer));
  go = browser(); // which knows nothing of Apache's session
  const silent = await finish(await decideByForms(await begin(), "nobody", "not asked", atServer));
  assert.deepEqual([again.OIDC_CLAIM_sub, silent.OIDC_CLAIM_sub], [claims.OIDC_CLAIM_sub, claims.OIDC_CLAIM_sub]);

  const { location } = await browser()(`${origin}/guarded.shtml`);
  assert.match(await decideByForms(location, "amara", "deny"), /error=access_denied/);
});
