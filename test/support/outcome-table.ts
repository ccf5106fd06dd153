/** What became of the tokens of one fault test. */
export interface Outcomes {
  /** Token pairs that the fault hit. */
  tried: number;
  /** Pairs whose users got a working token again without doing anything. */
  recovered: number;
  /** Pairs that ended in ReauthenticationRequiredError: the user must connect the account again. */
  reauthentication: number;
  /** Pairs that are neither: a row gone, or one that claims to be active and cannot be used. Must be 0. */
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
