// A backend service from nothing: registers itself with a key of its own, gets a token by a signed assertion, and
// counts patients. Node 20 is all it needs:  node docs/backend-service.mjs [http://localhost:8080]
import { generateKeyPairSync, randomUUID, sign } from "node:crypto";

const base = process.argv[2] ?? "http://localhost:8080";
const json = async (path, options) => (await fetch(base + path, options)).json();

const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
const app = await json("/oauth/register", {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({
    client_name: "Night job",
    token_endpoint_auth_method: "private_key_jwt",
    grant_types: ["client_credentials"],
    scope: "system/*.rs",
    jwks: { keys: [{ ...publicKey.export({ format: "jwk" }), kid: "first" }] },
  }),
});

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const header = { alg: "ES384", kid: "first", typ: "JWT" };
const claims = {
  iss: app.client_id,
  sub: app.client_id,
  aud: `${base}/oauth/token`,
  exp: Math.floor(Date.now() / 1000) + 60,
  jti: randomUUID(), // a new one for each request
};
const signed = `${part(header)}.${part(claims)}`;
const signature = sign("sha384", Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });

const token = await json("/oauth/token", {
  method: "POST",
  body: new URLSearchParams({
    grant_type: "client_credentials",
    scope: "system/Patient.rs",
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: `${signed}.${signature.toString("base64url")}`,
  }),
});
console.log(token);

const headers = { authorization: `Bearer ${token.access_token}` };
console.log("patients:", (await json("/fhir/Patient?_summary=count", { headers })).total);
