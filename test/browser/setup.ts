import { findChromium } from './chromium.js';

/** Skips the suite without a browser. The script before has said why there is none. */
export default function setUp(): void {
  if (!findChromium()) process.exit(0);
}
