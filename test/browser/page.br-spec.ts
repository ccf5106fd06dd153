import { once } from 'node:events';
import { copyFile, mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type Browser, chromium } from 'playwright-core';

import { AccountLinks, TokenManager } from '../../src/index.js';
import { until } from '../support/until.js';
import { findChromium } from './chromium.js';
import { startDemoForTest } from './demo.js';
import { type Look, Visit } from './visit.js';

const LOOKS: (Look & { user: string })[] = [
  { theme: 'light', width: 1280, user: 'alice' },
  { theme: 'light', width: 360, user: 'ada' },
  { theme: 'dark', width: 1280, user: 'grace' },
  { theme: 'dark', width: 360, user: 'barbara' },
];
const USUAL: Look = { theme: 'light', width: 1280 };

/** Every run keeps a screenshot of each look here. */
const SCREENSHOTS = 'build/browser';
/** The screenshots that the documents have. A run replaces them only on demand. */
const IN_DOCUMENTS = ['page-1280-light.png', 'page-360-dark.png'];

let browser: Browser;
let demo: Awaited<ReturnType<typeof startDemoForTest>>;

beforeAll(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  [browser, demo] = await Promise.all([chromium.launch({ executablePath: findChromium() }), startDemoForTest()]);
}, 120_000);

afterAll(async () => {
  await browser.close();
  await demo.stop();
});

describe.each(LOOKS)('The page in $theme colours, $width pixels wide,', (look) => {
  const { user } = look;
  const login = `${user}-at-demo`;
  let visit: Visit;

  beforeAll(async () => {
    visit = await Visit.open(browser, demo.baseUrl, look);
  });

  afterEach(async () => {
    expect(await visit.complaints()).toEqual([]);
  });

  afterAll(async () => {
    await visit.close();
  });

  it('signs a user in', async () => {
    expect(await visit.complaints()).toEqual([]);
    await visit.signIn(user);
    expect(await visit.page.locator('#session').innerText()).toContain(`Signed in as ${user}`);
  });

  it('connects the demo account, and is back with it', async () => {
    await visit.link(visit.page.getByRole('button', { name: 'Connect the demo account' }), login);
    expect(await visit.page.getByRole('status').first().innerText()).toBe('The account is connected.');
    expect(await visit.card('').locator('.facts').innerText()).toContain(login);
  });

  it('shows the sealed row beside the plain facts, and no token', async () => {
    const row = await visit.card('').locator('.row').innerText();
    expect(row.match(/v1\.demo\.[\w-]{40,}/g)).toHaveLength(2);
    expect(row).toContain(user);
    const { accessToken } = await demo.app.get(TokenManager).getIdpToken(user, 'demo');
    expect(accessToken).not.toBe('');
    expect(await visit.page.content()).not.toContain(accessToken);
  });

  it('counts down to the expiry, and redeems one refresh token for 50 calls at once', async () => {
    const { page } = visit;
    const card = visit.card('');
    await page.reload(); // the test before may have refreshed the token
    await card.getByText('The access token has expired.').waitFor();
    const before = await demo.authorizationServer.countRequests();
    await card.getByRole('button', { name: 'Call 50 times at once' }).click();
    await card.getByText('50 calls succeeded. The provider redeemed 1 refresh token.').waitFor();
    await card.getByText(/^The access token expires in \d+ s\.$/).waitFor();
    const after = await demo.authorizationServer.countRequests();
    expect(after).toEqual({ ...before, refreshGrants: before.refreshGrants + 1 });
    await page.mouse.move(0, 0); // no button looks as if the mouse were over it
    const name = `page-${look.width}-${look.theme}.png`;
    await page.screenshot({ path: join(SCREENSHOTS, name), fullPage: true, animations: 'disabled' });
    if (process.env.UPDATE_SCREENSHOTS && IN_DOCUMENTS.includes(name)) {
      await copyFile(join(SCREENSHOTS, name), join('docs/images', name));
    }
  });

  it('shows what a scope is lacking for, and grants it', async () => {
    const card = visit.card('');
    await card.getByRole('button', { name: 'Ask for the email address' }).click();
    await card.getByRole('button', { name: 'Grant email' }).waitFor();
    const problem = await card.getByLabel('The answer of the application').innerText();
    expect(JSON.parse(problem)).toMatchObject({
      ...{ status: 403, code: 'ERR_TOKENS_INSUFFICIENT_SCOPE' },
      missing_scopes: ['email'],
    });
    await visit.link(card.getByRole('button', { name: 'Grant email' }), login);
    expect(await card.locator('.facts').innerText()).toContain('email, offline_access, openid, profile');
    await card.getByRole('button', { name: 'Ask for the email address' }).click();
    await card.getByText(`The provider says: ${login}@demo.example`).waitFor();
  });

  it('connects a second account beside the first one', async () => {
    await visit.page.getByLabel('Its name in this application').fill('work');
    await visit.link(visit.page.getByRole('button', { name: 'Connect a second account' }), `${login}-work`);
    expect(await visit.card('work').locator('.facts').innerText()).toContain(`${login}-work`);
    expect(await visit.page.getByRole('article').count()).toBe(2);
    await visit.card('work').getByRole('button', { name: 'Ask for the email address' }).click();
    await visit.card('work').getByRole('button', { name: 'Grant email' }).waitFor();
  });

  it('disconnects both accounts, whose tokens are revoked', async () => {
    const { revocations } = await demo.authorizationServer.countRequests();
    for (const account of ['work', '']) {
      await visit.card(account).getByRole('button', { name: 'Disconnect' }).click();
      await visit.card(account).waitFor({ state: 'detached' });
      await visit.page.getByText('The account is disconnected.').waitFor();
    }
    await visit.page.getByRole('button', { name: 'Connect the demo account' }).waitFor();
    await until(async () => (await demo.authorizationServer.countRequests()).revocations === revocations + 2);
  });

  it('signs out', async () => {
    await visit.page.getByRole('button', { name: 'Sign out' }).click();
    await visit.page.getByRole('heading', { name: 'Sign in' }).waitFor();
  });

  it('has had no error, broken no rule of its policy, and asked no third party', () => {
    // Chromium reports every 403, and this one has the scopes that are missing.
    const expected = /the server responded with a status of 403 .*\/me\/email\?account=(work)?$/;
    expect(visit.faults.filter((fault) => !expected.test(fault))).toEqual([]);
    expect(visit.faults).toHaveLength(2);
  });
});

