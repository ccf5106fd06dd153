import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A script that runs in a process of its own and has sent its first message. */
export interface RunningScript<Ready> {
  readonly child: ChildProcess;
  /** The message that the script sent when it was ready. */
  readonly ready: Ready;
  /** Ends the script and settles when its process is gone. */
  stop(): Promise<void>;
}

/**
 * Starts a script in a process of its own, outside of the terminal's group, and waits for its first message. The
 * message is the data of a script that is ready, or `{ error }`. The script ends when this process ends.
 *
 * @param script URL of the script without its extension, which is .js after compilation and .ts under a TypeScript
 * loader
 */
export async function startScript<Ready>(script: URL, args: string[] = []): Promise<RunningScript<Ready>> {
  const compiled = `${fileURLToPath(script)}.js`;
  const [path, execArgv] = existsSync(compiled) ? [compiled, []] : [`${fileURLToPath(script)}.ts`, ['--import', 'tsx']];
  const child = fork(path, args, { execArgv, detached: true, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const ready = await firstMessage<Ready>(child);
  return {
    child,
    ready,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      if (child.connected) child.disconnect();
      await exit;
    },
  };
}

async function firstMessage<Ready>(child: ChildProcess): Promise<Ready> {
  const message = await new Promise<unknown>((resolve, reject) => {
    child.once('message', resolve);
    child.once('error', reject);
    child.once('exit', (code) => {
      reject(new Error(`${child.spawnfile} ${child.spawnargs.slice(1).join(' ')} exited with ${String(code)}`));
    });
  });
  if (typeof message === 'object' && message !== null && 'error' in message) throw new Error(String(message.error));
  return message as Ready;
}
