import { setTimeout as delay } from 'node:timers/promises';

import type { StoredRow } from '../account/stored-rows.service.js';
import type { Demo } from '../start.js';
import { isRequestCounts, type RequestCounts } from '../support/request-counts.js';
import { AppClient } from './app-client.js';
import type { StepList } from './step-list.js';
import { describeRow } from './stored-row.js';
import { TourFailure } from './tour-failure.js';

const USER = 'alice';
const LOGIN = 'alice-at-demo';
const CALLS = 50;

/**
 * Walks the routes that the page uses, in the order in which a user of the page does: connects an account, waits until
 * its access token has expired, asks for the token many times at once, lacks a scope and grants it, connects a second
 * account, and disconnects both.
 *
 * @throws {@link TourFailure} unless every request has the answer that the page needs, with exactly one refresh
 */
export async function takeTour(demo: Demo, steps: StepList, signal: AbortSignal): Promise<void> {
  const client = new AppClient(demo.baseUrl);

  await steps.run('Open the page', async (note) => {
    const { headers } = await client.get('/');
    for (const file of ['page.css', 'page.js', 'icon.svg']) await client.get(`/${file}`);
    if (!headers.has('content-security-policy')) throw new TourFailure('the page has no Content-Security-Policy.');
    note('with its strict Content-Security-Policy');
  });
  await steps.run(`Connect an account of ${USER}`, async (note) => {
    await client.signIn(USER);
    await client.connect(LOGIN);
    note('code flow with PKCE, tokens stored');
  });
  const row = await steps.run('Read the stored row', async (note) => {
    const rows = (await client.get('/me/rows')).json as StoredRow[];
    note('the tokens as PostgreSQL has them');
    return describeRow(rows[0] ?? {});
  });
  console.log(`\n${row}\n`);

  await steps.run('Wait until the token has expired', async (note) => {
    const [connection] = await connectionsOf(client);
    const expiresAt = connection?.accessTokenExpiresAt ?? '';
    await delay(Math.max(0, Date.parse(expiresAt) - Date.now()), undefined, { signal });
    note(`at ${expiresAt}`);
  });
  const before = await countsOf(client);
  await steps.run(`Call GET /me ${CALLS} times at once`, async (note) => {
    const answers = await Promise.all(Array.from({ length: CALLS }, () => client.get('/me')));
    const versions = new Set(answers.map((answer) => answer.text('tokenVersion')));
    note(`${answers.length} answers 200, ${versions.size} token version`);
  });
  await steps.run('Ask the OAuth server what it saw', async (note) => {
    const after = await countsOf(client);
    const refreshes = after.refreshGrants - before.refreshGrants;
    const refused = after.refusedGrants - before.refusedGrants;
    if (refreshes !== 1 || refused > 0) {
      throw new TourFailure(`the provider served ${refreshes} refreshes instead of 1 and refused ${refused}.`);
    }
    note('exactly 1 refresh');
  });

  await steps.run('Lack a scope and grant it', async (note) => {
    const lacking = await client.send('GET', '/me/email');
    const { missing_scopes: scopes } = lacking.json as { missing_scopes?: string[] };
    if (lacking.status !== 403 || !scopes) throw new TourFailure('the answer names no missing scopes.');
    await client.connect(LOGIN, { scopes });
    (await client.get('/me/email')).text('email');
    note(`403 names ${scopes.join(', ')}, then 200`);
  });
  await steps.run('Connect a second account', async (note) => {
    await client.connect('bob-at-demo', { account: 'work' });
    const { length } = await connectionsOf(client);
    if (length !== 2) throw new TourFailure(`the user has ${length} connections instead of 2.`);
    note(`"work" is ${(await client.get('/me?account=work')).text('accountId')}`);
  });
  await steps.run('Disconnect both', async (note) => {
    for (const account of ['', 'work']) await client.send('DELETE', `/connections/demo?account=${account}`);
    const { length } = await connectionsOf(client);
    if (length !== 0) throw new TourFailure(`the user has ${length} connections instead of 0.`);
    note('deleted here, to be revoked there');
  });
}

async function connectionsOf(client: AppClient): Promise<{ accessTokenExpiresAt: string | null }[]> {
  return (await client.get('/connections')).json as { accessTokenExpiresAt: string | null }[];
}

async function countsOf(client: AppClient): Promise<RequestCounts> {
  const { json } = await client.get('/provider/requests');
  if (isRequestCounts(json)) return json;
  throw new TourFailure('the application does not say what the provider counted.');
}
