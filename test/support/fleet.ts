import { startTokensWorker, type TokensWorker, type WorkerServices, type WorkerSettings } from './tokens-worker.js';

interface Member {
  worker: TokensWorker;
  isServing: boolean;
  readonly underWay: Set<Promise<unknown>>;
}

/** Several processes of one application, behind what a load balancer does: it gives them the calls in turn. */
export class Fleet {
  #turn = 0;

  private constructor(private readonly members: readonly Member[]) {}

  static async start(count: number, settings: WorkerSettings): Promise<Fleet> {
    const workers = await Promise.all(Array.from({ length: count }, () => startTokensWorker(settings)));
    return new Fleet(workers.map((worker) => ({ worker, isServing: true, underWay: new Set() })));
  }

  /** Calls a method in the next process that serves calls. */
  request<Service extends keyof WorkerServices>(
    service: Service,
    method: keyof WorkerServices[Service] & string,
    ...args: unknown[]
  ): Promise<unknown> {
    const serving = this.members.filter(({ isServing }) => isServing);
    const member = serving[this.#turn++ % serving.length];
    if (!member) throw new Error('No process serves calls.');
    const answer = member.worker.request(service, method, ...args);
    const settled = answer.then(
      () => undefined,
      () => undefined,
    );
    member.underWay.add(settled);
    void settled.finally(() => member.underWay.delete(settled));
    return answer;
  }

  /** Returns one process, whether or not it serves calls. */
  at(position: number): TokensWorker {
    return this.#member(position).worker;
  }

  /**
   * Gives a process other settings, as a rolling deployment does: new calls go to the other processes, the calls under
   * way get their answers, the application closes, and its successor gets calls when it has booted.
   */
  async restart(position: number, settings: WorkerSettings): Promise<void> {
    const member = this.#member(position);
    member.isServing = false;
    await Promise.all(member.underWay);
    await member.worker.close();
    member.worker = await startTokensWorker(settings);
    member.isServing = true;
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map(({ worker }) => worker.close()));
  }

  #member(position: number): Member {
    const member = this.members[position];
    if (!member) throw new Error(`There is no process ${position}.`);
    return member;
  }
}
