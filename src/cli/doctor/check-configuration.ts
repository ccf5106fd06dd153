import type { DoctorContext } from './doctor-context.js';
import { type Finding, findingsOf } from './finding.js';

const { ok, warning } = findingsOf('configuration');

/** Does the doctor know the options of the application? It names the checks that it leaves out. */
export function checkConfiguration({ knows }: DoctorContext): Promise<Finding[]> {
  if (knows.options) return Promise.resolve([ok('The options of the module and of the data source are known.')]);
  const leftOut = ['the pool', 'the connection timeout', 'the providers', 'Keycloak'];
  if (!knows.keys) leftOut.unshift('the keys', 'the sample of texts');
  return Promise.resolve([
    warning(
      `Without a configuration file the doctor cannot check ${leftOut.join(', ')}.`,
      'Name a file by --config that exports defineTokensConfig({ dataSource, tokens }).',
    ),
  ]);
}
