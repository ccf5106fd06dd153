import { describe } from '@jest/globals';

import { describeFaults } from './faults.js';

describe('with a provider in mode single-use,', () => {
  describeFaults('single-use');
});