describe('The page by the keyboard alone', () => {
  it('connects an account and calls the provider', async () => {
    const visit = await Visit.open(browser, demo.baseUrl, { ...USUAL, reducedMotion: 'reduce' });
    const { keyboard } = visit.page;
    const press = async (name: string) => {
      await visit.tabTo(name);
      await keyboard.press('Enter');
    };
    await visit.page.getByRole('heading', { name: 'Sign in' }).waitFor();
    expect(await visit.hasMotion()).toBe(false);
    await keyboard.press('ControlOrMeta+A'); // the field has the focus already
    await keyboard.type('keyboard');
    await keyboard.press('Enter');
    await visit.page.getByRole('heading', { name: 'Connected accounts' }).waitFor();
    await press('Connect the demo account');
    await visit.page.getByPlaceholder('Enter any login').waitFor();
    await keyboard.type('keyboard-at-demo');
    await keyboard.press('Tab');
    await keyboard.type('any password');
    await keyboard.press('Enter');
    await visit.page.getByRole('button', { name: 'Continue' }).waitFor();
    await keyboard.press('Enter');
    await visit.back();
    await visit.card('').getByText('The access token has expired.').waitFor();
    await press('Call 50 times at once');
    await visit.card('').getByText('50 calls succeeded. The provider redeemed 1 refresh token.').waitFor();
    await press('Disconnect');
    await visit.page.getByText('The account is disconnected.').waitFor();
    await press('Connect the demo account'); // the focus is where the user goes on
    await visit.page.getByPlaceholder('Enter any login').waitFor();
    expect(visit.faults).toEqual([]);
    await visit.close();
  });
});

