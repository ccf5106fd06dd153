import { ValidateBy, type ValidationError, validateSync } from 'class-validator';

/** The options whose rules a class has, as a plain object. An option that may be absent may be `undefined`. */
export type OptionsOf<Rules> = {
  [Field in keyof Rules]: Rules[Field] | (object extends Pick<Rules, Field> ? undefined : never);
};

/**
 * Returns an instance of an options class with the fields of a plain object, so that the rules and defaults of the
 * class apply. A field that is `undefined` or `null` keeps its default. The function converts, clones and calls
 * nothing, because options may contain functions and objects.
 */
export function instantiate<T extends object>(optionsClass: new () => T, plain: unknown): T {
  const options = new optionsClass();
  for (const [name, value] of typeof plain === 'object' && plain !== null ? Object.entries(plain) : []) {
    if (value === undefined || value === null) continue;
    // Defined, not assigned: an assignment to __proto__, which JSON.parse accepts as a name, would take the rules away.
    Object.defineProperty(options, name, { value, enumerable: true, writable: true, configurable: true });
  }
  return options;
}

/**
 * Returns everything that is wrong with an options object, one sentence for each fault. A sentence begins with the path
 * of the option. It never repeats a value, because the value may be a secret.
 */
export function faultsOf(options: object, path: string): string[] {
  const errors = validateSync(options, {
    whitelist: true,
    forbidNonWhitelisted: true,
    validationError: { target: false, value: false },
  });
  const faults = errors.flatMap((error) => sentences(error, path));
  // The validator finds this name in every object, so it takes it for a known one.
  return Object.hasOwn(options, '__proto__') ? [`${path && `${path}.`}__proto__ is not an option`, ...faults] : faults;
}

function sentences({ property, constraints = {}, children = [] }: ValidationError, path: string): string[] {
  const prefix = path && `${path}.`;
  const own = Object.entries(constraints).map(([rule, message]) =>
    rule === 'whitelistValidation' ? `${prefix}${property} is not an option` : `${prefix}${message}`,
  );
  return [...own, ...children.flatMap((child) => sentences(child, `${prefix}${property}`))];
}

/** Accepts a function. Refuses an `async` function if the module does not await its result. */
export function IsFunction({ isAsyncAllowed = true } = {}): PropertyDecorator {
  return ValidateBy({
    name: 'isFunction',
    validator: {
      validate: (value: unknown) =>
        typeof value === 'function' && (isAsyncAllowed || value.constructor.name !== 'AsyncFunction'),
      defaultMessage: () => `$property must be a function${isAsyncAllowed ? '' : ' that is not async'}`,
    },
  });
}

/** Accepts an object with entries of its own. Refuses a list, a Map and an instance of a class. */
export function IsPlainObject({ message }: { message: string }): PropertyDecorator {
  return ValidateBy({
    name: 'isPlainObject',
    validator: { validate: (value) => isPlainObject(value), defaultMessage: () => message },
  });
}

/** Tells whether a value is an object that is no list and no instance of a class. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
