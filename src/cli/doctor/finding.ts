/** How bad a finding is. Only a fault needs an action of the operator. */
export type FindingLevel = 'ok' | 'warning' | 'fault';

/** What a check found. Neither text has a secret. */
export interface Finding {
  /** The name of the check, with the name of the provider where each provider has one. */
  readonly check: string;
  readonly level: FindingLevel;
  /** What the check saw, in one sentence or more. */
  readonly message: string;
  /** What to do. A finding that is ok has none. */
  readonly remedy?: string;
}

/** Makes the findings of one check. */
export interface Findings {
  readonly ok: (message: string) => Finding;
  readonly warning: (message: string, remedy: string) => Finding;
  readonly fault: (message: string, remedy: string) => Finding;
}

/** Returns what makes the findings of a check. */
export function findingsOf(check: string): Findings {
  return {
    ok: (message) => ({ check, level: 'ok', message }),
    warning: (message, remedy) => ({ check, level: 'warning', message, remedy }),
    fault: (message, remedy) => ({ check, level: 'fault', message, remedy }),
  };
}
