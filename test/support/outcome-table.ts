/** The outcomes of one fault test, in token pairs. */
export interface Outcomes {
  /** Pairs in the test. */
  tried: number;
  /** Pairs whose users got a working token without a new login. */
  recovered: number;
  /** Pairs that ended in ReauthenticationRequiredError. Their users must connect the account again. */
  reauthentication: number;
  /** All other pairs. The row is missing, or it is active and its token does not work. Must be 0. */
  lost: number;
}

/** Collects the outcomes of a suite and prints them as a Markdown table. */
export class OutcomeTable {
  readonly #rows: [fault: string, outcomes: Outcomes][] = [];

  add(fault: string, outcomes: Outcomes): void {
    this.#rows.push([fault, outcomes]);
  }

  print(): void {
    const lines = this.#rows.map(
      ([fault, { tried, recovered, reauthentication, lost }]) =>
        `| ${fault} | ${tried} | ${recovered} | ${reauthentication} | ${lost} |`,
    );
    const head = '| fault | tried | recovered | re-authentication | lost |\n| --- | --- | --- | --- | --- |';
    process.stdout.write(`\n${head}\n${lines.join('\n')}\n\n`);
  }
}
