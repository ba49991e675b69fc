// A real authorization server for the tests: oidc-provider with token exchange (RFC 8693), which it leaves to its users.
//
// Rule: what it issues, it issues by the library's own means; what a test wants to be wrong, it orders at /control by name.
//
// node provider.mjs PORT FOLDER — FOLDER/clients.json holds the clients, FOLDER/keys.json the keys, which outlive a restart.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

import { createLocalJWKSet, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';
const ID_JAG = 'urn:ietf:params:oauth:token-type:id-jag';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const [port, folder] = [Number(process.argv[2]), process.argv[3]];
const issuer = `http://localhost:${port}`;
const clients = JSON.parse(readFileSync(join(folder, 'clients.json'), 'utf8'));
const keysFile = join(folder, 'keys.json');
const secret = randomBytes(32).toString('hex');

// What tests order, and what they ask about.
const orders = { ttl: 600, exchange: 'right', delay: 0 };
const seen = { exchanges: [], requests: {} };
let keys = existsSync(keysFile) ? JSON.parse(readFileSync(keysFile, 'utf8')) : [fresh('RS256')];
let provider;
let serve;

function fresh(alg) {
  const made = alg === 'RS256'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...made.privateKey.export({ format: 'jwk' }), kid: randomBytes(8).toString('hex'), alg, use: 'sig' };
}

function published() {
  return { keys: keys.map(({ kty, n, e, crv, x, y, kid, alg, use }) => ({ kty, n, e, crv, x, y, kid, alg, use })) };
}

function server(resource) {
  return {
    audience: resource,
    scope: 'tools admin',
    accessTokenTTL: orders.ttl,
    accessTokenFormat: resource.endsWith('/opaque') ? 'opaque' : 'jwt',
    jwt: { sign: { alg: keys[0].alg, kid: keys[0].kid } },
  };
}

function groups(subject) {
  return subject.startsWith('ada') ? ['staff', 'analysts'] : ['guests'];
}

async function subjectOf(token) {
  try {
    const { payload } = await jwtVerify(token, createLocalJWKSet(published()), { issuer });
    return payload;
  } catch (problem) {
    throw new errors.InvalidGrant(`subject_token: ${problem.code}`);
  }
}

async function exchange(ctx) {
  const { params, client } = ctx.oidc;
  const told = { client: client.clientId, mode: orders.exchange, ...params };
  seen.exchanges.push(told);
  if (orders.delay) await new Promise((done) => { setTimeout(done, orders.delay); });
  if (!client.grantTypeAllowed(EXCHANGE)) throw new errors.UnauthorizedClient();
  if (!params.subject_token || !params.subject_token_type) throw new errors.InvalidRequest('subject_token is missing');
  const kind = params.requested_token_type === ID_JAG ? ID_TOKEN : ACCESS_TOKEN;
  if (params.subject_token_type !== kind) throw new errors.InvalidRequest('subject_token_type is not known');
  const subject = await subjectOf(params.subject_token);
  told.subject = subject.sub;
  if (orders.exchange === 'refuse') throw new errors.InvalidTarget('not for this audience');
  if (!params.audience && !params.resource) throw new errors.InvalidTarget('which audience?');
  const audience = orders.exchange === 'wrong audience' ? 'https://elsewhere.example' : params.audience ?? params.resource;
  const token = new provider.AccessToken({
    client,
    accountId: orders.exchange === 'wrong subject' ? 'somebody-else' : subject.sub,
    scope: params.scope,
    extra: { act: { sub: client.clientId, ...(subject.act && { act: subject.act }) } },
    gty: 'token_exchange',
  });
  token.resourceServer = new provider.ResourceServer(audience, server(audience));
  const access_token = orders.exchange === 'echo' ? params.subject_token : await token.save();
  ctx.body = {
    access_token,
    issued_token_type: params.requested_token_type === ID_JAG ? ID_JAG : ACCESS_TOKEN,
    token_type: orders.exchange === 'wrong type' || params.requested_token_type === ID_JAG ? 'N_A' : 'Bearer',
    expires_in: token.expiration,
    scope: params.scope,
  };
}

// The other half of cross-app access: what the target's authorization server does with the assertion (RFC 7523).
async function bearer(ctx) {
  const { params, client } = ctx.oidc;
  if (!client.grantTypeAllowed(JWT_BEARER)) throw new errors.UnauthorizedClient();
  const subject = await subjectOf(params.assertion);
  const token = new provider.AccessToken({ client, accountId: subject.sub, scope: params.scope, extra: {}, gty: 'jwt_bearer' });
  token.resourceServer = new provider.ResourceServer(subject.aud, server(subject.aud));
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration, scope: params.scope };
}

function renew() {
  writeFileSync(keysFile, JSON.stringify(keys), { mode: 0o600 });
  provider = new Provider(issuer, {
    clients,
    jwks: { keys },
    cookies: { keys: [secret] },
    scopes: ['openid', 'offline_access', 'tools', 'admin'],
    claims: { openid: ['sub'] },
    clientDefaults: { id_token_signed_response_alg: keys[0].alg },
    pkce: { required: () => true },
    rotateRefreshToken: true,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    extraTokenClaims: (ctx, token) => ({ ...token.extra, ...(token.accountId && { groups: groups(token.accountId) }) }),
    ttl: { AccessToken: () => orders.ttl, ClientCredentials: () => orders.ttl },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => server(resource),
      },
    },
  });
  const wanted = ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type', 'audience', 'resource', 'scope'];
  provider.registerGrantType(EXCHANGE, (...given) => exchange(given.find((one) => one?.oidc)), [...wanted, 'requested_token_type']);
  provider.registerGrantType(JWT_BEARER, (...given) => bearer(given.find((one) => one?.oidc)), ['assertion', 'scope']);
  provider.on('server_error', (ctx, problem) => console.error(problem));
  serve = provider.callback();
}

async function control(request, response) {
  let text = '';
  for await (const part of request) text += part;
  const { rotate, forget, ...told } = text ? JSON.parse(text) : {};
  Object.assign(orders, told);
  if (rotate) {
    keys = rotate === 'replace' ? [fresh('RS256')] : [fresh(rotate), ...keys];
    renew();
  }
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ ...seen, kids: keys.map((key) => key.kid) }));
  if (forget) Object.assign(seen, { exchanges: [], requests: {} });
}

renew();
createServer((request, response) => {
  const { pathname } = new URL(request.url, issuer);
  if (pathname === '/control') return control(request, response);
  seen.requests[pathname] = (seen.requests[pathname] ?? 0) + 1;
  if (orders.exchange === 'garbage' && pathname === '/token') return response.writeHead(200).end('<html>sorry</html>');
  if (orders.exchange === 'broken' && pathname === '/token') return response.writeHead(503).end();
  return serve(request, response);
}).listen(port, '127.0.0.1');
