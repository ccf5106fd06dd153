/**
 * Keeps two warnings of `oidc-provider` off the terminal. Import it before the package. No configuration can avoid
 * these two. The first says that the login and consent pages are for development, and the demo uses them for that. The
 * second says that the package wants a newer Node than this project requires.
 */
const EXPECTED = ['oidc-provider WARNING: Unsupported runtime', 'development-only feature devInteractions is enabled'];

const warn = console.warn.bind(console);

console.warn = (...values: unknown[]) => {
  const [text] = values;
  if (typeof text === 'string' && EXPECTED.some((expected) => text.includes(expected))) return;
  warn(...values);
};
