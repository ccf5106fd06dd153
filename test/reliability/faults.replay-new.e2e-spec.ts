import { describe } from '@jest/globals';

import { describeFaults } from './faults.js';

describe('with a provider in mode replay-new,', () => {
  describeFaults('replay-new');
});
