// oidc-provider as Hearthgate is measured against it: one process, its own in-memory adapter, what Hearthgate
// does at the same addresses. PKCE is required, refresh tokens rotate, access tokens are opaque.
//
//   node server.mjs PORT
//
// `POST /bench/make?kind=code|refresh&client=…&count=…&challenge=…` makes codes or refresh tokens by the
// provider's own models and answers with them as a JSON list. It is called outside what is measured.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const redirect = 'https://app.example/callback';
const scope = 'openid fhirUser launch/patient patient/*.rs';
const person = 'patient-maria';

const key = (kind, options, alg) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: alg,
});
const app = (id, alg) => ({
  client_id: id,
  redirect_uris: [redirect],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
  id_token_signed_response_alg: alg,
});

const provider = new Provider(issuer, {
  clients: [app('rs256', 'RS256'), app('es256', 'ES256')],
  jwks: { keys: [key('rsa', { modulusLength: 2048 }, 'RS256'), key('ec', { namedCurve: 'P-256' }, 'ES256')] },
  cookies: { keys: ['only for the benchmark'] },
  scopes: ['openid', 'offline_access', 'fhirUser', 'launch/patient', 'patient/*.rs'],
  claims: { openid: ['sub'], fhirUser: ['fhirUser'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  rotateRefreshToken: true,
  features: { devInteractions: { enabled: false } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, fhirUser: `${issuer}/fhir/Patient/${id}` }),
  }),
  ttl: { AccessToken: 3600, AuthorizationCode: 600, Grant: 3600, IdToken: 3600, RefreshToken: 86400 },
});

async function make({ kind, client: name, count, challenge }) {
  const client = await provider.Client.find(name);
  const made = [];
  for (let n = 0; n < Number(count); n += 1) {
    const granted = kind === 'refresh' ? `${scope} offline_access` : scope;
    const grant = new provider.Grant({ accountId: person, clientId: name });
    grant.addOIDCScope(granted);
    const common = {
      accountId: person, authTime: Math.floor(Date.now() / 1000), client, grantId: await grant.save(), scope: granted,
    };
    const thing = kind === 'refresh'
      ? new provider.RefreshToken({ ...common, gty: 'authorization_code', rotations: 0 })
      : new provider.AuthorizationCode({
        ...common, codeChallenge: challenge, codeChallengeMethod: 'S256', redirectUri: redirect,
      });
    made.push(await thing.save());
  }
  return made;
}

const answer = provider.callback();
createServer(async (request, response) => {
  if (!request.url.startsWith('/bench/')) return answer(request, response);
  const wanted = Object.fromEntries(new URL(request.url, issuer).searchParams);
  const body = JSON.stringify(await make(wanted));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  return response.end(body);
}).listen(port, '127.0.0.1');
