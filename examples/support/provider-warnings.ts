/**
 * Keeps two warnings of `oidc-provider` off the terminal: import it before the package. Whatever configuration can
 * answer is configured; these two nobody can: that its login and consent pages are for development, which is what they
 * are used for, and that it wants a newer Node than this project asks of anybody.
 */
const EXPECTED = ['oidc-provider WARNING: Unsupported runtime', 'development-only feature devInteractions is enabled'];

const warn = console.warn.bind(console);

console.warn = (...values: unknown[]) => {
  const [text] = values;
  if (typeof text === 'string' && EXPECTED.some((expected) => text.includes(expected))) return;
  warn(...values);
};