describe('When something goes wrong, the page', () => {
  let visit: Visit;
  let user = '';
  let users = 0;

  const connect = () => visit.page.getByRole('button', { name: 'Connect the demo account' });
  const alert = () => visit.page.getByRole('alert').innerText();
  const forgetSession = () => visit.context.clearCookies({ name: 'session' });

  beforeEach(async () => {
    user = `bob-${++users}`;
    visit = await Visit.open(browser, demo.baseUrl, USUAL);
    await visit.signIn(user);
  });

  afterEach(async () => {
    await visit.close();
  });

  it('says that the user did not agree', async () => {
    await visit.leaveFor(connect());
    await visit.page.getByRole('link', { name: 'Cancel' }).click();
    await visit.back();
    expect(await alert()).toBe('The account was not linked, because you did not agree at the provider. Begin again.');
    await visit.link(connect(), `${user}-at-demo`);
    expect(visit.faults).toEqual([]);
  });

  it('says that the user has logged in with another account than the connected one', async () => {
    await visit.link(connect(), `${user}-at-demo`);
    await visit.card('').getByRole('button', { name: 'Ask for the email address' }).click();
    await visit.link(visit.card('').getByRole('button', { name: 'Grant email' }), 'mallory');
    expect(await alert()).toContain('with another account than the connected one');
    expect(await visit.card('').locator('.facts').innerText()).toContain(`${user}-at-demo`);
  });

  it('has a text of its own for every refusal, and shows none that a link names', async () => {
    for (const refused of ['constructor', '<b>Pay here</b>']) {
      await visit.page.goto(`${demo.baseUrl}/?${new URLSearchParams({ refused }).toString()}`);
      await visit.page.locator('#alert:not(:empty)').waitFor();
      expect(await alert()).toBe(
        'The account was not linked, because something failed that the log describes. Begin again.',
      );
    }
    expect(visit.faults).toEqual([]);
  });

  it('asks the user to sign in again when the session is over', async () => {
    await visit.link(connect(), `${user}-at-demo`);
    await forgetSession();
    await visit.card('').getByRole('button', { name: 'Call 50 times at once' }).click();
    await visit.page.getByRole('heading', { name: 'Sign in' }).waitFor();
    expect(await alert()).toBe('Your session is over. Sign in again.');
    await visit.signIn(user);
    expect(await visit.card('').locator('.facts').innerText()).toContain(`${user}-at-demo`);
  });

  it('asks the user to sign in again when the session ends while the user is at the provider', async () => {
    await visit.leaveFor(connect());
    await visit.logIn(`${user}-at-demo`);
    await forgetSession();
    await visit.page.getByRole('button', { name: 'Continue' }).click();
    await visit.back();
    expect(await alert()).toBe('Your session is over. Sign in again, and connect the account again.');
    await visit.signIn(user);
    await visit.link(connect(), `${user}-at-demo`);
  });

  it('shows the name of an account as a text, whatever it contains', async () => {
    const name = '<img src=x onerror=alert(1)>';
    await visit.link(connect(), `${user}-at-demo`);
    await visit.page.getByLabel('Its name in this application').fill(name);
    await visit.link(visit.page.getByRole('button', { name: 'Connect a second account' }), name);
    expect(await visit.page.getByRole('heading', { level: 3 }).allInnerTexts()).toContain(`Account “${name}”`);
    expect(await visit.page.locator('img').count()).toBe(0);
    expect(visit.faults).toEqual([]);
  });

  it('lets no script make elements out of a text, and no script of another place run', async () => {
    const outcome = await visit.page.evaluate(`(() => {
      try { document.body.innerHTML = '<b>text</b>'; return 'changed'; } catch (error) { return error.name; }
    })()`);
    expect(outcome).toBe('TypeError');
    await visit.page
      .evaluate(
        `(() => {
      const link = document.createElement('a');
      link.setAttribute('onclick', 'document.title = "changed"');
      document.body.append(link);
      link.click();
    })()`,
      )
      .catch(() => undefined); // newer browsers refuse the attribute itself
    expect(await visit.page.title()).toBe('nestjs-idp-tokens: the demo');
  });

  it('cannot be used by a page of another port, to which the browser gives the cookie too', async () => {
    await atAnotherPort('<p>A page.', async () => {
      const answered = visit.page.waitForResponse(`${demo.baseUrl}/connections/demo`);
      await visit.page.evaluate(
        `fetch('${demo.baseUrl}/connections/demo', { method: 'POST', mode: 'no-cors', credentials: 'include' })`,
      );
      const response = await answered;
      expect((await response.request().allHeaders()).cookie).toMatch(/^session=/);
      expect(response.status()).toBe(403);
    });
    await expect(demo.app.get(AccountLinks).list(user)).resolves.toEqual([]);
  });

  it('is shown in no frame of another page', async () => {
    const heading = () => visit.page.frameLocator('iframe').getByRole('heading', { name: 'nestjs-idp-tokens' });
    await atAnotherPort(`<iframe src="${demo.baseUrl}"></iframe>`, async () => {
      expect(await heading().count()).toBe(0);
    });
  });

  /** Opens a page at another port of the same host, and does the work there. */
  async function atAnotherPort(html: string, work: () => Promise<void>): Promise<void> {
    const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    try {
      await visit.page.goto(`http://localhost:${(server.address() as AddressInfo).port}`);
      await work();
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }
});

describe('When the application has been stopped, the page', () => {
  it('says so in a clear line, and throws nothing', async () => {
    const stopped = await startDemoForTest();
    const visit = await Visit.open(browser, stopped.baseUrl, USUAL);
    await visit.signIn('carol');
    await stopped.stop();
    await visit.page.getByRole('button', { name: 'Connect the demo account' }).click();
    const line = 'The application does not answer. Start it again by npm start, and try again.';
    await visit.page.getByRole('alert').getByText(line).waitFor();
    expect(visit.faults.filter((fault) => !fault.includes('net::ERR_CONNECTION_REFUSED'))).toEqual([]);
    await visit.close();
  }, 120_000);
});
