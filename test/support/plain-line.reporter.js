/** Ends the output, after Jest's own summary, with one plain line that a machine can read. */
export default class PlainLineReporter {
  onRunComplete(_contexts, { numPassedTests, numFailedTests, numRuntimeErrorTestSuites }) {
    // A suite that could not even load has failed, though none of its tests ran.
    const line = `${numPassedTests} passed, ${numFailedTests + numRuntimeErrorTestSuites} failed`;
    process.once('exit', () => console.log(line));
  }
}
