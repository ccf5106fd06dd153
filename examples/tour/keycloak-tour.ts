import { setTimeout as delay } from 'node:timers/promises';

import { TokenManager } from 'nestjs-idp-tokens';

import { StoredRows } from '../account/stored-rows.service.js';
import type { Demo } from '../start.js';
import { AppClient } from './app-client.js';
import type { StepList } from './step-list.js';
import { describeRow } from './stored-row.js';
import { TourFailure } from './tour-failure.js';

const LOGIN = 'alice';
const CALLS = 50;

/**
 * Takes the tour with a user of Keycloak. It logs the user in at a real Keycloak that brokers the identity provider,
 * and imports the pair that Keycloak has stored. When the pair has expired, it asks for the access token many times at
 * once.
 *
 * @throws {@link TourFailure} unless every request succeeds with exactly one refresh
 */
export async function takeKeycloakTour(demo: Demo, steps: StepList, signal: AbortSignal): Promise<void> {
  const { app, authorizationServer, baseUrl } = demo;
  const client = new AppClient(baseUrl);
  const tokens = app.get(TokenManager);

  const user = await steps.run(`Log ${LOGIN} in at Keycloak`, async (note) => {
    const userId = await client.logInAtKeycloak(LOGIN);
    note("Keycloak's and the provider's pages, pair imported");
    return userId;
  });
  const row = await steps.run('Read the imported row', async (note) => {
    note('the tokens as PostgreSQL has them');
    const [imported = {}] = await app.get(StoredRows).find(user);
    return describeRow(imported);
  });
  console.log(`\n${row}\n`);

  await steps.run('Wait until the token has expired', async (note) => {
    const { expiresAt } = await tokens.getIdpToken(user, 'demo');
    await delay(Math.max(0, expiresAt * 1000 - Date.now()) + 500, undefined, { signal });
    note(`at ${new Date(expiresAt * 1000).toISOString()}, as Keycloak said`);
  });

  const before = await authorizationServer.countRequests();
  await steps.run(`Call GET /keycloak/me ${CALLS} times`, async (note) => {
    const answers = await Promise.all(Array.from({ length: CALLS }, () => client.send('GET', '/keycloak/me')));
    const others = answers.filter(({ status }) => status !== 200);
    if (others.length > 0) throw new TourFailure(`${others.length} of ${CALLS} requests were not answered with 200.`);
    note(`${answers.length} answers 200, bearer tokens verified by Keycloak's keys`);
  });
  await steps.run('Ask the OAuth server what it saw', async (note) => {
    const after = await authorizationServer.countRequests();
    const refreshes = after.refreshGrants - before.refreshGrants;
    if (refreshes !== 1) throw new TourFailure(`the provider served ${refreshes} refreshes instead of 1.`);
    note('exactly 1 refresh');
  });
  await steps.run('Redeem the offline token 10 times', async (note) => {
    const first = await tokens.loadOfflineToken(user);
    const valid = await Promise.all(Array.from({ length: 10 }, () => tokens.validateOfflineToken(user)));
    const isActive = await tokens.checkOfflineTokenIsActive(user);
    if (!valid.every(Boolean) || !isActive) throw new TourFailure('the offline session did not survive.');
    if ((await tokens.loadOfflineToken(user)) === first) throw new TourFailure('no successor was stored.');
    note('once for all, the successor stored, the session alive');
  });
}
