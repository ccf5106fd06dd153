import '../process-copies.js';

export { TokensHealthIndicator, type TokensHealthOptions } from './tokens-health.indicator.js';
