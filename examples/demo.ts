import { once } from 'node:events';

import type { CommandLine } from './command-line.js';
import { RunningParts } from './running-parts.js';
import { ACCESS_TOKEN_TTL_SECONDS, startDemo } from './start.js';
import { takeKeycloakTour } from './tour/keycloak-tour.js';
import { StepList } from './tour/step-list.js';
import { takeTour } from './tour/tour.js';

/**
 * Starts everything and takes the tour. It keeps running if it is not meant to run once. Resolves when everything is
 * stopped, after the tour or after SIGINT or SIGTERM.
 *
 * @throws {@link TourFailure} and every error of the start, after everything is stopped
 */
export async function runDemo({ isOnce, withKeycloak, port }: CommandLine): Promise<void> {
  const interruption = new AbortController();
  const { signal } = interruption;
  for (const name of ['SIGINT', 'SIGTERM']) {
    // Not `once`, because npm passes on the SIGINT that this process has already got from the terminal.
    process.on(name, () => {
      interruption.abort();
    });
  }
  const parts = new RunningParts();
  const steps = new StepList(signal);
  try {
    const demo = await startDemo(port, parts, steps, withKeycloak);
    await (withKeycloak ? takeKeycloakTour(demo, steps, signal) : takeTour(demo, steps, signal));
    if (!isOnce) {
      console.log(invitation(demo.baseUrl, withKeycloak));
      if (!signal.aborted) await once(signal, 'abort');
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await parts.stop();
  }
  console.log('Stopped.');
}

function invitation(baseUrl: string, withKeycloak: boolean): string {
  const keycloak = `

  GET /keycloak/login   open the URL in a new tab, log in under any name, and use the access token for GET /keycloak/me`;
  return `
The application is up. Open ${baseUrl} in a browser.
An access token expires after ${ACCESS_TOKEN_TTL_SECONDS} s, so a later call refreshes it. All routes: ${baseUrl}/docs${withKeycloak ? keycloak : ''}

Ctrl-C stops everything.`;
}
