import { once } from 'node:events';

import { startScript } from './child-process.js';

/** A running PostgreSQL server. */
export interface PostgresServer {
  /** The URL of its maintenance database, with a superuser. */
  readonly url: string;
  /** Shuts the server down and keeps its data. {@link resume} starts it again. */
  halt(): Promise<void>;
  resume(): Promise<void>;
  /** Ends the server and deletes its data. */
  stop(): Promise<void>;
}

/**
 * Starts a PostgreSQL of its own, with server binaries from npm, a new data directory and a free port on the loopback
 * interface. The server and its data are deleted when it is stopped, or when this process ends in any way.
 *
 * @param settings further arguments of the server, such as `-c`, `max_connections=200`
 */
export async function startPostgres(settings: string[] = []): Promise<PostgresServer> {
  const script = await startScript<{ url: string }>(new URL('./embedded-postgres.process', import.meta.url), settings);
  const ask = async (request: 'halt' | 'resume') => {
    const answer = once(script.child, 'message');
    script.child.send(request);
    await answer;
  };
  return {
    url: script.ready.url,
    halt: () => ask('halt'),
    resume: () => ask('resume'),
    stop: () => script.stop(),
  };
}
