import { type ValidationError, validateSync } from 'class-validator';

/** The options that a class holds the rules of, as a plain object. */
export type OptionsOf<Rules> = { [Field in keyof Rules]: Rules[Field] };

/**
 * Fills an instance of an options class from a plain object, so that the class's rules and defaults apply. Fields that
 * are `undefined` or `null` keep their default. Nothing is converted, cloned or called: options may hold functions and
 * objects.
 */
export function instantiate<T extends object>(optionsClass: new () => T, plain: unknown): T {
  const given = typeof plain === 'object' && plain !== null ? Object.entries(plain) : [];
  return Object.assign(
    new optionsClass(),
    Object.fromEntries(given.filter(([, value]) => value !== undefined && value !== null)),
  );
}

/**
 * Everything that is wrong with an options object, one sentence a fault, each beginning with the path of the option.
 * The sentences never repeat a value: it may be a secret.
 */
export function faultsOf(options: object, path: string): string[] {
  const errors = validateSync(options, {
    whitelist: true,
    forbidNonWhitelisted: true,
    validationError: { target: false, value: false },
  });
  return errors.flatMap((error) => sentences(error, path));
}

function sentences({ property, constraints = {}, children = [] }: ValidationError, path: string): string[] {
  const prefix = path && `${path}.`;
  const own = Object.entries(constraints).map(([rule, message]) =>
    rule === 'whitelistValidation' ? `${prefix}${property} is not an option` : `${prefix}${message}`,
  );
  return [...own, ...children.flatMap((child) => sentences(child, `${prefix}${property}`))];
}
