import type { Browser, BrowserContext, Locator, Page, Request } from 'playwright-core';

import { CONTRAST_FAULTS, HAS_MOTION, OVERFLOW, WHAT_HAS_FOCUS } from './in-page.js';

/** How a browser shows pages. */
export interface Look {
  readonly theme: 'light' | 'dark';
  /** In CSS pixels. */
  readonly width: number;
  /** Default: the user has asked for none. */
  readonly reducedMotion?: 'reduce';
}

const MOST_STOPS = 60;

/** A window of a browser with cookies of its own, and everything that went wrong in it. */
export class Visit {
  /** Errors of the page's script and on its console, violations of its policy, and requests to third parties. */
  readonly faults: string[] = [];

  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    private readonly baseUrl: string,
  ) {}

  /** Opens a window at the demo. The pages of the provider are not the demo's, so what goes wrong on them counts not. */
  static async open(browser: Browser, baseUrl: string, { theme, width, reducedMotion }: Look): Promise<Visit> {
    const viewport = { width, height: width < 600 ? 740 : 900 };
    const context = await browser.newContext({ viewport, colorScheme: theme, reducedMotion, locale: 'en-GB' });
    const visit = new Visit(context, await context.newPage(), baseUrl);
    await visit.#watch();
    await visit.page.goto(baseUrl);
    return visit;
  }

  async #watch(): Promise<void> {
    // The pages of the provider ask a third party for a font. No machine needs that.
    await this.context.route(
      ({ hostname }) => !['localhost', '127.0.0.1'].includes(hostname),
      (route, request) => {
        if (this.#isOfDemo(request)) this.faults.push(`third party: ${request.url()}`);
        return route.abort();
      },
    );
    this.page.on('pageerror', (error) => this.faults.push(`error: ${error.message}`));
    this.page.on('console', (message) => {
      const { url } = message.location();
      const isBad = message.type() === 'error' || message.type() === 'warning';
      if (isBad && (url === '' || url.startsWith(this.baseUrl))) this.faults.push(`console: ${message.text()} ${url}`);
    });
  }

  #isOfDemo(request: Request): boolean {
    return !request.isNavigationRequest() && request.frame().url().startsWith(this.baseUrl);
  }

  /** What a user of the demo's page would complain about in the present state. */
  async complaints(): Promise<string[]> {
    const { page } = this;
    const overflow = await page.evaluate<string[]>(OVERFLOW);
    return [...overflow, ...(await page.evaluate<string[]>(CONTRAST_FAULTS))];
  }

  async hasMotion(): Promise<boolean> {
    return this.page.evaluate<boolean>(HAS_MOTION);
  }

  card(account: string): Locator {
    return this.page.getByRole('article', { name: account === '' ? 'Default account' : `Account “${account}”` });
  }

  /** Signs a user in by the form. */
  async signIn(userId: string): Promise<void> {
    await this.page.getByLabel('Your name in this application').fill(userId);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.getByRole('heading', { name: 'Connected accounts' }).waitFor();
  }

  /** Presses a button that leads to the provider, logs in and agrees there, and waits until the browser is back. */
  async link(button: Locator, login: string): Promise<void> {
    await this.leaveFor(button);
    await this.logIn(login);
    await this.page.getByRole('button', { name: 'Continue' }).click();
    await this.back();
  }

  /** Presses a button that leads to the login page of the provider. */
  async leaveFor(button: Locator): Promise<void> {
    await button.click();
    await this.page.getByPlaceholder('Enter any login').waitFor();
  }

  async logIn(login: string): Promise<void> {
    await this.page.getByPlaceholder('Enter any login').fill(login);
    await this.page.getByPlaceholder('and password').fill('any password');
    await this.page.getByRole('button', { name: 'Sign-in' }).click();
    await this.page.getByRole('button', { name: 'Continue' }).waitFor();
  }

  /** Waits until the demo's page is here again, and has said why. */
  async back(): Promise<void> {
    await this.page.waitForURL(`${this.baseUrl}/`);
    await this.page.locator('#messages p:not(:empty)').waitFor();
  }

  /** Presses the Tab key until the control with this name has the focus, which must be visible. */
  async tabTo(name: string): Promise<void> {
    for (let stop = 0; stop < MOST_STOPS; stop++) {
      await this.page.keyboard.press('Tab');
      const focus = await this.page.evaluate<{ name: string; isVisible: boolean }>(WHAT_HAS_FOCUS);
      if (focus.name !== name) continue;
      if (focus.isVisible) return;
      throw new Error(`The focus on "${name}" is not visible.`);
    }
    throw new Error(`The Tab key does not reach "${name}".`);
  }

  async close(): Promise<void> {
    await this.context.close();
  }
}
