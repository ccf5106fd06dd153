import { describeTokenManager } from './support/describe-token-manager.js';
import { startFakeManager, startRealManager } from './support/manager-under-test.js';

describeTokenManager('TokensModule', startRealManager);
describeTokenManager('TokensTestingModule', startFakeManager);
