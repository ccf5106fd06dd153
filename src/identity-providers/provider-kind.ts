import { nonEmptyText } from '../oauth-http/answer-fields.js';
import { faultsOf, instantiate } from '../options-validation.js';
import type { IdentityProvider } from './identity-provider.js';
import type { ProviderSettings } from './provider.options.js';
import { completePolicy, policyFault, type RefreshPolicy, RefreshPolicySettings } from './refresh-policy.js';

/** A provider made from an options entry, or everything that is wrong with the entry. */
export type ProviderReading = { readonly provider: IdentityProvider } | { readonly faults: string[] };

/** One kind of provider: reads an options entry, which stands at `path` in the options of the module. */
export type ProviderKind = (entry: unknown, path: string) => ProviderReading;

/** Defines a kind of provider by the class with the rules of its options and a function that makes it from them. */
export function providerKind<Options extends ProviderSettings>(
  optionsClass: new () => Options,
  create: (options: Options) => IdentityProvider,
): ProviderKind {
  return (entry, path) => {
    const options = instantiate(optionsClass, entry);
    const policy = instantiate(RefreshPolicySettings, options.policy);
    const policyFaults = faultsOf(policy, `${path}.policy`);
    const faults = [...faultsOf(options, path), ...policyFaults];
    if (faults.length === 0) return checkedProvider(create(options), path);
    // The figures of the policy are checked together as well, though there is no provider yet.
    if (policyFaults.length > 0) return { faults };
    return { faults: [...faults, ...faultsTogether(completePolicy(policy), path)] };
  };
}

/**
 * Checks what the options rules cannot see: how the completed policy's figures fit together, and of a provider of the host
 * what the module takes from it beside its answers.
 */
export function checkedProvider(provider: IdentityProvider, path: string): ProviderReading {
  const faults = [...memberFaults(provider, path), ...faultsTogether(provider.policy, path)];
  return faults.length > 0 ? { faults } : { provider };
}

function memberFaults(
  { clientId, isAccessTokenAlive }: Partial<Record<keyof IdentityProvider, unknown>>,
  path: string,
): string[] {
  const faults: string[] = [];
  if (clientId !== undefined && !nonEmptyText(clientId)) {
    faults.push(`${path}.clientId must be a non-empty string, or be left out`);
  }
  if (isAccessTokenAlive !== undefined && typeof isAccessTokenAlive !== 'function') {
    faults.push(`${path}.isAccessTokenAlive must be a function, or be left out`);
  }
  return faults;
}

function faultsTogether(policy: RefreshPolicy, path: string): string[] {
  const fault = policyFault(policy);
  return fault ? [`${path}.policy: ${fault}`] : [];
}
