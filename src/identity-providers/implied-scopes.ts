import { ValidateBy } from 'class-validator';

import { isPlainObject } from '../options-validation.js';
import type { ImpliedScopes } from '../scopes.js';

/** Rule of an option: an object that has a list of scopes for each scope. */
export function IsImpliedScopes(): PropertyDecorator {
  return ValidateBy({
    name: 'impliedScopes',
    validator: {
      validate: areImpliedScopes,
      defaultMessage: () => "$property must have a list of scopes for each scope, such as { repo: ['public_repo'] }",
    },
  });
}

/** Returns whether a value has a list of scopes for each scope. */
export function areImpliedScopes(value: unknown): value is ImpliedScopes {
  return isPlainObject(value) && Object.values(value).every(isListOfScopes);
}

/** Returns what both tables say about each scope. */
export function mergedImpliedScopes(known: ImpliedScopes = {}, own: ImpliedScopes = {}): ImpliedScopes {
  const scopes = new Set([...Object.keys(known), ...Object.keys(own)]);
  return Object.fromEntries([...scopes].map((scope) => [scope, [...(known[scope] ?? []), ...(own[scope] ?? [])]]));
}

function isListOfScopes(value: unknown): boolean {
  return Array.isArray(value) && value.every((scope) => typeof scope === 'string' && /^[^\s,]+$/.test(scope));
}
