import { parseArgs } from 'node:util';

export const USAGE = `
Usage: npm start [-- --once] [--keycloak]

Starts PostgreSQL, an OAuth server and a NestJS application on this machine, shows on
them what nestjs-idp-tokens does, and stays up until Ctrl-C.

  --once      stop after the tour
  --keycloak  take the tour with users of a real Keycloak, which Maven fetches
              once (180 MB); needs Java 17 or newer
  --help      print this

Environment
  PORT         port of the application; default 3000, with --once any free one
  TOKENS_KEY   key that seals the tokens, 32 bytes in base64; default: a random one
  KEYCLOAK_HOME   an unpacked Keycloak, instead of the one that Maven fetches
`.trim();

/** The options of the demo on the command line. */
export interface CommandLine {
  readonly isHelp: boolean;
  readonly isOnce: boolean;
  readonly withKeycloak: boolean;
  /** Port of the application; 0 = any free one. */
  readonly port: number;
}

/** The command line has an option or a value that the demo does not know. */
export class UsageError extends Error {}

/**
 * Reads the options of the demo from the command line and the environment.
 *
 * @throws {@link UsageError}
 */
export function readCommandLine(args: string[], env: NodeJS.ProcessEnv): CommandLine {
  const { help, once, keycloak } = readFlags(args);
  return { isHelp: help, isOnce: once, withKeycloak: keycloak, port: readPort(env.PORT) ?? (once ? 0 : 3000) };
}

function readFlags(args: string[]): { help: boolean; once: boolean; keycloak: boolean } {
  try {
    const { values } = parseArgs({
      args,
      options: {
        help: { type: 'boolean', short: 'h', default: false },
        once: { type: 'boolean', default: false },
        keycloak: { type: 'boolean', default: false },
      },
    });
    return values;
  } catch (error) {
    const fault = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${fault}\n\n${USAGE}`);
  }
}

function readPort(text: string | undefined): number | undefined {
  if (!text) return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`PORT must be a number from 0 to 65535, not "${text}".`);
}
