import { nonEmptyText } from '../oauth-http/answer-fields.js';
import { faultsOf, instantiate } from '../options-validation.js';
import { clientAssertionFaults } from './client-authentication.js';
import { codeFlowFaults } from './code-flow.options.js';
import type { IdentityProvider } from './identity-provider.js';
import { areImpliedScopes } from './implied-scopes.js';
import type { ProviderSettings } from './provider.options.js';
import { completePolicy, policyFault, type RefreshPolicy, RefreshPolicySettings } from './refresh-policy.js';

/** A provider that was made from an options entry, or every fault of the entry. */
export type ProviderReading = { readonly provider: IdentityProvider } | { readonly faults: string[] };

/** Reads an options entry of one kind of provider. `path` is the path of the entry in the options of the module. */
export type ProviderKind = (entry: unknown, path: string) => ProviderReading;

/**
 * Defines a kind of provider by the class with the rules of its options and a function that makes a provider of them.
 *
 * @param faultsTogetherOf returns what the rules of the single options of this kind cannot check
 */
export function providerKind<Options extends ProviderSettings>(
  optionsClass: new () => Options,
  create: (options: Options) => IdentityProvider,
  faultsTogetherOf: (options: Options) => string[] = () => [],
): ProviderKind {
  return (entry, path) => {
    const options = instantiate(optionsClass, entry);
    const policy = instantiate(RefreshPolicySettings, options.policy);
    const policyFaults = faultsOf(policy, `${path}.policy`);
    const others = [...clientAssertionFaults(options), ...codeFlowFaults(options), ...faultsTogetherOf(options)];
    const faults = [...faultsOf(options, path), ...others.map((fault) => `${path}.${fault}`), ...policyFaults];
    if (faults.length === 0) return checkedProvider(create(options), path);
    // There is no provider, because the options have faults. The faults of the whole policy are reported with them.
    if (policyFaults.length > 0) return { faults };
    return { faults: [...faults, ...faultsTogether(completePolicy(policy), path)] };
  };
}

/**
 * Checks what the rules of the options cannot check: whether the figures of the completed policy fit together, and
 * whether the other members of a provider of the host have the right type.
 */
export function checkedProvider(provider: IdentityProvider, path: string): ProviderReading {
  const faults = [...memberFaults(provider, path), ...faultsTogether(provider.policy, path)];
  return faults.length > 0 ? { faults } : { provider };
}

function memberFaults(
  {
    clientId,
    isAccessTokenAlive,
    assumedLifetimeSeconds,
    impliedScopes,
  }: Partial<Record<keyof IdentityProvider, unknown>>,
  path: string,
): string[] {
  const faults: string[] = [];
  if (clientId !== undefined && !nonEmptyText(clientId)) {
    faults.push(`${path}.clientId must be a non-empty string, or be left out`);
  }
  if (isAccessTokenAlive !== undefined && typeof isAccessTokenAlive !== 'function') {
    faults.push(`${path}.isAccessTokenAlive must be a function, or be left out`);
  }
  if (
    assumedLifetimeSeconds !== undefined &&
    !(Number.isFinite(assumedLifetimeSeconds) && Number(assumedLifetimeSeconds) >= 1)
  ) {
    faults.push(`${path}.assumedLifetimeSeconds must be a number of seconds from 1 on, or be left out`);
  }
  if (impliedScopes !== undefined && !areImpliedScopes(impliedScopes)) {
    faults.push(`${path}.impliedScopes must have a list of scopes for each scope, or be left out`);
  }
  return faults;
}

function faultsTogether(policy: RefreshPolicy, path: string): string[] {
  const fault = policyFault(policy);
  return fault ? [`${path}.policy: ${fault}`] : [];
}
