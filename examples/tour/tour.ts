import { setTimeout as delay } from 'node:timers/promises';

import { TokenManager } from 'nestjs-idp-tokens';
import { DataSource } from 'typeorm';

import type { Demo } from '../start.js';
import { AppClient } from './app-client.js';
import type { StepList } from './step-list.js';
import { describeStoredRow } from './stored-row.js';
import { TourFailure } from './tour-failure.js';

const USER = 'alice';
const CALLS = 50;

/**
 * Links an account and waits until its access token has expired. Then it asks for the token many times at once.
 *
 * @throws {@link TourFailure} unless every request succeeds with exactly one refresh
 */
export async function takeTour(demo: Demo, steps: StepList, signal: AbortSignal): Promise<void> {
  const { app, authorizationServer, baseUrl } = demo;
  const client = new AppClient(baseUrl);

  await steps.run(`Link an account for ${USER}`, async (note) => {
    await client.signIn(USER);
    await client.linkAccount(`${USER}-at-demo`);
    note('code flow with PKCE, tokens stored');
  });

  const row = await steps.run('Read the stored row', async (note) => {
    note('the tokens as PostgreSQL has them');
    return describeStoredRow(app.get(DataSource), USER);
  });
  console.log(`\n${row}\n`);

  await steps.run('Wait until the token has expired', async (note) => {
    const { accessToken } = await app.get(TokenManager).getIdpToken(USER, 'demo');
    let status = 200;
    while (status === 200) {
      await delay(100, undefined, { signal });
      const headers = { authorization: `Bearer ${accessToken}` };
      ({ status } = await fetch(authorizationServer.userinfoEndpoint, { headers, signal }));
    }
    note(`the provider answers it with ${status}`);
  });

  const before = await authorizationServer.countRequests();
  await steps.run(`Call GET /me ${CALLS} times at once`, async (note) => {
    const answers = await Promise.all(Array.from({ length: CALLS }, () => client.getAccount()));
    const others = answers.filter(({ status }) => status !== 200);
    if (others.length > 0) {
      const statuses = [...new Set(others.map(({ status }) => status))].join(', ');
      throw new TourFailure(`${others.length} of ${CALLS} requests were not answered with 200 but with ${statuses}.`);
    }
    const versions = new Set(answers.map((answer) => answer.text('tokenVersion')));
    note(`${answers.length} answers 200, ${versions.size} token version`);
  });

  await steps.run('Ask the OAuth server what it saw', async (note) => {
    const after = await authorizationServer.countRequests();
    const refreshes = after.refreshGrants - before.refreshGrants;
    const refused = after.refusedGrants - before.refusedGrants;
    if (refreshes !== 1 || refused > 0) {
      throw new TourFailure(`the provider served ${refreshes} refreshes instead of 1 and refused ${refused}.`);
    }
    note('exactly 1 refresh');
  });
}
