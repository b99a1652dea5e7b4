// oidc-provider as Hearthgate is measured against it: one process, its own in-memory adapter, what Hearthgate
// does at the same addresses. PKCE is required, refresh tokens rotate, access tokens are opaque.
//
//   node server.mjs PORT JWK
//
// JWK is the public key of the apps that prove themselves by one, with ES384.
// `POST /bench/make?kind=code|refresh|access&client=…&count=…&challenge=…` makes codes or tokens by the
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
const secret = 'only for the benchmark';
const proof = {
  token_endpoint_auth_method: 'private_key_jwt',
  token_endpoint_auth_signing_alg: 'ES384',
  jwks: { keys: [JSON.parse(process.argv[3])] },
};
const app = (id, alg, more) => ({
  client_id: id,
  redirect_uris: [redirect],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  token_endpoint_auth_method: 'none',
  id_token_signed_response_alg: alg,
  ...more,
});

const provider = new Provider(issuer, {
  clients: [
    app('rs256', 'RS256'),
    app('es256', 'ES256'),
    app('es384', 'ES256', proof),
    app('service', 'ES256', {
      ...proof, grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope: 'system/*.rs',
    }),
    app('asking', 'ES256', { token_endpoint_auth_method: 'client_secret_post', client_secret: secret }),
  ],
  jwks: { keys: [key('rsa', { modulusLength: 2048 }, 'RS256'), key('ec', { namedCurve: 'P-256' }, 'ES256')] },
  cookies: { keys: [secret] },
  scopes: ['openid', 'offline_access', 'fhirUser', 'launch/patient', 'patient/*.rs', 'system/*.rs'],
  enabledJWA: { clientAuthSigningAlgValues: ['ES384'] },
  claims: { openid: ['sub'], fhirUser: ['fhirUser'] },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  rotateRefreshToken: true,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
  },
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
    const things = {
      refresh: () => new provider.RefreshToken({ ...common, gty: 'authorization_code', rotations: 0 }),
      access: () => new provider.AccessToken({ ...common, gty: 'authorization_code' }),
      code: () => new provider.AuthorizationCode({
        ...common, codeChallenge: challenge, codeChallengeMethod: 'S256', redirectUri: redirect,
      }),
    };
    made.push(await things[kind]().save());
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
